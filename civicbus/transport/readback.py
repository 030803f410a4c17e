"""Reads what a worker needs beside its share of the input: its own outputs back, and whole topics that it follows.

Promise: read-committed records in the order of each partition, from the offset that was asked for; no group is
joined and nothing is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog
from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient

from civicbus.transport.partitions import LAST, Partition, offsets
from civicbus.transport.stage import Batch, batches_of

log = structlog.get_logger()


class Readback:
    """The outputs still to be read back, each with its mark, and the followed partitions with their positions."""

    def __init__(self, consumer: Consumer, admin: AdminClient) -> None:
        self._consumer = consumer
        self._admin = admin
        self._marks: dict[Partition, int] = {}
        self._followed: dict[Partition, int] = {}

    @property
    def restoring(self) -> bool:
        """Whether an output is still to be read back."""
        return bool(self._marks)

    @property
    def idle(self) -> bool:
        return not self._marks and not self._followed

    def restore(self, wanted: Mapping[Partition, int]) -> dict[Partition, int]:
        """Read outputs back from an offset to where they end now; those with nothing to read are left out.

        The end is that of a read-uncommitted reader: it stands behind what a dying instance may have pending.
        """
        marks = offsets(self._admin, wanted, LAST, IsolationLevel.READ_UNCOMMITTED)
        new = {output: mark for output, mark in marks.items() if mark > wanted[output]}
        self._start({output: wanted[output] for output in new})
        self._marks |= new
        return new

    def follow(self, wanted: Mapping[Partition, int]) -> None:
        """Follow these partitions, each from an offset, and no others."""
        self._stop(self._followed.keys() - wanted.keys())
        new = {partition: start for partition, start in wanted.items() if partition not in self._followed}
        self._start(new)
        self._followed = {partition: self._followed.get(partition, start) for partition, start in wanted.items()}

    def behind(self) -> dict[Partition, int]:
        """The followed partitions that are not read to their end, and where a read-committed reader comes to it now."""
        ends = offsets(self._admin, self._followed, LAST, IsolationLevel.READ_COMMITTED)
        return {partition: end for partition, end in ends.items() if end > self._followed[partition]}

    @property
    def followed(self) -> Mapping[Partition, int]:
        """How far each followed partition was read."""
        return dict(self._followed)

    def forget(self, outputs: Iterable[Partition]) -> None:
        """Read these outputs no further."""
        leaving = self._marks.keys() & set(outputs)
        self._stop(leaving)
        for output in leaving:
            del self._marks[output]

    def read(self, most: int, timeout_s: float) -> tuple[list[Batch], list[Batch]]:
        """Batches of outputs, and batches of followed partitions."""
        batches, passing = batches_of(self._consumer.consume(most, timeout_s))
        for error in passing:
            log.warning("kafka_error", error=error.name())
        followed = [batch for batch in batches if batch.partition in self._followed]
        for batch in followed:
            self._followed[batch.partition] = max(self._followed[batch.partition], batch.position)
        return [batch for batch in batches if batch.partition in self._marks], followed

    def is_restored(self, batch: Batch) -> bool:
        """Whether an output was read up to its mark with this batch; it is read no further then."""
        if batch.position < self._marks[batch.partition]:
            return False
        del self._marks[batch.partition]
        self._stop([batch.partition])
        return True

    def _start(self, positions: Mapping[Partition, int]) -> None:
        if positions:
            self._consumer.incremental_assign([TopicPartition(*each, at) for each, at in positions.items()])

    def _stop(self, partitions: Iterable[Partition]) -> None:
        leaving = [TopicPartition(*partition) for partition in partitions]
        if leaving:
            self._consumer.incremental_unassign(leaving)
