"""Events of a captured table become the changes of a dataset, in order, none of them twice.

1. A change that the journal has already (a connector that was killed tells a transaction again) is left out.
2. The others are sent in lots in which every key is there once.
3. A lot is flushed; then keys and position are written down together.

A kill between 2 and 3 sends the lot again with the same sequences and bytes, which admission drops. Were a key
twice in a lot, its first change would come again after its second, and be parked as stale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.events import ChangeEvent, deleted
from civicbus.names import source_of
from civicbus.producers.capture import metrics
from civicbus.producers.capture.events import (
    Columns,
    Complete,
    Emptied,
    Event,
    Gone,
    Origin,
    Seen,
    Unreadable,
    event_of,
)
from civicbus.producers.capture.journal import Journal, Kept, Standing
from civicbus.producers.capture.values import RowReader, texts_of
from civicbus.producers.changes import Change
from civicbus.producers.publisher import Publisher
from civicbus.producers.sources import sequence_of
from civicbus.reasons import Reason
from civicbus.schemas.datasets import Dataset
from civicbus.transport.assigned import Record

ATTEMPTS = 2**8
"""Snapshots in one epoch."""
_LSN_BITS = 48
_LOT = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be said of one key: its record, that it is gone, or why its row cannot be sent."""

    key: bytes
    columns: Columns
    record: Mapping[str, object] | None = None
    fault: Unacceptable | None = None


def sequence_at(generation: int, lsn: int) -> int:
    """The sequence of a log position: 8 bits of epoch, 8 of the snapshot's number in it, 48 of the log."""
    if lsn >= 1 << _LSN_BITS:
        raise ConfigurationError(f"a log position is below 2^{_LSN_BITS}", mend="dump and restore the database")
    epoch, attempt = divmod(generation, ATTEMPTS)
    return sequence_of(epoch, (attempt << _LSN_BITS) + lsn)


def first_generation(epoch: int) -> int:
    """The first snapshot of an epoch."""
    return epoch * ATTEMPTS


def has_next(generation: int) -> bool:
    """Whether another snapshot may follow in the same epoch."""
    return generation % ATTEMPTS < ATTEMPTS - 1


