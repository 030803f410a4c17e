"""The loop of every stage: read a batch, decide, write outputs and offsets in one Kafka transaction.

Promise: a read-committed reader of the outputs sees each decision once, whatever process is killed when
(DESIGN §4.1, §5 rules 3 and 4). How: a partition is opened by reading back its own outputs before its first
input is looked at; every transaction carries the offsets of every partition that it writes for, with the
group's current metadata, which fences an instance that lost the partition; and an abort is a crash: the
worker is thrown away with its memory and another one opens again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Protocol, Self

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from civicbus.errors import CivicbusError
from civicbus.events import Headers
from civicbus.names import CATALOGUE_TOPIC, Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_admin, confluent_consumer, confluent_producer, gathered
from civicbus.transport.faults import fault_of, translated
from civicbus.transport.metrics import BATCH_RECORDS, COMMIT_SECONDS, LAG_RECORDS, LAST_COMMIT
from civicbus.transport.partitions import FIRST, LAST, Partition, offsets
from civicbus.transport.transactions import TRANSACTION_TIMEOUT_S, Output, Transactions

log = structlog.get_logger()

SESSION_TIMEOUT_MS = 10_000
IDLE_COMMIT_S = 1.0
WAIT_S = 1.0
GAUGES_EVERY_S = 5.0
LARGEST_MESSAGE_BYTES = 9 * 2**20
Rebalance = Callable[[Consumer, list[TopicPartition]], None]
ANY_PARTITION = -1
"""An output to whichever partition the key hashes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of one partition in offset order, field by field. ``end``: its end was seen, at this offset."""

    partition: Partition
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]
    timestamps_ms: list[int]
    offsets: list[int]
    end: int | None = None

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(slots=True, kw_only=True)
class Step:
    """What a stage decided on some batches.

    ``touched``: the input partitions whose offsets go with the outputs. ``waiting``: input partitions that
    cannot go on now, with the offset to read again from. ``more``: there is work left that needs no input.
    """

    outputs: list[Output] = field(default_factory=list)
    touched: set[Partition] = field(default_factory=set)
    waiting: dict[Partition, int] = field(default_factory=dict)
    more: bool = False


class Stage(Protocol):
    """The rules of one stage, without Kafka. All calls come from one thread."""

    from_start: bool
    """Whether a partition's input is read from its start (state) or from the committed offset (log)."""

    def inputs(self) -> Sequence[Topic]: ...

    def open(self, partition: Partition) -> Sequence[Partition]:
        """A partition was assigned: the output partitions to read back before its input."""

    def restore(self, batch: Batch) -> None:
        """Records of an output partition, up to what was written before the assignment."""

    def process(self, batches: Sequence[Batch]) -> Step:
        """Decide. Effects on memory may be applied at once: if the commit fails, the stage is thrown away."""

    def committed(self) -> None:
        """The last step's outputs are visible now."""

    def close(self, partition: Partition) -> None:
        """A partition was revoked: forget it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How a worker reads and commits.

    ``pace_s``: after a commit, records gather at least so long before the next batch is taken. A transaction costs
    broker and worker the same whether it carries one record or a hundred; without a pace a trickle of records
    would cost two processors.
    """

    process: str
    group: str
    instance: str
    batch_records: int = 10_000
    pace_s: float = 0.01
    poll_timeout_s: float = 0.1


class _Phase(Enum):
    RESTORING = auto()
    FLOWING = auto()


class _Joined(Enum):
    NOT = auto()
    BY_THE_DOOR = auto()
    ASKING = auto()
    IN_EARNEST = auto()


@dataclass(slots=True)
class _Opened:
    """A partition this worker owns. ``marks``: output partitions still to be read back, with their ends."""

    marks: dict[Partition, int]
    phase: _Phase = _Phase.RESTORING
    position: int | None = None


