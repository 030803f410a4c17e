"""Publishes a table as the changes since it was last published, however often it is killed on the way.

The steps of a run, the journal between them (``journal``): see that the journal tells of this topic; send again
what an earlier run left; compare the table with the published state; write every change down; send; settle what
the broker has acknowledged.
Promise: when a run has finished, the latest changes on the topic give the table, and no sequence of a record
was ever sent with two different values.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Protocol

import polars as pl

from civicbus.errors import ConfigurationError
from civicbus.events import ChangeEvent, deleted, upserted
from civicbus.names import source_of
from civicbus.producers.changes import Change, Refusal, event_ids, next_sequence, report_of
from civicbus.producers.difference import HASH, KEY, Difference, difference
from civicbus.producers.journal import Journal, Planned
from civicbus.producers.judging import Judged, Unsendable, as_texts, judge
from civicbus.producers.table import ROW, Table, from_frame, read_csv
from civicbus.reasons import Reason
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import header
from civicbus.schemas.datasets import Dataset, SequenceRule

BLOCK_CHANGES = 5_000


class Outlet(Protocol):
    """What takes the changes: the dataset's Publisher."""

    def topic_id(self) -> str: ...

    def sequence_now(self) -> int: ...

    def send(self, change: Change) -> object: ...

    def flush(self) -> None:
        """Return when all that was sent is acknowledged; raise otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: changes acknowledged, of all that it has to send."""

    acknowledged: int
    changes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that could not be sent, reported to the dataset's quarantine."""

    row: int
    reason: Reason
    field: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run did. Rows are numbered as a spreadsheet counts them: the header is row 1.

    ``repeated`` has, for each record that the table names more than once, its rows; the last was used.
    ``resent`` are changes that an earlier run had left; ``waiting`` those that this run leaves to the next.
    ``anew``: the topic is not the one that the journal told of, so every row was sent to it.
    ``sent_rows`` are the rows behind ``upserts``, ``deleted`` the keys behind ``deletions``. ``withheld`` records are
    lacking in the table and not deleted, because ``untold`` rows hold something and do not say of which record.
    """

    rows: int = 0
    upserts: int = 0
    deletions: int = 0
    unchanged: int = 0
    refused_rows: tuple[RefusedRow, ...] = ()
    repeated: tuple[tuple[int, ...], ...] = ()
    unknown_columns: tuple[str, ...] = ()
    resent: int = 0
    waiting: int = 0
    anew: bool = False
    sent_rows: tuple[range, ...] = ()
    deleted: tuple[bytes, ...] = ()
    withheld: int = 0
    untold: int = 0

    @property
    def refused(self) -> Counter[Reason]:
        """How many rows were refused for each reason."""
        return Counter(row.reason for row in self.refused_rows)


class TableSource:
    """One dataset, its journal, and where its changes go."""

    def __init__(
        self,
        dataset: Dataset,
        schema_id: int,
        journal: Journal,
        outlet: Outlet,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """``progress`` hears of every block of changes; once ``stop`` says so, the run ends at the next of them."""
        self._dataset = dataset
        self._codec = ColumnCodec(dataset.schema)
        self._frame = header(schema_id)
        self._journal = journal
        self._outlet = outlet
        self._progress = progress
        self._stop = stop

    def publish_csv(self, path: Path, *, full: bool = True) -> Outcome:
        """Publish a CSV file; ``full``: it holds every record, so that the ones it lacks are gone.

        Raises ConfigurationError or CheckFailed, and publishes nothing of the file, where it cannot be trusted.
        """
        table = read_csv(path, self._dataset)
        named = pl.all_horizontal(pl.col(name).is_not_null() for name in self._dataset.key)
        if full and table.frame.filter(named).is_empty():
            raise ConfigurationError(
                f"{path} has no rows that name a record; publishing it in full would delete every record",
                mend="export it again, or publish it with --incremental",
            )
        return self.publish_table(table, full=full)

    def publish(self, frame: pl.DataFrame, *, full: bool = True) -> Outcome:
        """Publish a frame, its columns named as a file's; ``full`` as for a file."""
        return self.publish_table(from_frame(frame, self._dataset), full=full)

    def publish_table(self, table: Table, *, full: bool = True) -> Outcome:
        """Publish a table that was read already; ``full`` as for a file."""
        anew = not self._journal.belongs_to(self._outlet.topic_id())
        resent = self._send()
        if self._journal.waiting():
            return Outcome(resent=resent, waiting=self._journal.waiting(), anew=anew)
        read = judge(table, self._dataset)
        judged = self._hashed(read)
        latest, repeated = _latest(judged.sendable, self._dataset.order_by)
        changes = difference(self._journal.published(), latest, judged.held if full else None)
        withheld = len(changes.deletions) if judged.untold else 0
        if withheld:
            changes = replace(changes, deletions=())
        self._plan(changes, read.sendable, judged.unsendable, full)
        self._send()
        return Outcome(
            rows=table.frame.height + len(table.misread),
            upserts=changes.upserts.height,
            deletions=len(changes.deletions),
            unchanged=latest.height - changes.upserts.height,
            refused_rows=_refused_rows(judged.unsendable),
            repeated=() if self._dataset.order_by else repeated,
            unknown_columns=table.unknown,
            resent=resent,
            waiting=self._journal.waiting(),
            anew=anew,
            sent_rows=_ranges(changes.upserts[ROW]),
            deleted=changes.deletions,
            withheld=withheld,
            untold=judged.untold,
        )

    def _hashed(self, judged: Judged) -> Judged:
        """The sendable rows with a hash of schema and bytes for their fields; the too large ones are unsendable.

        The bytes are made again for the rows that are sent: those of a whole file would take more memory than it.
        """
        written_as = bytes.fromhex(self._dataset.schema.fingerprint)
        longest = self._dataset.max_bytes - len(self._frame)
        hashes: list[bytes] = []
        fitting: list[bool] = []
        for body in self._bodies(judged.sendable):
            hashes.append(hashlib.sha256(written_as + body).digest())
            fitting.append(len(body) <= longest)
        fits = pl.Series(fitting, dtype=pl.Boolean)
        rows = judged.sendable.select(KEY, ROW, *self._dataset.order_by, pl.Series(HASH, hashes, dtype=pl.Binary))
        large = judged.sendable.filter(~fits)
        return Judged(
            sendable=rows.filter(fits),
            unsendable=(*judged.unsendable, *_too_large(large.drop(KEY))),
            held=judged.held | frozenset(large[KEY]),
            untold=judged.untold,
        )

    def _bodies(self, rows: pl.DataFrame) -> Iterator[bytes]:
        """The bytes of every row, some thousands in memory at a time."""
        schema = arrow_schema(self._dataset.schema)
        for block in rows.select(self._dataset.schema.field_names).iter_slices(BLOCK_CHANGES):
            for batch in block.to_arrow().cast(schema).to_batches():
                yield from self._codec.encode(batch)

    def _plan(self, changes: Difference, rows: pl.DataFrame, unsendable: Sequence[Unsendable], full: bool) -> None:
        reports = {_report_hash(row): row for row in unsendable}
        reported = self._journal.reported()
        new = [(row_hash, row) for row_hash, row in reports.items() if row_hash not in reported]
        forget = reported - reports.keys() if full else ()
        self._journal.plan(self._planned(changes, rows, new), forget)

    def _planned(
        self, changes: Difference, rows: pl.DataFrame, reports: Iterable[tuple[bytes, Unsendable]]
    ) -> Iterator[Planned]:
        """Every change of a run with its event: the reports, the upserts, the deletions."""
        ids, now = event_ids(), datetime.now(UTC)
        sequences = count(next_sequence(self._journal.last_sequence(), self._outlet.sequence_now()))
        sequenced = self._dataset.sequence is SequenceRule.REQUIRED

        def event(type_: str, sequenced: bool) -> ChangeEvent:
            return ChangeEvent(
                id=next(ids),
                source=source_of(self._dataset.id.department),
                type=type_,
                time=now,
                sequence=next(sequences) if sequenced else None,
            )

        upsert, deletion = upserted(self._dataset.id), deleted(self._dataset.id)
        for row_hash, row in reports:
            change = Change(event=event(upsert, False), key=None, value=report_of(row.cells), refusal=row.refusal)
            yield Planned(change=change, row_hash=row_hash)
        bodies = self._bodies(changes.upserts.select(ROW).join(rows, on=ROW, how="left", maintain_order="left"))
        for (key, row_hash), body in zip(changes.upserts.select(KEY, HASH).iter_rows(), bodies, strict=True):
            change = Change(event=event(upsert, sequenced), key=key, value=self._frame + body)
            yield Planned(change=change, row_hash=row_hash)
        for key in changes.deletions:
            yield Planned(change=Change(event=event(deletion, sequenced), key=key, value=None))

    def _send(self) -> int:
        """Send and settle what is planned, a block at a time; returns how many changes were settled."""
        settled, changes = 0, self._journal.waiting()
        while not self._stop() and (position := self._send_block()):
            self._outlet.flush()
            settled += self._journal.settle(position)
            self._progress(Progress(acknowledged=settled, changes=changes))
        return settled

    def _send_block(self) -> int | None:
        """Send the next changes; returns the position of the last, None where there is none."""
        last = None
        for position, change in self._journal.pending(BLOCK_CHANGES):
            self._outlet.send(change)
            last = position
        return last


