"""A department's dataset on the broker, and everything that stands on its changes topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from civicbus.events import ChangeEvent, parse_change
from civicbus.infra.provision import provision_dataset
from civicbus.names import DatasetId, value_subject
from civicbus.producers.publisher import Publisher
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR
from civicbus.transport.clients import confluent_consumer

from .platform import Member, Platform
from .supervision import until

_NOT_YET = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART)


@dataclass(frozen=True, slots=True)
class Owned:
    """A dataset of a department that has topics and a registered schema."""

    platform: Platform
    member: Member
    dataset: Dataset
    schema_id: int
    connect: Callable[..., Publisher] = Publisher

    def publisher(self, **options: int) -> Publisher:
        return self.connect(self.platform.endpoints, self.member.credentials, self.dataset, self.schema_id, **options)

    def changes(self) -> list[Change]:
        """Everything on the changes topic, partition after partition."""
        return [Change(message) for message in _messages(self.platform, self.dataset)]

    def row(self, change: Change) -> dict[str, object] | None:
        """The row of a change, None for a deletion."""
        if change.value is None:
            return None
        schema_id, body = unframe(change.value)
        assert schema_id == self.schema_id
        return RowCodec(self.dataset.schema).decode(body)

    def count(self) -> int:
        """How many changes the topic holds."""
        with self.counting() as count:
            return count()

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        """Asks the broker again and again over one connection."""
        with closing(_consumer(self.platform)) as consumer:
            yield lambda: sum(end_offset(consumer, one) for one in _partitions(self.dataset))


class Change:
    """One record of a changes topic."""

    def __init__(self, message: Message) -> None:
        self.partition, self.offset = message.partition(), message.offset()
        self.key, self.value = message.key(), message.value()
        self.headers = dict(message.headers() or [])

    @cached_property
    def event(self) -> ChangeEvent:
        return parse_change(self.headers.items())


def own(platform: Platform, member: Member, dataset: Dataset) -> Owned:
    """Give the department a dataset like this one, with topics and a registered schema."""
    owned = replace(dataset, id=DatasetId(member.id, dataset.id.name))
    provision_dataset(platform.endpoints, platform.secrets, owned)
    with Registry(platform.endpoints.registry_url) as registry:
        schema_id = registry.register(value_subject(owned.id.changes), owned.schema)
    return Owned(platform, member, owned, schema_id)


def _messages(platform: Platform, dataset: Dataset) -> Iterator[Message]:
    with closing(_consumer(platform)) as consumer:
        for partition in _partitions(dataset):
            end = end_offset(consumer, partition)
            consumer.assign([TopicPartition(partition.topic, partition.partition, 0)])
            position = 0
            while position < end:
                for message in consumer.consume(min(10_000, end - position), timeout=10.0):
                    assert message.error() is None, message.error()
                    position = message.offset() + 1
                    yield message


def end_offset(consumer: Consumer, partition: TopicPartition) -> int:
    """Where a partition ends; one of a topic that was made a moment ago may have no leader yet."""
    ends: list[int] = []

    def answered() -> bool:
        try:
            ends.append(consumer.get_watermark_offsets(partition)[1])
        except KafkaException as fault:
            if fault.args[0].code() not in _NOT_YET:
                raise
            return False
        return True

    until(answered, f"the end of {partition.topic}")
    return ends[0]


def latest(changes: list[Change]) -> dict[bytes, Change]:
    """The last change of each key; a sequence with two values, or one that falls, fails."""
    last: dict[bytes, Change] = {}
    for change in changes:
        if change.key is None:
            continue
        before = last.get(change.key)
        if before is not None:
            assert change.event.sequence is not None
            assert before.event.sequence is not None
            again = change.event.sequence == before.event.sequence and change.value == before.value
            assert again or change.event.sequence > before.event.sequence
        last[change.key] = change
    return last


def _partitions(dataset: Dataset) -> list[TopicPartition]:
    return [TopicPartition(dataset.id.changes, number) for number in range(dataset.partitions)]


def _consumer(platform: Platform) -> Consumer:
    options = {"group.id": "platform.tests", "auto.offset.reset": "earliest"}
    return confluent_consumer(platform.endpoints, platform.secrets.read(OPERATOR), options)
