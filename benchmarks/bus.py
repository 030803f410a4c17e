"""What the harness does on the broker: topics made anew, backlogs that appear at one moment, marks, reading back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from xxhash import xxh3_64_intdigest

from benchmarks.rows import Change
from civicbus.errors import Unavailable
from civicbus.events import Headers
from civicbus.infra.sessions import operator_administration
from civicbus.names import Topic
from civicbus.secrets import OPERATOR, Credentials, SecretStore
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_admin, confluent_consumer, confluent_producer
from civicbus.transport.partitions import LAST, Partition, offsets
from civicbus.transport.resources import TopicSpec

_GONE_WITHIN_S = 60.0
_LEADER_TRIES = 50
_NO_LEADER = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART}
_QUIET = {"log_level": 2}
_PRODUCER = _QUIET | {
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 2_000_000,
    "queue.buffering.max.kbytes": 1_048_576,
}
_READER = _QUIET | {
    "group.id": "bench.reader",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "queued.max.messages.kbytes": 65_536,
}

Marks = Mapping[Partition, int]


class Backlog(NamedTuple):
    """Changes for one topic."""

    topic: Topic
    changes: Iterable[Change]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What stands in a topic. ``digest``: a sum over the last row of each key, whatever their order."""

    messages: int
    keys: int
    digest: int
    strange_headers: int


class Bus:
    """The broker, as its operator."""

    def __init__(self, endpoints: Endpoints, secrets: SecretStore) -> None:
        self.endpoints = endpoints
        self._secrets = secrets
        self.credentials: Credentials = secrets.read(OPERATOR)
        self.admin: AdminClient = confluent_admin(endpoints, self.credentials, dict(_QUIET))
        self._producer = self.producer({})

    def producer(self, options: Mapping[str, object]) -> Producer:
        return confluent_producer(self.endpoints, self.credentials, _PRODUCER | dict(options))

    def recreate(self, specs: Sequence[TopicSpec]) -> None:
        """These topics, empty, whatever was in them."""
        self.delete([spec.name for spec in specs])
        with operator_administration(self.endpoints, self._secrets) as admin:
            admin.create_topics(specs)

    def delete(self, topics: Iterable[Topic]) -> None:
        """Delete those of these topics that are there; returns when the broker knows them no more."""
        there = sorted(set(topics) & self.topics())
        if not there:
            return
        for future in self.admin.delete_topics(there, operation_timeout=30).values():
            future.result(30)
        deadline = time.monotonic() + _GONE_WITHIN_S
        while set(there) & self.topics():
            if time.monotonic() > deadline:
                raise Unavailable(f"the broker does not let go of {', '.join(there)}")
            time.sleep(0.1)

    def topics(self) -> set[Topic]:
        return {Topic(name) for name in self.admin.list_topics(timeout=15).topics}

    def publish(self, *backlogs: Backlog) -> None:
        """Write everything; visible as it comes."""
        _produce(self._producer, backlogs)

    def hidden(self, *backlogs: Backlog) -> Callable[[], None]:
        """Write everything into one open transaction; nobody who reads committed sees it until what is given runs."""
        producer = self.producer({"transactional.id": "bench.backlog", "transaction.timeout.ms": 600_000})
        producer.init_transactions(30)
        producer.begin_transaction()
        _produce(producer, backlogs)
        return lambda: producer.commit_transaction(60)

    def ends(self, topics: Iterable[Topic], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED) -> Marks:
        """The end of each partition as a reader of this isolation sees it."""
        return self.ends_of(self.partitions(topics), isolation)

    def ends_of(
        self, partitions: Iterable[Partition], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> Marks:
        """The same, asked again while a topic that was made anew has no leader that we know of."""
        asked = list(partitions)
        for _ in range(_LEADER_TRIES):
            try:
                return offsets(self.admin, asked, LAST, isolation)
            except KafkaException as exception:
                if not exception.args[0].retriable() and exception.args[0].code() not in _NO_LEADER:
                    raise
                time.sleep(0.2)
        raise Unavailable("the broker has no leader for a topic that was made anew")

    def partitions(self, topics: Iterable[Topic]) -> list[Partition]:
        seen = self.admin.list_topics(timeout=15).topics
        return [Partition(topic, number) for topic in topics for number in seen[topic].partitions]

    def committed(self, group: str, partitions: Iterable[Partition]) -> Marks:
        """How far a group has committed; nothing for partitions without a commit."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*each) for each in partitions])
        future = self.admin.list_consumer_group_offsets([asked], require_stable=False)[group]
        try:
            found = future.result(15).topic_partitions or []
        except KafkaException:
            return {}
        return {Partition(Topic(each.topic), each.partition): each.offset for each in found if each.offset >= 0}

    def sharing(self, group: str, topic: Topic) -> int:
        """How many members of a group have partitions of the topic, once the group is at rest; 0 before."""
        described = self.admin.describe_consumer_groups([group])[group].result(15)
        if described.state is not ConsumerGroupState.STABLE:
            return 0
        assigned = [member.assignment.topic_partitions for member in described.members]
        return sum(any(each.topic == topic for each in partitions) for partitions in assigned)

    def reader(self) -> Consumer:
        """Reads committed, from where it is told to; ends are told."""
        return confluent_consumer(self.endpoints, self.credentials, dict(_READER))

    def read(self, topic: Topic) -> Iterator[tuple[bytes, bytes | None, Headers]]:
        """Everything that a read-committed reader finds in a topic now."""
        partitions = self.partitions([topic])
        consumer = self.reader()
        consumer.assign([TopicPartition(*each, 0) for each in partitions])
        ended = 0
        while ended < len(partitions):
            for message in consumer.consume(10_000, 1.0):
                if message.error() is None:
                    yield message.key() or b"", message.value(), message.headers() or []  # type: ignore[misc]
                else:
                    ended += 1
        consumer.close()

    def found(self, topic: Topic, headers: Sequence[str]) -> Found:
        """What stands in a topic, whose records should have exactly these headers."""
        rows: dict[bytes, int] = {}
        messages = strange = 0
        for key, value, carried in self.read(topic):
            messages += 1
            strange += len(carried) != len(headers) or any(name not in headers for name, _ in carried)
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = digest_of(key, value)
        total = sum(rows.values()) % 2**64
        return Found(messages=messages, keys=len(rows), digest=total, strange_headers=strange)


def digest_of(key: bytes, value: bytes) -> int:
    """What one row adds to a digest."""
    return xxh3_64_intdigest(key + value)


def _produce(producer: Producer, backlogs: Iterable[Backlog]) -> None:
    for topic, changes in backlogs:
        for count, change in enumerate(changes):
            producer.produce(topic, change.value, change.key, headers=change.headers())
            if count % 10_000 == 0:
                producer.poll(0)
    if producer.flush(120):
        raise Unavailable("the broker did not take the backlog in 120 s")
