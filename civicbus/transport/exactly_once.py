"""The loop of every stage: read a batch, decide, write outputs and offsets in one Kafka transaction.

Promise: a read-committed reader of the outputs sees each decision once, whatever process is killed when
(DESIGN §4.1, §5 rules 3 and 4). How: a partition is opened by reading back its own outputs before its first
input is looked at; every transaction carries the offsets of every partition that it writes for, with the
group's current metadata, which fences an instance that lost the partition; and an abort is a crash: the
worker is thrown away with its memory and another one opens again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Self

import structlog
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from civicbus.errors import CivicbusError, Fenced, Unavailable
from civicbus.names import CATALOGUE_TOPIC, Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import LARGEST_MESSAGE_BYTES, confluent_admin, confluent_consumer, confluent_producer
from civicbus.transport.faults import fault_of, is_refusal, translated
from civicbus.transport.metrics import BATCH_RECORDS, COMMIT_SECONDS, LAG_RECORDS, LAST_COMMIT, spent
from civicbus.transport.partitions import FIRST, LAST, REQUEST_TIMEOUT_S, AskedOffsets, Partition, offsets
from civicbus.transport.readback import Readback
from civicbus.transport.stage import Batch, Opening, Positions, Stage, Step, batches_of
from civicbus.transport.transactions import TRANSACTION_TIMEOUT_S, GroupMetadata, Pending, Transactions

log = structlog.get_logger()

SESSION_TIMEOUT_MS = 10_000
IDLE_COMMIT_S = 1.0
WAIT_S = 1.0
GAUGES_EVERY_S = 5.0
# The group's consumer and the one beside it cannot be waited for together; each gets a look so often.
LOOK_S = 0.005
Rebalance = Callable[[Consumer, list[TopicPartition]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How a worker reads and commits.

    ``pace_s``: after a commit, records gather at least so long before the next batch is taken. A transaction costs
    broker and worker the same whether it carries one record or a hundred; without a pace a trickle of records
    would cost two processors. ``overlap_records``: so many records are worth deciding on while the transaction
    before them still commits; fewer wait for it, and more gather meanwhile.
    """

    process: str
    group: str
    instance: str
    batch_records: int = 10_000
    overlap_records: int = 1_000
    pace_s: float = 0.005
    poll_timeout_s: float = 0.1


class _Joined(Enum):
    NOT = auto()
    BY_THE_DOOR = auto()
    ASKING = auto()
    IN_EARNEST = auto()


@dataclass(slots=True)
class _Opened:
    """A partition this worker owns. ``awaited``: what is read up to an offset before its input flows.

    ``outputs``: which of its outputs were asked for.
    """

    outputs: set[Partition]
    awaited: dict[Partition, int]
    position: int | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """The transaction that is on its way, and the step that it makes visible."""

    pending: Pending
    step: Step
    began_s: float


