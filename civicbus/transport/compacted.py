"""A compacted topic of one partition as a table: the platform's catalogue and its agreements."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from civicbus.errors import Unavailable
from civicbus.names import Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_admin, confluent_consumer, confluent_producer
from civicbus.transport.faults import fault_of, translated
from civicbus.transport.partitions import LAST, Partition, offsets


class Follower:
    """Reads compacted topics to their ends, then says what changed since. Close it, or use ``with``."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials, topics: tuple[Topic, ...], group: str) -> None:
        self._endpoints, self._credentials = endpoints, credentials
        self._admin: AdminClient | None = None
        self._topics = topics
        self._tables: dict[Topic, dict[bytes, bytes]] = {topic: {} for topic in topics}
        self._behind = set(topics)
        self._positions = dict.fromkeys(topics, 0)
        # librdkafka wants a group even where none is joined; nothing is committed under it.
        options = {
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # The end of a topic is told by a fetch that waited in vain.
            "fetch.wait.max.ms": 100,
        }
        self._consumer = confluent_consumer(endpoints, credentials, options)
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics])

    def read_to_end(self, timeout_s: float = 30.0) -> dict[Topic, dict[bytes, bytes]]:
        """Every topic's current state; raises Unavailable where the end is not reached in ``timeout_s``."""
        waited = 0.0
        while self._behind and waited < timeout_s:
            if not self._poll(0.2):
                waited += 0.2
        if self._behind:
            raise Unavailable(f"could not read {', '.join(sorted(self._behind))} to the end in {timeout_s:.0f} s")
        return self._tables

    def changed(self) -> bool:
        """Whether anything changed since the last call; never waits."""
        changed = False
        while self._poll(0.0):
            changed = True
        return changed

    @property
    def positions(self) -> dict[Topic, int]:
        """How far each topic is read."""
        return dict(self._positions)

    def catch_up(self, timeout_s: float = 30.0) -> bool:
        """Whether anything changed, once all is read that is there now; raises Unavailable as ``read_to_end`` does."""
        with translated():
            ends = {
                topic: self._consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=timeout_s)[1]
                for topic in self._topics
            }
        return self._read_on(ends, timeout_s)

    def catch_up_at_once(self, topics: Sequence[Topic]) -> bool:
        """As ``catch_up`` of some topics, for who asks often: some milliseconds where there is nothing new.

        Their ends are asked for over another connection: on the follower's own the broker holds back every answer
        while it waits for what comes next.
        """
        if self._admin is None:
            self._admin = confluent_admin(self._endpoints, self._credentials)
        with translated():
            partitions = [Partition(topic, 0) for topic in topics]
            ends = offsets(self._admin, partitions, LAST, IsolationLevel.READ_COMMITTED)
        return self._read_on({partition.topic: end for partition, end in ends.items()}, 30.0)

    def _read_on(self, ends: Mapping[Topic, int], timeout_s: float) -> bool:
        changed = self.changed()
        deadline_s = time.monotonic() + timeout_s
        while any(self._positions[topic] < end for topic, end in ends.items()):
            changed |= self._poll(0.05)
            if time.monotonic() > deadline_s:
                raise Unavailable(f"could not read {', '.join(sorted(ends))} to the end in {timeout_s:.0f} s")
        return changed

    def table(self, topic: Topic) -> dict[bytes, bytes]:
        return self._tables[topic]

    def _poll(self, timeout_s: float) -> bool:
        message = self._consumer.poll(timeout_s)
        if message is None:
            return False
        topic = Topic(message.topic() or "")
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise fault_of(error)
            self._behind.discard(topic)
            self._positions[topic] = message.offset() or 0
            return False
        self._positions[topic] = (message.offset() or 0) + 1
        key, value = message.key(), message.value()
        if key is None:
            return True
        if value is None:
            self._tables[topic].pop(key, None)
        else:
            self._tables[topic][key] = value
        return True

    def close(self) -> None:
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_all(
    endpoints: Endpoints, credentials: Credentials, topic: Topic, group: str, timeout_s: float = 30.0
) -> dict[bytes, bytes]:
    """The current state of one compacted topic; raises Unavailable where it is not read in ``timeout_s``."""
    with Follower(endpoints, credentials, (topic,), group) as follower:
        return follower.read_to_end(timeout_s)[topic]


class Alone:
    """Looks at a topic and writes to it with nobody of the same ``name`` in between.

    How: a transaction under that name, which is fenced by the next one's beginning. Whoever was looking then writes
    nothing and is told so.
    """

    def __init__(self, endpoints: Endpoints, credentials: Credentials, name: str) -> None:
        """From now on, whoever of this name has not written yet never will."""
        self._producer = confluent_producer(endpoints, credentials, {"transactional.id": name})
        with translated():
            self._producer.init_transactions(30)
            self._producer.begin_transaction()

    def put(self, topic: Topic, key: bytes, value: bytes) -> None:
        """Write one row, once; raises Fenced where another one of the name began since."""
        with translated():
            self._producer.produce(topic, value, key, partition=0)
            self._producer.commit_transaction(30)


def put_all(
    endpoints: Endpoints, credentials: Credentials, topic: Topic, rows: Iterator[tuple[bytes, bytes | None]]
) -> int:
    """Write rows (None deletes) to a compacted topic; once the broker has them all, the offset after the last."""
    failed: list[KafkaError] = []
    offsets = [-1]

    def note(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error)
        else:
            offsets.append(message.offset() or 0)

    producer = confluent_producer(endpoints, credentials, {"delivery.timeout.ms": 30000})
    with translated():
        for key, value in rows:
            producer.produce(topic, value, key, partition=0, on_delivery=note)
        producer.flush()
    if failed:
        raise fault_of(failed[0])
    return max(offsets) + 1
