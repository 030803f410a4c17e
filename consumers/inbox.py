"""Follows one topic and decodes its rows: what `civicbus inbox tail` shows, as a program sees it.

Promise: every read-committed record from the chosen start, in each partition's order, deletions included; a
record that cannot be decoded is shown with the reason in place of its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from civicbus.errors import Unacceptable
from civicbus.names import Topic
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.registry import Registry
from civicbus.transport.assigned import AssignedReader, Record
from civicbus.transport.partitions import Partition

POLL_TIMEOUT_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRow:
    """A record with its row; None where the record is a deletion, or where ``fault`` says why there is none."""

    record: Record
    row: Mapping[str, object] | None
    fault: Unacceptable | None = None


class RowReader:
    """Decodes framed values one by one; keeps a codec for each schema."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._codecs: dict[int, RowCodec] = {}

    def row(self, value: bytes) -> Mapping[str, object]:
        """Raises Unacceptable where the value is no row of a known schema."""
        schema_id, body = unframe(value)
        if schema_id not in self._codecs:
            self._codecs[schema_id] = RowCodec(self._registry.schema(schema_id))
        return self._codecs[schema_id].decode(body)

    def read(self, record: Record) -> InboxRow:
        if record.value is None:
            return InboxRow(record=record, row=None)
        try:
            return InboxRow(record=record, row=self.row(record.value))
        except Unacceptable as fault:
            return InboxRow(record=record, row=None, fault=fault)


def partitions_of(reader: AssignedReader, topic: Topic) -> list[Partition]:
    """The partitions of a topic; none where there is no such topic, or no right to see it."""
    found = reader.describe([topic]).get(topic) if topic in reader.topics(topic) else None
    return [] if found is None else [Partition(topic, number) for number in range(found.partitions)]


def follow(reader: AssignedReader, partitions: list[Partition], *, from_start: bool) -> Iterator[Record]:
    """The records as they come, without end."""
    reader.start(reader.first_offsets(partitions) if from_start else reader.ends(partitions))
    while True:
        reading = reader.read(POLL_TIMEOUT_S)
        for fault in reading.faults.values():
            raise fault
        for records in reading.records.values():
            yield from records


def read_all(reader: AssignedReader, partitions: list[Partition]) -> Iterator[Record]:
    """The records that are there now."""
    unended = set(partitions)
    reader.start(reader.first_offsets(partitions))
    while unended:
        reading = reader.read(POLL_TIMEOUT_S)
        for fault in reading.faults.values():
            raise fault
        for records in reading.records.values():
            yield from records
        unended -= reading.ends.keys()
    reader.stop(partitions)
