"""Keeps the tables of one department equal to its inboxes.

Promise: every inbox that the department's rights show has its table; a batch goes in once, or is read again;
one inbox that cannot go on (a table changed by hand, a schema that cannot be had) does not stop the others.

Each inbox is either ``Flowing`` or ``Waiting``. Whatever goes wrong with a flowing one, it is closed with all
that is in memory, waits, and is opened again from what the database says.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from civicbus.consumers import metrics, positions
from civicbus.consumers.positions import Move, State, why_start_over
from civicbus.consumers.rows import Decoding, Prepared, Shaped
from civicbus.consumers.sinks.postgres import InboxTable, Restart, Stage, Written, prepare_session, start_over
from civicbus.errors import CivicbusError, Fenced, Unavailable
from civicbus.freshness import END_TO_END
from civicbus.names import AgreementId, DepartmentId, Topic, inbox_topic
from civicbus.observe import Health
from civicbus.postgres import Session, translated
from civicbus.retry import delay_s
from civicbus.transport.assigned import AssignedReader, Reading, Record, TopicIdentity
from civicbus.transport.metrics import BATCH_RECORDS, LAG_RECORDS, LAST_COMMIT
from civicbus.transport.partitions import Partition

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
POLL_TIMEOUT_S = 0.2
PACE_S = 0.05
"""Rows gather so long between two transactions: one costs the database the same, whether of one row or a hundred."""
STANDING_BY = 3
"""The attempt after which a twin looks again, each time: about a second, so that it takes over soon."""


@dataclass(slots=True, kw_only=True)
class Flowing:
    """An inbox that is read. ``read_to``: where each partition is read to, ends included. ``unended``: partitions
    whose end was not seen since the opening."""

    table: InboxTable
    read_to: dict[int, int]
    unended: set[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An inbox that is opened again at ``until``, on the monotonic clock."""

    until: float
    fault: str


@dataclass(slots=True, kw_only=True)
class Inbox:
    """One inbox of the department. ``failures``: how often in succession it could not go on."""

    topic: Topic
    agreement: AgreementId
    seen: TopicIdentity
    state: Flowing | Waiting
    failures: int = 0

    @property
    def partitions(self) -> list[Partition]:
        return [Partition(self.topic, number) for number in range(self.seen.partitions)]


