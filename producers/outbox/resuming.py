"""Which rows of an outbox the broker has already, where a relay was killed before it deleted them.

Two versions of a record that were published and are published again would not be dropped: the first of them is
older than the second, so it would be parked. The department reads its own changes behind the last settled ones
and finds the events of its rows there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from civicbus.errors import Unacceptable, Unavailable
from civicbus.events import parse_change
from civicbus.names import Topic
from civicbus.transport.assigned import AssignedReader, Record
from civicbus.transport.partitions import Partition

READ_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesTopic:
    """A changes topic as it is now; a topic that was made anew has another id."""

    name: Topic
    id: str
    ends: Mapping[int, int]


def look_at(reader: AssignedReader, topic: Topic) -> ChangesTopic:
    """Raises Unavailable where the topic is not there."""
    identity = reader.describe([topic]).get(topic)
    if identity is None:
        raise Unavailable(f"{topic} is not there", mend="run `civicbus catalogue apply`")
    ends = reader.ends([Partition(topic, number) for number in range(identity.partitions)])
    return ChangesTopic(name=topic, id=identity.id, ends={partition.number: end for partition, end in ends.items()})


def events_since(reader: AssignedReader, topic: ChangesTopic, settled: Mapping[int, int]) -> dict[str, datetime]:
    """The id and the time of every event behind these positions."""
    behind = {Partition(topic.name, number): at for number, at in settled.items() if at < topic.ends.get(number, 0)}
    first = reader.first_offsets(behind)
    reader.start({partition: max(at, first[partition]) for partition, at in behind.items()})
    found: dict[str, datetime] = {}
    waited_s = 0.0
    left = {partition for partition in behind if first[partition] < topic.ends[partition.number]}
    while left and waited_s < READ_WITHIN_S:
        reading = reader.read(0.5)
        waited_s += 0.0 if reading.records else 0.5
        found |= dict(_events(reading.records.get(topic.name, ())))
        left -= {partition for partition, end in reading.ends.items() if end >= topic.ends[partition.number]}
    reader.stop(behind)
    if left:
        raise Unavailable(f"{topic.name} could not be read to its end in {READ_WITHIN_S:.0f} s")
    return found


def _events(records: Iterable[Record]) -> Iterator[tuple[str, datetime]]:
    """The events of these records; what is none was sent by somebody else, and admission parks it."""
    for record in records:
        with suppress(Unacceptable):
            event = parse_change(record.headers)
            yield event.id, event.time