def _latest(rows: pl.DataFrame, order_by: Sequence[str]) -> tuple[pl.DataFrame, tuple[tuple[int, ...], ...]]:
    """The last row of every key, and the rows of the keys that repeat, each in order."""
    ordered = rows.sort(order_by, nulls_last=False, maintain_order=True) if order_by else rows
    keyed = ordered.group_by(KEY, maintain_order=True).agg(ROW)
    repeated = keyed.filter(pl.col(ROW).list.len() > 1)[ROW]
    return ordered.unique(KEY, keep="last", maintain_order=True), tuple(map(tuple, repeated.to_list()))


def _ranges(rows: pl.Series) -> tuple[range, ...]:
    """Row numbers as ranges of neighbours, which a file of new rows has one of."""
    ordered = rows.sort().cast(pl.Int64)
    first = ordered.filter((ordered.diff() != 1).fill_null(value=True))
    last = ordered.filter((ordered.diff(-1) != -1).fill_null(value=True))
    return tuple(range(start, end + 1) for start, end in zip(first, last, strict=True))


def _refused_rows(unsendable: Sequence[Unsendable]) -> tuple[RefusedRow, ...]:
    refused = [RefusedRow(row=one.row, reason=one.refusal.reason, field=one.refusal.field) for one in unsendable]
    return tuple(sorted(refused, key=lambda one: one.row))


def _too_large(rows: pl.DataFrame) -> Iterator[Unsendable]:
    for cells in rows.iter_rows(named=True):
        refusal = Refusal(reason=Reason.TOO_LARGE)
        yield Unsendable(row=cells.pop(ROW), refusal=refusal, cells=as_texts(cells))


def _report_hash(row: Unsendable) -> bytes:
    return hashlib.sha256(repr((row.refusal.reason, row.refusal.field)).encode() + report_of(row.cells)).digest()