class Worker:
    """One member of a stage's group. After any fault it is of no further use; close it and make another."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials, loop: Loop, stage: Stage) -> None:
        self._loop = loop
        self._stage = stage
        self._topics: list[str] = list(stage.inputs())
        self._opened: dict[Partition, _Opened] = {}
        self._resume_at: dict[Partition, float] = {}
        self._last_commit_s = time.monotonic()
        self._last_gauges_s = 0.0
        self._more = False
        self._renewed = True
        self._joined = _Joined.NOT
        self._touched: set[Partition] = set()
        # Topics of partitions that came when the stage did not want them any more.
        self._given_up: set[str] = set()
        self._asked: _Asked | None = None
        self._ends: AskedOffsets | None = None
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
            "fetch.queue.backoff.ms": 10,
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
        self._beside = confluent_consumer(endpoints, credentials, shared | {"group.id": f"{loop.group}.restore"})
        self._readback = Readback(self._beside, self._admin)
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
            self._subscribe([CATALOGUE_TOPIC])

    def turn(self) -> None:
        """One round: read back, poll, decide, commit. Raises Fenced, Unavailable or AccessDenied: replace me."""
        with translated():
            self._turn()

    def _note_error(self, error: KafkaError) -> None:
        """Keep a refusal of our credentials, which librdkafka reports nowhere else and tries again for ever."""
        if is_refusal(error):
            self._refused = fault_of(error)

    def _turn(self) -> None:
        if self._refused is not None:
            raise self._refused
        if self._stage.renew(to_the_end=False):
            self._renewed = True
        self._subscribe_in_earnest()
        self._adjust()
        self._checkpoint()
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
        """Subscribe, with the topics' metadata fetched before.

        Where librdkafka (2.16) has to ask for it in the middle of a new subscription, it takes the partitions of
        the topics that are left for lost, gives them up and never joins again: the worker owns nothing from then on.
        """
        self._consumer.list_topics(timeout=REQUEST_TIMEOUT_S)
        assign, revoke = self._keeping_faults(self._on_assign), self._keeping_faults(self._on_revoke)
        self._consumer.subscribe(topics, on_assign=assign, on_revoke=revoke, on_lost=revoke)

    def _subscribe_in_earnest(self) -> None:
        """The second of two subscriptions.

        To a static member that comes back a broker gives what it had before, whatever it subscribes to now; only
        a member that changes its subscription while it is in the group is given new partitions. So a worker
        joins by a topic that every worker may read, and asks for its inputs once it is in.
        """
        if self._joined is _Joined.BY_THE_DOOR and self._topics:
            self._joined = _Joined.ASKING
            self._subscribe(self._topics)

    @property
    def ready(self) -> bool:
        """Whether the group has given this worker its partitions, and all of them flow."""
        wanted = _Joined.IN_EARNEST if self._topics else _Joined.BY_THE_DOOR
        return self._joined is wanted and not any(opened.awaited for opened in self._opened.values())

    def _adjust(self) -> None:
        """What the stage wants to read now, where its rules changed: inputs, followed topics, outputs."""
        if not self._renewed:
            return
        self._settle()
        self._renewed = False
        self._read_what_is_wanted()
        topics: list[str] = list(self._stage.inputs())
        if self._given_up & set(topics):
            raise Unavailable("Kafka: a partition that was given up is wanted again")
        if topics != self._topics:
            self._topics = topics
            if self._joined in (_Joined.ASKING, _Joined.IN_EARNEST):
                self._subscribe(topics or [CATALOGUE_TOPIC])

    def _read_what_is_wanted(self) -> None:
        """Followed topics and outputs: all that is wanted no longer is let go of first, and nobody waits for it."""
        followed = self._stage.followed()
        self._readback.follow(followed)
        wanted = {partition: self._stage.outputs(partition) for partition in self._opened}
        for partition, opened in self._opened.items():
            self._readback.forget(opened.outputs - wanted[partition].keys())
            unwanted = opened.awaited.keys() - wanted[partition].keys() - followed.keys()
            for unread in unwanted:
                del opened.awaited[unread]
            if unwanted:
                self._flow_when_ready(partition)
        for partition, opened in self._opened.items():
            new = {output: start for output, start in wanted[partition].items() if output not in opened.outputs}
            opened.outputs = set(wanted[partition])
            self._restore(new)

    def _restore(self, outputs: Mapping[Partition, int]) -> dict[Partition, int]:
        """Have outputs read back; the marks of those that have something to read."""
        marks = self._readback.restore(outputs)
        for output in outputs.keys() - marks.keys():
            self._stage.restored(output)
        return marks

    # Rebalances. The callbacks run inside consume(). An exception that leaves a callback comes out of consume()
    # as an object that no except clause names, so it is kept and raised after.

    def _keeping_faults(self, rebalance: Rebalance) -> Rebalance:
        def callback(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            try:
                self._settle()
                rebalance(consumer, partitions)
            except Exception as failed:  # noqa: BLE001 - raised again by _poll
                self._failed = failed

        return callback

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Open(p), DESIGN §5 rule 3: committed offsets first, which waits for pending transactions; then marks."""
        self._joined = _Joined.BY_THE_DOOR if self._joined is _Joined.NOT else _Joined.IN_EARNEST
        if partitions and self._stage.renew(to_the_end=True):
            self._renewed = True
            # Now, for the rules may change again before the next turn: what goes and comes back is read anew.
            self._read_what_is_wanted()
        inputs = set(self._stage.inputs())
        stale = [TopicPartition(tp.topic, tp.partition, OFFSET_END) for tp in partitions if tp.topic not in inputs]
        if stale:
            consumer.incremental_assign(stale)
            consumer.pause(stale)
            self._given_up |= {tp.topic for tp in stale}
        partitions = [tp for tp in partitions if tp.topic in inputs]
        if not partitions:
            return
        owned = [Partition(Topic(tp.topic), tp.partition) for tp in partitions]
        committed = consumer.committed(partitions, timeout=30)
        openings = {partition: self._stage.open(partition) for partition in owned}
        starts = self._starts(openings, [tp.offset for tp in committed])
        assigned = [TopicPartition(p.topic, p.number, start) for p, start in zip(owned, starts, strict=True)]
        consumer.incremental_assign(assigned)
        consumer.pause(assigned)
        self._await(openings)
        for partition in owned:
            self._flow_when_ready(partition)
        log.info("partitions_assigned", count=len(owned))

    def _await(self, openings: Mapping[Partition, Opening]) -> None:
        """Read back the outputs, and the followed topics up to where another worker may have read them."""
        self._readback.follow(self._stage.followed())
        marks = self._restore({output: at for each in openings.values() for output, at in each.outputs.items()})
        behind = self._readback.behind()
        for partition, opening in openings.items():
            own = {output: marks[output] for output in opening.outputs if output in marks}
            self._opened[partition] = _Opened(set(opening.outputs), own | behind)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Forget the partitions; what they wrote is committed already, and nothing of them is in memory after."""
        for tp in partitions:
            partition = Partition(Topic(tp.topic), tp.partition)
            opened = self._opened.pop(partition, None)
            if opened is None:
                continue
            self._readback.forget(opened.outputs)
            self._resume_at.pop(partition, None)
            self._touched.discard(partition)
            self._stage.close(partition)
        consumer.incremental_unassign(partitions)
        self._given_up -= {tp.topic for tp in partitions}
        log.info("partitions_revoked", count=len(partitions))

    def _starts(self, openings: Mapping[Partition, Opening], committed: Sequence[int]) -> list[int]:
        """Where to read each input from: as the stage says, else as the group has committed; never what is gone."""
        firsts = offsets(self._admin, openings, FIRST, IsolationLevel.READ_UNCOMMITTED)
        starts = []
        for (partition, opening), offset in zip(openings.items(), committed, strict=True):
            if opening.start is None and 0 <= offset < firsts[partition]:
                log.error("offsets_expired", topic=partition.topic, partition=partition.number)
            starts.append(max(offset if opening.start is None else opening.start, firsts[partition]))
        return starts

    def _flow_when_ready(self, partition: Partition) -> None:
        if not self._opened[partition].awaited:
            self._consumer.resume([TopicPartition(*partition)])

    # Reading.

    def _read_beside(self, timeout_s: float) -> bool:
        """Outputs and followed topics; says whether a followed one brought anything."""
        if self._readback.idle:
            return False
        outputs, followed = self._readback.read(self._loop.batch_records, timeout_s)
        for batch in outputs:
            self._stage.restore(batch)
            if self._readback.is_restored(batch):
                self._stage.restored(batch.partition)
                self._no_longer_awaited(batch)
        for batch in followed:
            self._stage.follow(batch)
            self._no_longer_awaited(batch)
        return bool(followed)

    def _no_longer_awaited(self, batch: Batch) -> None:
        for partition, opened in self._opened.items():
            mark = opened.awaited.get(batch.partition)
            if mark is not None and batch.position >= mark:
                del opened.awaited[batch.partition]
                self._flow_when_ready(partition)

    def _poll(self) -> list[Batch]:
        """What is there now; waits for the first record only where no other work is left."""
        owners = dict(self._opened)
        messages = self._gathered()
        if self._failed is not None:
            raise self._failed
        with spent("consume"):
            found, passing = batches_of(messages)
        for error in passing:
            log.warning("kafka_error", error=error.name())
        if any(map(len, found)):
            BATCH_RECORDS.observe(sum(map(len, found)))
        batches = [batch for batch in found if batch.partition in self._opened]
        if any(
            owners.get(each.partition, self._opened[each.partition]) is not self._opened[each.partition]
            for each in batches
        ):
            raise Unavailable("Kafka: a partition went and came back while its records were read")
        for batch in batches:
            self._opened[batch.partition].position = batch.position
        return batches

    def _gathered(self) -> list[Message]:
        """Records of the input. Those behind a transaction that still commits gather, or are many already."""
        most = self._loop.batch_records
        busy = self._more or self._readback.restoring
        with spent("consume"):
            messages = self._consumer.consume(most, 0.0)
        followed = self._read_beside(0.0)
        if self._asked is not None and len(messages) < self._loop.overlap_records and not busy:
            self._settle()
        elif not messages and not busy and not followed:
            followed = self._wait_for_first(messages)
        if not busy and len(messages) < self._loop.overlap_records and (messages or followed):
            time.sleep(max(0.0, self._last_commit_s + self._loop.pace_s - time.monotonic()))
        if len(messages) < most:
            with spent("consume"):
                messages += self._consumer.consume(most - len(messages), 0.0)
        return messages

    def _wait_for_first(self, messages: list[Message]) -> bool:
        """Wait for the first record of the input, into ``messages``, or of a followed topic; says which."""
        deadline_s = time.monotonic() + self._loop.poll_timeout_s
        look_s = self._loop.poll_timeout_s if self._readback.idle else LOOK_S
        while not messages and time.monotonic() < deadline_s:
            messages += self._consumer.consume(1, look_s)
            if self._read_beside(0.0):
                return True
        return False

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
        """Ask for one transaction: outputs, then the offsets of all partitions touched since the last one."""
        if not step.outputs and not self._idle_for(IDLE_COMMIT_S):
            return
        offsets = [
            TopicPartition(partition.topic, partition.number, position)
            for partition in self._touched
            if (position := self._opened[partition].position) is not None
        ]
        if not offsets and step.outputs:
            raise Unavailable("Kafka: no partition that is written for has an offset")
        if not offsets:
            return
        self._settle()
        began_s = time.monotonic()
        pending = self._transactions.ask(step.outputs, offsets, self._group)
        self._asked = _Asked(pending, step, began_s)
        self._touched.clear()

    def _group(self) -> GroupMetadata:
        """This member as the group knows it now; raises Fenced where a rebalance has failed.

        Partitions are handed over only by a callback that has waited for the transaction on its way. Where it could
        not, the group may take this member in again, and it must not commit what it decided as another.
        """
        group = self._consumer.consumer_group_metadata()
        if self._failed is not None:
            raise Fenced("a rebalance failed while a transaction was on its way")
        return group

    def _settle(self) -> None:
        """Wait for the transaction that is on its way."""
        asked, self._asked = self._asked, None
        if asked is None:
            return
        asked.pending.settle()
        self._last_commit_s = time.monotonic()
        COMMIT_SECONDS.observe(self._last_commit_s - asked.began_s)
        LAST_COMMIT.labels(self._loop.process).set_to_current_time()
        self._stage.committed(asked.step)

    def _checkpoint(self) -> None:
        """Let the stage keep what it holds, with the positions of it, once the ends of its outputs are known.

        They are asked for before: what is written meanwhile is in the stage's memory, and read again after a start.
        """
        if self._ends is None:
            if self.ready and self._stage.wants_checkpoint():
                outputs = {output for opened in self._opened.values() for output in opened.outputs}
                self._ends = AskedOffsets(self._admin, outputs, LAST, IsolationLevel.READ_UNCOMMITTED)
        elif self._ends.answered:
            ends, self._ends = self._ends.answer(), None
            self._settle()
            positions = {
                place: opened.position for place, opened in self._opened.items() if opened.position is not None
            }
            if self.ready and self._stage.wants_checkpoint() and len(positions) == len(self._opened):
                self._stage.checkpoint(Positions(inputs=positions, outputs=ends, followed=self._readback.followed))

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
        for consumer in (self._consumer, self._beside):
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
