"""Consume, transform, produce in Kafka transactions: the plain confluent-kafka loop that raw and loop share."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from task import COMMIT_EVERY_S, Task

Output = tuple[str, bytes, bytes, int, list[tuple[str, bytes]]]
Transform = Callable[[Message], Iterable[Output]]

BATCH = 5_000
READING = {
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "queued.max.messages.kbytes": 65_536,
    "fetch.wait.max.ms": 100,
}
WRITING = {
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1_048_576,
}


def run(task: Task, topics: list[str], transform: Transform, between: Callable[[], None] = lambda: None) -> None:
    """Until SIGTERM. ``between`` is called between batches."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    consumer = Consumer(task.librdkafka() | READING | {"group.id": task.group})
    producer = Producer(task.librdkafka() | WRITING | {"transactional.id": task.group})
    producer.init_transactions(30)
    consumer.subscribe(topics)
    loop = _Loop(consumer, producer, transform)
    while not stopped:
        between()
        loop.turn()
    consumer.close()


class _Loop:
    def __init__(self, consumer: Consumer, producer: Producer, transform: Transform) -> None:
        self._consumer, self._producer, self._transform = consumer, producer, transform
        self._positions: dict[tuple[str, int], int] = {}
        self._began_s = 0.0

    def turn(self) -> None:
        """A batch, and a commit when the last one is long enough ago."""
        messages = [message for message in self._consumer.consume(BATCH, 0.05) if message.error() is None]
        if messages and not self._positions:
            self._producer.begin_transaction()
            self._began_s = time.monotonic()
        for message in messages:
            for output in self._transform(message):
                self._produce(output)
            self._positions[message.topic(), message.partition()] = message.offset() + 1
        self._producer.poll(0)
        if self._positions and time.monotonic() - self._began_s >= COMMIT_EVERY_S:
            self._commit()

    def _produce(self, output: Output) -> None:
        topic, key, value, partition, headers = output
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
                break
            except BufferError:
                self._producer.poll(0.05)

    def _commit(self) -> None:
        offsets = [TopicPartition(*place, offset) for place, offset in self._positions.items()]
        self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata())
        self._producer.commit_transaction()
        self._positions.clear()


def whole(task: Task, topic: str) -> tuple[Consumer, Iterator[Any]]:
    """A consumer of all partitions of a topic from their start, and everything that stands in it now."""
    consumer = Consumer(task.librdkafka() | READING | {"group.id": f"{task.group}.table", "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    return consumer, _to_the_end(consumer, len(partitions))


def _to_the_end(consumer: Consumer, partitions: int) -> Iterator[Message]:
    ended = 0
    while ended < partitions:
        for message in consumer.consume(BATCH, 1.0):
            if message.error() is None:
                yield message
            else:
                ended += 1