class Delivery:
    """The inboxes of one department over one reader and one session.

    Raises Unavailable or AccessDenied where either of them is lost: make another.
    """

    def __init__(self, department: DepartmentId, reader: AssignedReader, session: Session, decoding: Decoding) -> None:
        self._prefix = inbox_topic(department, AgreementId(""))
        self._process = f"table-{department}"
        self._reader = reader
        self._session = session
        self._decoding = decoding
        self._inboxes: dict[Topic, Inbox] = {}
        with translated():
            prepare_session(session)
        self._stage = Stage(session)

    def run(self, stop: threading.Event, health: Health) -> None:
        """Until ``stop``; the transaction at hand is finished."""
        look_at = took_at = time.monotonic()
        while not stop.is_set():
            if time.monotonic() >= look_at:
                self._look()
                self._open_due()
                self._show(health)
                look_at = time.monotonic() + LOOK_EVERY_S
            self._open_due()
            reading = self._reader.read(POLL_TIMEOUT_S, not_before=took_at + PACE_S)
            took_at = time.monotonic()
            self._take(reading)

    def _look(self) -> None:
        """See which inboxes there are, which of them changed behind our back, and how far behind each is."""
        states = self._reader.describe(self._reader.topics(self._prefix))
        for topic in self._inboxes.keys() - states.keys():
            self._close(self._inboxes.pop(topic))
            log.info("inbox_gone", topic=topic)
        for topic, state in states.items():
            self._notice(topic, state)
        with translated():
            generations = positions.generations(self._session)
        for inbox, flowing in self._flowing():
            if generations.get(inbox.topic) != flowing.table.stored.generation:
                self._reopen(inbox)
        self._measure()

    # Inboxes.

    def _flowing(self) -> Iterator[tuple[Inbox, Flowing]]:
        for inbox in list(self._inboxes.values()):
            if isinstance(inbox.state, Flowing):
                yield inbox, inbox.state

    def _notice(self, topic: Topic, state: TopicIdentity) -> None:
        inbox = self._inboxes.get(topic)
        if inbox is None:
            agreement = AgreementId(topic.removeprefix(self._prefix))
            now = Waiting(until=0.0, fault="")
            self._inboxes[topic] = Inbox(topic=topic, agreement=agreement, seen=state, state=now)
        elif inbox.seen != state:
            self._close(inbox)
            inbox.seen = state

    def _open_due(self) -> None:
        for inbox in self._inboxes.values():
            if isinstance(inbox.state, Waiting) and inbox.state.until <= time.monotonic():
                self._open(inbox)

    def _open(self, inbox: Inbox) -> None:
        with self._failing(inbox):
            table = self._table(inbox)
            if not table.exists and (newest := self._decoding.newest(inbox.topic)) is not None:
                table.make(newest)
            self._reader.start({Partition(inbox.topic, number): at for number, at in table.committed.items()})
            inbox.state = Flowing(table=table, read_to=dict(table.committed), unended=set(table.committed))

    def _table(self, inbox: Inbox) -> InboxTable:
        """The table as the database has it, after starting over where its positions are of no use."""
        stored = positions.load(self._session, inbox.topic)
        if stored is None:
            return self._start_over(inbox, 0, "it was never read")
        firsts, ends = self._reader.first_offsets(inbox.partitions), self._reader.ends(inbox.partitions)
        bounds = {partition.number: range(firsts[partition], ends[partition] + 1) for partition in inbox.partitions}
        table = InboxTable(self._session, self._stage, inbox.agreement, stored)
        reason = why_start_over(stored, datetime.now(UTC), inbox.seen, bounds) or table.damage
        return table if reason is None else self._start_over(inbox, stored.generation, reason)

    def _start_over(self, inbox: Inbox, generation: int, reason: str, shaped: Shaped | None = None) -> InboxTable:
        firsts = self._reader.first_offsets(inbox.partitions)
        start_over(
            self._session,
            Restart(
                topic=inbox.topic,
                agreement=inbox.agreement,
                topic_id=inbox.seen.id,
                starts={partition.number: at for partition, at in firsts.items()},
                seen=generation,
                reason=reason,
                shaped=shaped,
            ),
        )
        stored = positions.load(self._session, inbox.topic)
        if stored is None:
            raise Fenced(f"another instance starts {inbox.topic} over")
        return InboxTable(self._session, self._stage, inbox.agreement, stored)

    def _close(self, inbox: Inbox, waiting: Waiting | None = None) -> None:
        """Read it no more; what was read and is not in the table is read again."""
        self._reader.stop(inbox.partitions)
        inbox.state = waiting or Waiting(until=0.0, fault="")

    def _reopen(self, inbox: Inbox) -> None:
        self._close(inbox)
        self._open(inbox)

    @contextmanager
    def _failing(self, inbox: Inbox) -> Iterator[None]:
        """Whatever goes wrong with one inbox makes it wait; a lost session is everybody's matter."""
        try:
            with translated():
                yield
        except CivicbusError as fault:
            if self._session.closed:
                raise Unavailable(str(fault)) from fault
            attempt = STANDING_BY if isinstance(fault, Fenced) else inbox.failures
            wait_s = delay_s(attempt, random.random())  # noqa: S311 - jitter, not a secret
            inbox.failures += 1
            self._close(inbox, Waiting(until=time.monotonic() + wait_s, fault=str(fault)))
            log.warning("inbox_waits", agreement=inbox.agreement, fault=str(fault), retry_in_s=round(wait_s, 1))

    # Records.

    def _take(self, reading: Reading) -> None:
        """Records first, then the ends behind them; an end from before a reopening says nothing of what is read now."""
        openings = {inbox.topic: flowing for inbox, flowing in self._flowing()}
        for topic, records in reading.records.items():
            self._deliver(topic, records)
        for partition, end in reading.ends.items():
            inbox = self._inboxes.get(partition.topic)
            if inbox is not None and inbox.state is openings.get(partition.topic):
                self._end(inbox, openings[partition.topic], partition.number, end)
        for topic in {partition.topic for partition in reading.lost}:
            self._reopen_at(topic)
        for topic, fault in reading.faults.items():
            if (inbox := self._inboxes.get(topic)) is not None:
                with self._failing(inbox):
                    raise fault

    def _reopen_at(self, topic: Topic) -> None:
        if (inbox := self._inboxes.get(topic)) is not None:
            self._reopen(inbox)

    def _deliver(self, topic: Topic, records: Sequence[Record]) -> None:
        """Prepare, attempt, conclude."""
        inbox = self._inboxes.get(topic)
        if inbox is None or not isinstance(inbox.state, Flowing):
            return
        flowing = inbox.state
        with self._failing(inbox):
            prepared = self._decoding.prepare(records)
            newest = self._reshaping(topic, flowing.table, prepared)
            if newest is not None:
                self._start_over(inbox, flowing.table.stored.generation, "a column has another type now", newest)
                self._reopen(inbox)
                return
            moves = _moves(records, flowing.table.committed)
            written = flowing.table.write(prepared, moves)
            self._conclude(inbox, flowing, prepared, written)
            BATCH_RECORDS.observe(len(records))
            flowing.read_to.update({move.partition: move.new for move in moves})

    def _reshaping(self, topic: Topic, table: InboxTable, prepared: Prepared) -> Shaped | None:
        """The topic's newest schema, where rows have it and the table cannot hold them.

        Rows of an older schema that the table cannot hold are cast, or refused one by one.
        """
        strange = [rows.shaped for rows in prepared.rows if not table.takes(rows.shaped)]
        newest = self._decoding.newest(topic) if strange else None
        return newest if newest in strange else None

    def _conclude(self, inbox: Inbox, flowing: Flowing, prepared: Prepared, written: Written) -> None:
        """The batch is visible: count it, and remember that this inbox can go on."""
        inbox.failures = 0
        LAST_COMMIT.labels(self._process).set_to_current_time()
        metrics.DELIVERED.labels(inbox.agreement, "upsert").inc(written.upserts)
        metrics.DELIVERED.labels(inbox.agreement, "delete").inc(len(prepared.deletions))
        for each in written.refused:
            metrics.UNDELIVERED.labels(inbox.agreement, each.reason).inc()
            log.warning(
                "row_refused",
                agreement=inbox.agreement,
                partition=each.record.partition,
                offset=each.record.offset,
                reason=each.reason,
                detail=each.detail,
            )
        if flowing.table.stored.state is State.CURRENT:
            now_ms = time.time() * 1000
            seen = [record.timestamp_ms for rows in prepared.rows for record in rows.records]
            seen += [record.timestamp_ms for record in prepared.deletions]
            END_TO_END.observe(("table", inbox.agreement), [(now_ms - each) / 1000 for each in seen])

    def _end(self, inbox: Inbox, flowing: Flowing, partition: int, end: int) -> None:
        """An end was seen; when all were, a table that was being filled is complete."""
        flowing.read_to[partition] = max(end, flowing.read_to[partition])
        flowing.unended.discard(partition)
        if flowing.unended or flowing.table.stored.state is State.CURRENT:
            return
        with self._failing(inbox):
            flowing.table.finish()
            log.info("table_current", agreement=inbox.agreement)
            self._reopen(inbox)

    # Seen from outside.

    def _measure(self) -> None:
        """Lag, and the moment at which each table was last complete."""
        ends = self._reader.ends(partition for inbox, _ in self._flowing() for partition in inbox.partitions)
        at_end: list[Topic] = []
        for inbox, flowing in self._flowing():
            lags = {p: max(0, ends[p] - flowing.read_to[p.number]) for p in inbox.partitions if p in ends}
            for partition, lag in lags.items():
                LAG_RECORDS.labels(partition.topic, partition.number).set(lag)
            if flowing.table.stored.state is State.CURRENT and not any(lags.values()):
                at_end.append(inbox.topic)
        with translated():
            positions.caught_up(self._session, at_end)

    def _show(self, health: Health) -> None:
        waiting = {i.agreement: i.state.fault for i in self._inboxes.values() if isinstance(i.state, Waiting)}
        faults = "; ".join(f"{agreement} waits: {fault}" for agreement, fault in waiting.items() if fault)
        metrics.INBOXES.labels("flowing").set(len(self._inboxes) - len(waiting))
        metrics.INBOXES.labels("waiting").set(len(waiting))
        health.up(faults or f"{len(self._inboxes)} inboxes")


def _moves(records: Sequence[Record], committed: dict[int, int]) -> list[Move]:
    """Each partition from where it is committed to after its last record."""
    last = {record.partition: record.offset for record in records}
    return [Move(partition, committed[partition], offset + 1) for partition, offset in last.items()]
