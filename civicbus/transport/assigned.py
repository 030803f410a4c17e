"""Reads partitions that the caller assigns, from positions that the caller keeps; joins no group, commits nothing.

Promise: only read-committed records, in the order of each partition; a position that is gone is told, never
replaced by another; one partition's fault does not stop the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from civicbus.errors import CivicbusError
from civicbus.events import Headers
from civicbus.names import Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_admin, confluent_consumer, gathered
from civicbus.transport.faults import fault_of, translated
from civicbus.transport.partitions import (
    FIRST,
    LAST,
    REQUEST_TIMEOUT_S,
    Partition,
    TopicId,
    TopicIdentity,
    identities,
    offsets,
)

__all__ = ["AssignedReader", "Reading", "Record", "TopicId", "TopicIdentity"]


class Record(NamedTuple):
    """One record as it stands in its partition."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one read brought. ``ends``: partitions read to their end, and where it is. ``lost``: partitions
    whose position is gone. ``faults``: topics that cannot be read, and why."""

    records: dict[Topic, list[Record]] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)
    lost: set[Partition] = field(default_factory=set)
    faults: dict[Topic, CivicbusError] = field(default_factory=dict)


class AssignedReader:
    """Close it, or use ``with``. ``group`` must be one that the credentials may describe; it is never joined."""

    def __init__(
        self, endpoints: Endpoints, credentials: Credentials, *, group: str, batch_records: int = 10_000
    ) -> None:
        self._batch_records = batch_records
        self._admin: AdminClient = confluent_admin(endpoints, credentials)
        self._consumer: Consumer = confluent_consumer(
            endpoints,
            credentials,
            {
                "group.id": group,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 32_768,
                "fetch.queue.backoff.ms": 10,
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 100,
                "max.poll.interval.ms": 86_400_000,  # a database that is down for hours stops the polling
            },
        )

    def topics(self, prefix: str) -> list[Topic]:
        """The topics that these credentials may see and whose names start with ``prefix``."""
        with translated():
            seen = self._consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        return sorted(Topic(name) for name, topic in seen.items() if name.startswith(prefix) and topic.error is None)

    def describe(self, topics: Sequence[Topic]) -> dict[Topic, TopicIdentity]:
        """Ids and numbers of partitions; a topic that was deleted meanwhile is left out."""
        with translated():
            return identities(self._admin, topics)

    def first_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition starts now."""
        return self._offsets(partitions, FIRST)

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where a read-committed reader comes to the end of each partition now."""
        return self._offsets(partitions, LAST)

    def written_ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition ends with what is not committed yet, which this reader comes to only once it is."""
        return self._offsets(partitions, LAST, IsolationLevel.READ_UNCOMMITTED)

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """How far the group has committed each partition; 0 where it has not."""
        with translated():
            found = self._consumer.committed([TopicPartition(*each) for each in partitions], timeout=REQUEST_TIMEOUT_S)
        return {Partition(Topic(each.topic), each.partition): max(0, each.offset) for each in found}

    def start(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions too, from these offsets."""
        with translated():
            self._consumer.incremental_assign([TopicPartition(*partition, at) for partition, at in positions.items()])

    def stop(self, partitions: Iterable[Partition]) -> None:
        """Read these partitions no more; nothing of them comes after this call."""
        assigned = {Partition(Topic(each.topic), each.partition) for each in self._consumer.assignment()}
        leaving = [TopicPartition(*partition) for partition in partitions if partition in assigned]
        if leaving:
            with translated():
                self._consumer.incremental_unassign(leaving)

    def read(self, timeout_s: float, *, not_before: float = 0.0) -> Reading:
        """What is there now, see :func:`gathered`."""
        messages = gathered(self._consumer, self._batch_records, timeout_s, not_before)
        reading = Reading()
        for message in messages:
            error = message.error()
            if error is None:
                reading.records.setdefault(Topic(message.topic() or ""), []).append(_record(message))
            else:
                _note(error, message, reading)
        return reading

    def _offsets(
        self,
        partitions: Iterable[Partition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> dict[Partition, int]:
        with translated():
            return offsets(self._admin, partitions, spec, isolation)

    def close(self) -> None:
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _record(message: Message) -> Record:
    headers = message.headers()
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        headers if isinstance(headers, list) else [],
    )


def _note(error: KafkaError, message: Message, reading: Reading) -> None:
    """Put an event that is no record where it belongs; raises what concerns more than one topic."""
    name = message.topic()
    code = error.code()
    if name is None:
        if not error.retriable() or error.fatal():
            raise fault_of(error)
        return
    partition = Partition(Topic(name), message.partition() or 0)
    if code == KafkaError._PARTITION_EOF:
        reading.ends[partition] = message.offset() or 0
    elif code == KafkaError._AUTO_OFFSET_RESET:
        reading.lost.add(partition)
    else:
        reading.faults[partition.topic] = fault_of(error)