class Worker:
    """One member of a stage's group. After any fault it is of no further use; close it and make another."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials, loop: Loop, stage: Stage) -> None:
        self._loop = loop
        self._stage = stage
        self._topics: list[str] = list(stage.inputs())
        self._opened: dict[Partition, _Opened] = {}
        self._restoring: dict[Partition, Partition] = {}
        self._resume_at: dict[Partition, float] = {}
        self._last_commit_s = time.monotonic()
        self._last_gauges_s = 0.0
        self._more = False
        self._joined = _Joined.NOT
        self._touched: set[Partition] = set()
        self._admin: AdminClient = confluent_admin(endpoints, credentials)
        self._refused: CivicbusError | None = None
        self._failed: Exception | None = None
        shared = {
            "error_cb": self._note_error,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 16384,
            "fetch.message.max.bytes": LARGEST_MESSAGE_BYTES,
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 100,
        }
        self._consumer = confluent_consumer(
            endpoints,
            credentials,
            shared
            | {
                "group.id": loop.group,
                "group.instance.id": loop.instance,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4,
            },
        )
        self._restorer = confluent_consumer(endpoints, credentials, shared | {"group.id": f"{loop.group}.restore"})
        producer = confluent_producer(
            endpoints,
            credentials,
            {
                "error_cb": self._note_error,
                "transactional.id": loop.instance,
                "transaction.timeout.ms": int(TRANSACTION_TIMEOUT_S * 1000),
                "message.max.bytes": LARGEST_MESSAGE_BYTES,
                "linger.ms": 1,
                "retry.backoff.ms": 5,
                "retry.backoff.max.ms": 100,
                "batch.size": 1_000_000,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 512 * 1024,
            },
        )
        self._transactions = Transactions(producer)

    def start(self) -> None:
        """Fence an older instance of this name, then join the group."""
        with translated():
            self._transactions.begin()
            if self._topics:
                self._subscribe([CATALOGUE_TOPIC])

    def turn(self) -> None:
        """One round: restore, poll, decide, commit. Raises Fenced, Unavailable or AccessDenied: replace me."""
        if not self._topics:
            time.sleep(self._loop.poll_timeout_s)
            return
        with translated():
            self._turn()

    def _note_error(self, error: KafkaError) -> None:
        """Keep a refusal of our credentials, which librdkafka reports nowhere else and tries again for ever."""
        if error.code() in {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}:
            self._refused = fault_of(error)

    def _turn(self) -> None:
        if self._refused is not None:
            raise self._refused
        self._subscribe_in_earnest()
        self._restore()
        self._resume_waiting()
        batches = self._poll()
        step = self._stage.process(batches)
        self._more = step.more
        self._set_aside(step)
        self._touched |= step.touched
        if self._touched:
            self._commit(step)
        self._show_gauges()

    def _subscribe(self, topics: list[str]) -> None:
        assign, revoke = self._keeping_faults(self._on_assign), self._keeping_faults(self._on_revoke)
        self._consumer.subscribe(topics, on_assign=assign, on_revoke=revoke, on_lost=revoke)

    def _subscribe_in_earnest(self) -> None:
        """The second of two subscriptions.

        To a static member that comes back a broker gives what it had before, whatever it subscribes to now; only
        a member that changes its subscription while it is in the group is given new partitions. So a worker
        joins by a topic that every worker may read, and asks for its inputs once it is in.
        """
        if self._joined is _Joined.BY_THE_DOOR:
            self._joined = _Joined.ASKING
            self._subscribe(self._topics)

    @property
    def ready(self) -> bool:
        """Whether the group has given this worker its partitions, and all of them flow."""
        return (self._joined or not self._topics) and all(
            opened.phase is _Phase.FLOWING for opened in self._opened.values()
        )

    # Rebalances. The callbacks run inside consume(), when no transaction is open. An exception that leaves a
    # callback comes out of consume() as an object that no except clause names, so it is kept and raised after.

    def _keeping_faults(self, rebalance: Rebalance) -> Rebalance:
        def callback(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            try:
                rebalance(consumer, partitions)
            except Exception as failed:  # noqa: BLE001 - raised again by _poll
                self._failed = failed

        return callback

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Open(p), DESIGN §5 rule 3: committed offsets first, which waits for pending transactions; then marks."""
        self._joined = _Joined.BY_THE_DOOR if self._joined is _Joined.NOT else _Joined.IN_EARNEST
        stale = [
            TopicPartition(tp.topic, tp.partition, OFFSET_END) for tp in partitions if tp.topic not in self._topics
        ]
        if stale:
            consumer.incremental_assign(stale)
            consumer.pause(stale)
        partitions = [tp for tp in partitions if tp.topic in self._topics]
        if not partitions:
            return
        owned = [Partition(Topic(tp.topic), tp.partition) for tp in partitions]
        committed = consumer.committed(partitions, timeout=30)
        outputs = {partition: tuple(self._stage.open(partition)) for partition in owned}
        marks = self._ends(output for each in outputs.values() for output in each)
        for partition in owned:
            to_read = {output: marks[output] for output in outputs[partition] if marks[output] > 0}
            self._opened[partition] = _Opened(to_read)
            self._restoring |= dict.fromkeys(to_read, partition)
        starts = self._starts(owned, [tp.offset for tp in committed])
        assigned = [TopicPartition(p.topic, p.number, start) for p, start in zip(owned, starts, strict=True)]
        consumer.incremental_assign(assigned)
        consumer.pause(assigned)
        to_restore = [TopicPartition(o.topic, o.number, OFFSET_BEGINNING) for p in owned for o in self._opened[p].marks]
        if to_restore:
            self._restorer.incremental_assign(to_restore)
        for partition in owned:
            self._flow_when_restored(partition)
        log.info("partitions_assigned", count=len(owned), to_restore=len(to_restore))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Forget the partitions; what they wrote is committed already, and nothing of them is in memory after."""
        for tp in partitions:
            partition = Partition(Topic(tp.topic), tp.partition)
            opened = self._opened.pop(partition, None)
            if opened is None:
                continue
            for output in opened.marks:
                self._restorer.incremental_unassign([TopicPartition(output.topic, output.number)])
                self._restoring.pop(output, None)
            self._resume_at.pop(partition, None)
            self._touched.discard(partition)
            self._stage.close(partition)
        consumer.incremental_unassign(partitions)
        log.info("partitions_revoked", count=len(partitions))

    def _starts(self, partitions: Sequence[Partition], committed: Sequence[int]) -> list[int]:
        if self._stage.from_start:
            return [OFFSET_BEGINNING] * len(partitions)
        firsts = offsets(self._admin, partitions, FIRST, IsolationLevel.READ_UNCOMMITTED)
        for partition, offset in zip(partitions, committed, strict=True):
            if 0 <= offset < firsts[partition]:
                log.error("offsets_expired", topic=partition.topic, partition=partition.number)
        return [max(offset, firsts[partition]) for partition, offset in zip(partitions, committed, strict=True)]

    def _ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Read uncommitted: a restorer must pass what a dying instance may still have pending."""
        return offsets(self._admin, partitions, LAST, IsolationLevel.READ_UNCOMMITTED)

    # Restoring outputs.

    def _restore(self) -> None:
        if not self._restoring:
            return
        for batch in _batches(self._restorer.consume(self._loop.batch_records, 0.02)):
            owner = self._restoring.get(batch.partition)
            if owner is None:
                continue
            self._stage.restore(batch)
            marks = self._opened[owner].marks
            if _reached(batch, marks[batch.partition]):
                del marks[batch.partition], self._restoring[batch.partition]
                self._restorer.incremental_unassign([TopicPartition(*batch.partition)])
                self._flow_when_restored(owner)

    def _flow_when_restored(self, partition: Partition) -> None:
        opened = self._opened[partition]
        if not opened.marks:
            opened.phase = _Phase.FLOWING
            self._consumer.resume([TopicPartition(*partition)])

    # Reading.

    def _poll(self) -> list[Batch]:
        """What is there now; waits for the first record only where no other work is left."""
        busy = self._more or self._restoring
        owners = dict(self._opened)
        timeout_s, not_before = (
            (0.0, 0.0) if busy else (self._loop.poll_timeout_s, self._last_commit_s + self._loop.pace_s)
        )
        messages = gathered(self._consumer, self._loop.batch_records, timeout_s, not_before)
        if self._failed is not None:
            raise self._failed
        batches = [
            batch
            for batch in _batches(messages)
            if batch.partition in self._opened
            and owners.get(batch.partition, self._opened[batch.partition]) is self._opened[batch.partition]
        ]
        for batch in batches:
            self._opened[batch.partition].position = _position(batch)
        return batches

    def _set_aside(self, step: Step) -> None:
        """Partitions that cannot go on now are read again from where they stopped, a little later."""
        for partition, offset in step.waiting.items():
            self._consumer.pause([TopicPartition(*partition)])
            self._consumer.seek(TopicPartition(partition.topic, partition.number, offset))
            self._opened[partition].position = offset
            self._resume_at[partition] = time.monotonic() + WAIT_S

    def _resume_waiting(self) -> None:
        now = time.monotonic()
        for partition in [p for p, at in self._resume_at.items() if at <= now]:
            del self._resume_at[partition]
            self._consumer.resume([TopicPartition(*partition)])

    # Committing.

    def _commit(self, step: Step) -> None:
        """One transaction: outputs, then the offsets of all partitions touched since the last one."""
        if not step.outputs and not self._idle_for(IDLE_COMMIT_S):
            return
        offsets = [
            TopicPartition(partition.topic, partition.number, position)
            for partition in self._touched
            if (position := self._opened[partition].position) is not None
        ]
        if not offsets:
            return
        with COMMIT_SECONDS.time():
            self._transactions.commit(step.outputs, offsets, self._consumer.consumer_group_metadata())
        self._touched.clear()
        self._last_commit_s = time.monotonic()
        LAST_COMMIT.labels(self._loop.process).set_to_current_time()
        self._stage.committed()

    def _idle_for(self, seconds: float) -> bool:
        return time.monotonic() - self._last_commit_s >= seconds

    def _show_gauges(self) -> None:
        now = time.monotonic()
        if now - self._last_gauges_s < GAUGES_EVERY_S:
            return
        self._last_gauges_s = now
        for partition, opened in self._opened.items():
            if opened.position is not None:
                _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
                lag = max(0, high - opened.position)
                LAG_RECORDS.labels(partition.topic, partition.number).set(lag)

    def close(self) -> None:
        """Leave; static membership keeps this instance's place until the session times out.

        Never raises: a worker is closed after a fault, which is what the caller should hear of.
        """
        self._transactions.close()
        for consumer in (self._consumer, self._restorer):
            try:
                consumer.close()
            except KafkaException as exception:
                log.warning("closing_failed", fault=str(fault_of(exception.args[0])))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reached(batch: Batch, mark: int) -> bool:
    """Whether a read-committed reader has passed ``mark``: by a record, or by the end event at or after it."""
    return _position(batch) >= mark