class Converter:
    """Converts the records of one dataset's capture topic, in their order."""

    def __init__(self, dataset: Dataset, journal: Journal, publisher: Publisher) -> None:
        self._dataset = dataset
        self._journal = journal
        self._publisher = publisher
        self._rows = RowReader(dataset)
        self._source = source_of(dataset.id.department)
        self._lot: dict[bytes, Kept] = {}
        # What the journal says of the keys of the records at hand.
        self._known: dict[bytes, Kept | None] = {}
        kinds = ("upsert", "deletion", "unsendable")
        self._counted = {kind: metrics.CHANGES.labels(str(dataset.id), kind) for kind in kinds}

    def convert(self, records: Sequence[Record]) -> None:
        """Publish what these records say; when it returns, the broker has it and the journal says so."""
        events = [(record.offset, event_of(record.value)) for record in records]
        told = [(offset, event, self._steps(event)) for offset, event in events if event is not None]
        self._known = self._journal.recall(step.key for _, _, steps in told for step in steps)
        now = self._journal.standing
        for offset, event, steps in told:
            now = self._take(event, steps, replace(now, position=offset))
        self._settle(replace(now, position=records[-1].offset + 1) if records else now)

    def _steps(self, event: Event) -> Sequence[Step]:
        """What a row's event says; what others say depends on what was said before."""
        match event:
            case Seen():
                return [*self._seen(event)]
            case Gone():
                return [*self._gone(event.before)]
        return ()

    def _take(self, event: Event, steps: Sequence[Step], now: Standing) -> Standing:
        """Make an event's changes; returns how the capture stands behind it."""
        match event:
            case Unreadable():
                metrics.UNREADABLE.labels(str(self._dataset.id)).inc()
                return now
            case Seen() | Gone():
                return self._make(steps, event.origin, now)
            case Emptied():
                return self._make(self._before(event.origin, now), event.origin, now)
            case Complete():
                done = self._make(self._before(event.origin, now), event.origin, now)
                return replace(done, complete=done.complete or event.origin.generation == done.generation)
        assert_never(event)

    def _seen(self, event: Seen) -> Iterator[Step]:
        """An upsert; before it a deletion, where the row had another key."""
        try:
            record = self._rows.record(event.after)
            key = self._dataset.key_of(record)
        except Unacceptable as fault:
            yield self._report(event.after, fault)
            return
        if event.before is not None:
            yield from (step for step in self._gone(event.before) if step.key != key)
        yield Step(key=key, columns=event.after, record=record)

    def _gone(self, before: Columns) -> Iterator[Step]:
        try:
            yield Step(key=self._dataset.key_of(self._rows.key(before)), columns=before)
        except Unacceptable as fault:
            yield self._report(before, fault)

    def _before(self, origin: Origin, now: Standing) -> Iterator[Step]:
        """Deletions of all that stands by changes before this place."""
        self._settle(now)
        return (Step(key=key, columns={}) for key in self._journal.standing_before(origin.generation, origin.lsn))

    def _report(self, columns: Columns, fault: Unacceptable) -> Step:
        """The report of a row; under its key where it has one, else under a digest."""
        try:
            key = self._dataset.key_of(self._rows.key(columns))
        except Unacceptable:
            key = b"\0" + hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).digest()
        return Step(key=key, columns=columns, fault=fault)

    def _make(self, steps: Iterable[Step], origin: Origin, now: Standing) -> Standing:
        """Send what is not published yet, numbered by its place among the changes from one log position."""
        place = now.place if (now.run, now.lsn) == (origin.run, origin.lsn) else 0
        for step in steps:
            if step.key in self._lot or len(self._lot) >= _LOT:
                self._settle(now)
            kept = self._known[step.key] if step.key in self._known else self._journal.kept(step.key)
            if kept is None or (kept.generation, kept.lsn) < (origin.generation, origin.lsn):
                stands = self._send(step, origin, place, stood=kept is not None and kept.stands)
                self._lot[step.key] = Kept(step.key, origin.generation, origin.lsn, stands)
            place += 1
        return replace(now, run=origin.run, lsn=origin.lsn, place=place)

    def _send(self, step: Step, origin: Origin, place: int, *, stood: bool) -> bool:
        """Send one change; returns whether its record stands afterwards."""
        sequence = sequence_at(origin.generation, origin.lsn)
        event_id = f"{self._dataset.id.name}-{origin.generation:x}-{origin.lsn:x}-{place}"
        fault = step.fault
        if step.record is not None:
            try:
                self._publisher.upsert(step.record, sequence=sequence, event_id=event_id, time=origin.at)
            except Unacceptable as found:
                fault = found
        if fault is not None:
            self._count("unsendable")
            texts = texts_of(step.columns)
            self._publisher.report_unsendable(texts, _told(fault.reason), fault.field, event_id=event_id)
            return stood
        if step.record is None:
            self._publisher.send(self._deletion(step.key, event_id, sequence, origin))
        self._count("deletion" if step.record is None else "upsert")
        return step.record is not None

    def _deletion(self, key: bytes, event_id: str, sequence: int, origin: Origin) -> Change:
        event = ChangeEvent(
            id=event_id, source=self._source, type=deleted(self._dataset.id), time=origin.at, sequence=sequence
        )
        return Change(event=event, key=key, value=None)

    def _settle(self, now: Standing) -> None:
        """Have the broker acknowledge the lot, then write it down."""
        if self._lot:
            self._publisher.flush()
        if self._lot or now != self._journal.standing:
            self._journal.settle(now, self._lot.values())
        self._known |= self._lot
        self._lot.clear()

    def _count(self, kind: str) -> None:
        self._counted[kind].inc()


def _told(reason: Reason) -> Reason:
    """Admission knows rows that cannot be sent by these reasons; bytes that do not fit are an unreadable row."""
    return Reason.UNREADABLE_ROW if reason is Reason.BYTES else reason
