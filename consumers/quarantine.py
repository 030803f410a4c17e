"""A department's parked records: reading them, and sending them on again.

Promise: a redriven record is the refused one, byte for byte: key, value, headers (so the same event and the
same sequence) and time. Admission decides on it anew; what it refuses again is parked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from civicbus.consumers.inbox import partitions_of, read_all
from civicbus.errors import Unacceptable
from civicbus.events import UNSENDABLE_REASON
from civicbus.names import DatasetId, DepartmentId, Stage, Topic
from civicbus.quarantine import Parked, parse
from civicbus.transport.assigned import AssignedReader, Record
from civicbus.transport.resending import Resendable, Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A record of a quarantine topic; ``parked`` is None where it is not one that civicbus wrote."""

    dataset: DatasetId
    record: Record
    parked: Parked | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What became of a redriven record as far as can be seen: ``refused`` again, or not within the wait."""

    parked: Parked
    sent: Sent
    refused: Parked | None


def datasets(reader: AssignedReader, department: DepartmentId) -> list[DatasetId]:
    """The department's datasets that have a quarantine."""
    prefix = f"{Stage.QUARANTINE}.{department}."
    return [DatasetId(department, topic.removeprefix(prefix)) for topic in reader.topics(prefix)]


def kept(reader: AssignedReader, dataset: DatasetId) -> Iterator[Kept]:
    """Everything parked of a dataset now, oldest first in each partition."""
    for record in read_all(reader, partitions_of(reader, dataset.quarantine)):
        yield Kept(dataset=dataset, record=record, parked=_parked(record))


def why_not(parked: Parked, dataset: DatasetId) -> str | None:
    """Why a record cannot be redriven, if it cannot."""
    if parked.topic != dataset.changes:
        return "it was admitted and no view could use it; publish the record again"
    if any(name == UNSENDABLE_REASON for name, _ in parked.original_headers):
        return "the producer could not make a row of it; correct the source and publish it again"
    return None


def resendable(parked: Parked) -> Resendable:
    """The refused record as it was."""
    return Resendable(parked.original_key, parked.value, parked.original_headers, parked.timestamp_ms)


def outcomes(
    reader: AssignedReader,
    quarantine: Topic,
    parked: Sequence[Parked],
    send: Callable[[Sequence[Resendable]], Sequence[Sent]],
    wait_s: float,
) -> list[Redriven]:
    """Send records on again and watch the quarantine for those that are refused again."""
    partitions = partitions_of(reader, quarantine)
    reader.start(reader.ends(partitions))
    sent = send([resendable(each) for each in parked])
    refused = _refused_again(reader, set(sent), wait_s)
    reader.stop(partitions)
    return [Redriven(parked=each, sent=at, refused=refused.get(at)) for each, at in zip(parked, sent, strict=True)]


def _refused_again(reader: AssignedReader, sent: set[Sent], wait_s: float) -> dict[Sent, Parked]:
    """Those of the sent records that turn up in the quarantine, which names where they stood."""
    found: dict[Sent, Parked] = {}
    deadline = time.monotonic() + wait_s
    while found.keys() < sent and (left_s := deadline - time.monotonic()) > 0:
        for records in reader.read(min(left_s, 0.2)).records.values():
            again = [parked for record in records if (parked := _parked(record)) is not None]
            found |= {at: each for each in again if (at := Sent(each.partition, each.offset)) in sent}
    return found


def _parked(record: Record) -> Parked | None:
    try:
        return parse(record.value, record.headers)
    except Unacceptable:
        return None