def _position(batch: Batch) -> int:
    """The offset after the last record, or that of the end where the batch saw it."""
    after_last = batch.offsets[-1] + 1 if batch.offsets else 0
    return max(after_last, batch.end or 0)


def _batches(messages: Sequence[Message]) -> list[Batch]:
    grouped: dict[Partition, list[Message]] = {}
    ends: dict[Partition, int] = {}
    for message in messages:
        partition = Partition(Topic(message.topic() or ""), message.partition() or 0)
        error = message.error()
        if error is None:
            grouped.setdefault(partition, []).append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[partition] = message.offset() or 0
        elif error.retriable() and not error.fatal():
            log.warning("kafka_error", error=error.name(), topic=partition.topic)
        else:
            raise fault_of(error)
    if grouped:
        BATCH_RECORDS.observe(sum(map(len, grouped.values())))
    return [_batch(p, grouped.get(p, []), ends.get(p)) for p in {**grouped, **ends}]


def _batch(partition: Partition, messages: Sequence[Message], end: int | None) -> Batch:
    return Batch(
        partition=partition,
        keys=[message.key() for message in messages],
        values=[message.value() for message in messages],
        headers=[_headers(message) for message in messages],
        timestamps_ms=[message.timestamp()[1] for message in messages],
        offsets=[message.offset() or 0 for message in messages],
        end=end,
    )


def _headers(message: Message) -> Headers:
    headers = message.headers()
    return headers if isinstance(headers, list) else []
