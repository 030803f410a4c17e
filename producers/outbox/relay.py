"""Brings the rows of an outbox to the changes topics, in steps that a kill may cut short anywhere.

1. Settle what an earlier relay published and did not come to settle (``resuming``).
2. Take the first rows that are committed.
3. Publish each, or report it where it is no record; its sequence and its event id come from its id.
4. Wait until the broker has acknowledged all of them.
5. Settle them: the rows are deleted, and how far the topic is settled is written, in one transaction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby

import structlog

from civicbus.errors import Unacceptable
from civicbus.events import TIME_AHEAD
from civicbus.names import DatasetId
from civicbus.observe import Health
from civicbus.producers.changes import Refusal
from civicbus.producers.outbox.database import Outbox
from civicbus.producers.outbox.metrics import OLDEST, PUBLISHED, REFUSED, WAITING
from civicbus.producers.outbox.outlets import Outlet, Outlets
from civicbus.producers.outbox.resuming import ChangesTopic, events_since, look_at
from civicbus.producers.outbox.rows import OutboxRow, read_rows
from civicbus.producers.publisher import Receipt
from civicbus.producers.sources import sequence_of
from civicbus.reasons import Reason
from civicbus.transport.assigned import AssignedReader

log = structlog.get_logger()

POLL_S = 0.5
STANDBY_S = 0.3
MEASURE_S = 5.0
PATIENCE_S = 3.0


class Kind(StrEnum):
    """What became of a row."""

    UPSERT = "upsert"
    DELETION = "deletion"
    REPORT = "report"


Sent = tuple[Kind, Receipt]


class Relay:
    """One outbox and its outlets. ``origin`` names the database in the ids of its events."""

    def __init__(
        self, outbox: Outbox, outlets: Outlets, reader: AssignedReader, *, origin: str, health: Health
    ) -> None:
        self._outbox = outbox
        self._outlets = outlets
        self._reader = reader
        self._origin = origin
        self._health = health
        self._topics: dict[DatasetId, ChangesTopic] = {}
        self._measured_s = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Publish until ``stop``, once no other relay of the department does."""
        while not stop.is_set() and not self._outbox.become_the_only_one():
            self._health.up("waiting: another relay works; this one takes over when it ends")
            stop.wait(STANDBY_S)
        while not stop.is_set():
            self._outlets.follow()
            self._resume()
            self._health.up(self._outlets.state)
            self._measure()
            if not self._publish_some(stop):
                self._outbox.wait(POLL_S)

    def _resume(self) -> None:
        """Once for each dataset: settle what the broker has of it already."""
        for dataset in self._outlets.datasets:
            if dataset not in self._topics:
                topic = look_at(self._reader, dataset.changes)
                events = events_since(self._reader, topic, self._outbox.settled(topic))
                found = self._outbox.settle_published(dataset, dict(self._own(events, self._outlets[dataset].epoch)))
                log.info("resumed", dataset=str(dataset), published_already=found)
                self._topics[dataset] = topic

    def _own(self, events: Mapping[str, datetime], epoch: int) -> Iterator[tuple[int, datetime]]:
        """The row ids of the events that this outbox published."""
        prefix = self._event_id(epoch, "")
        for event_id, at in events.items():
            number = event_id.removeprefix(prefix)
            if event_id.startswith(prefix) and number.isdecimal():
                yield int(number), at

    def _publish_some(self, stop: threading.Event) -> bool:
        """Steps 2 to 5 once; whether there were rows.

        Rows that were written after a claim had changed must not be numbered by the former one.
        """
        rows = self._outbox.take(self._outlets.datasets)
        if rows and self._outlets.catch_up():
            return True
        by_dataset = sorted(rows, key=lambda row: row.dataset)
        for dataset, of_dataset in groupby(by_dataset, key=lambda row: row.dataset):
            self._publish(self._outlets[dataset], list(of_dataset), stop)
        return bool(rows)

    def _publish(self, outlet: Outlet, rows: Sequence[OutboxRow], stop: threading.Event) -> None:
        readings = read_rows(rows, outlet.dataset)
        sent = [self._send(outlet, row, readings[row.id]) for row in rows]
        for _, receipt in sent:
            self._wait_for(receipt, stop)
        if stop.is_set():
            return
        outlet.publisher.flush()
        self._outbox.settle(rows, self._topics[outlet.dataset.id], _behind([receipt for _, receipt in sent]))
        for kind, _ in sent:
            PUBLISHED.labels(outlet.dataset.id, kind).inc()

    def _wait_for(self, receipt: Receipt, stop: threading.Event) -> None:
        while not receipt.wait(time.monotonic() + PATIENCE_S) and not stop.is_set():
            self._health.down("the broker does not acknowledge what was sent; waiting for it")

    def _send(self, outlet: Outlet, row: OutboxRow, reading: dict[str, object] | Refusal) -> Sent:
        if isinstance(reading, Refusal):
            return self._report(outlet, row, reading)
        publish = outlet.publisher.delete if row.deletion else outlet.publisher.upsert
        try:
            receipt = publish(
                reading,
                sequence=sequence_of(outlet.epoch, row.id),
                event_id=self._event_id(outlet.epoch, row.id),
                time=_time_of(row),
            )
        except Unacceptable as fault:
            reason = Reason.UNREADABLE_ROW if fault.reason is Reason.BYTES else fault.reason
            return self._report(outlet, row, Refusal(reason=reason, field=fault.field))
        return Kind.DELETION if row.deletion else Kind.UPSERT, receipt

    def _report(self, outlet: Outlet, row: OutboxRow, refusal: Refusal) -> Sent:
        REFUSED.labels(row.dataset, refusal.reason).inc()
        report = outlet.publisher.report_unsendable(
            row.cells,
            refusal.reason,
            refusal.field,
            event_id=self._event_id(outlet.epoch, row.id),
            time=_time_of(row),
        )
        return Kind.REPORT, report

    def _event_id(self, epoch: int, row: int | str) -> str:
        return f"{self._origin}-{epoch}-{row}"

    def _measure(self) -> None:
        if time.monotonic() - self._measured_s < MEASURE_S:
            return
        self._measured_s = time.monotonic()
        for gauge in (WAITING, OLDEST):
            gauge.clear()
        for one in self._outbox.waiting():
            WAITING.labels(one.dataset).set(one.rows)
            OLDEST.labels(one.dataset).set(one.oldest_s)


def _time_of(row: OutboxRow) -> datetime:
    """When the source saw the change; not so far ahead of this machine's clock that admission would refuse it."""
    return min(row.created_at, datetime.now(UTC) + TIME_AHEAD / 2)


def _behind(receipts: Sequence[Receipt]) -> dict[int, int]:
    """The position behind the last of these changes in each partition."""
    positions = [receipt.result() for receipt in receipts]
    return {position.partition: position.offset + 1 for position in sorted(positions, key=lambda one: one.offset)}
