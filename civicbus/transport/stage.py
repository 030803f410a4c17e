"""What a stage of the data flow is to the loop that runs it: batches in, decisions out, and no Kafka in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import KafkaError, Message

from civicbus.events import Headers
from civicbus.names import AgreementId, Topic
from civicbus.transport.faults import fault_of
from civicbus.transport.partitions import Partition
from civicbus.transport.transactions import Output

ANY_PARTITION = -1
"""An output to whichever partition the key hashes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of one partition in offset order, field by field. ``end``: its end was seen, at this offset."""

    partition: Partition
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]
    timestamps_ms: list[int]
    offsets: list[int]
    end: int | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def position(self) -> int:
        """The offset after the last record, or that of the end where the batch saw it."""
        after_last = self.offsets[-1] + 1 if self.offsets else 0
        return max(after_last, self.end or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Where to begin with a partition: the outputs to read back first and the input, each from an offset.

    ``start`` None: from what the group committed.
    """

    outputs: Mapping[Partition, int]
    start: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """How far a stage has come between two transactions: what of each partition is in its memory.

    Of ``outputs`` at least that is; the others are exact.
    """

    inputs: Mapping[Partition, int]
    outputs: Mapping[Partition, int]
    followed: Mapping[Partition, int]


@dataclass(slots=True, kw_only=True)
class Step:
    """What a stage decided on some batches.

    ``touched``: the input partitions whose offsets go with the outputs. ``waiting``: input partitions that
    cannot go on now, with the offset to read again from. ``more``: there is work left that needs no input.
    ``fresh``: per agreement the times of the changes that this step makes visible.
    """

    outputs: list[Output] = field(default_factory=list)
    touched: set[Partition] = field(default_factory=set)
    waiting: dict[Partition, int] = field(default_factory=dict)
    more: bool = False
    fresh: dict[AgreementId, list[int]] = field(default_factory=dict)


class Stage(Protocol):
    """The rules of one stage, without Kafka. All calls come from one thread.

    Effects on memory may be applied at once: if a commit fails, the stage is thrown away.
    """

    def renew(self, *, to_the_end: bool) -> bool:
        """Take in rules that changed, waiting for the newest where ``to_the_end``; says whether any did."""

    def inputs(self) -> Sequence[Topic]:
        """The topics whose partitions the group divides among its workers."""

    def followed(self) -> Mapping[Partition, int]:
        """The partitions that every worker reads whole, each from an offset."""

    def outputs(self, partition: Partition) -> Mapping[Partition, int]:
        """The outputs of an open partition that are to be read back, each from an offset."""

    def open(self, partition: Partition) -> Opening:
        """A partition was assigned: what to read back before its input."""

    def restore(self, batch: Batch) -> None:
        """Records of an output, up to what was written before it was asked for."""

    def restored(self, output: Partition) -> None:
        """All of an output was read back."""

    def follow(self, batch: Batch) -> None:
        """Records of a followed partition."""

    def process(self, batches: Sequence[Batch]) -> Step:
        """Decide."""

    def committed(self, step: Step) -> None:
        """This step's outputs are visible now."""

    def close(self, partition: Partition) -> None:
        """A partition was revoked: forget it."""

    def wants_checkpoint(self) -> bool:
        """Whether the stage would keep what it holds now, if it knew how far that goes."""

    def checkpoint(self, positions: Positions) -> None:
        """Keep what is held; called when every effect of what was decided is visible."""


def batches_of(messages: Sequence[Message]) -> tuple[list[Batch], list[KafkaError]]:
    """The messages by partition, and the errors that pass by themselves; raises the others."""
    grouped: dict[Partition, list[Message]] = {}
    ends: dict[Partition, int] = {}
    passing: list[KafkaError] = []
    for message in messages:
        error = message.error()
        if error is None:
            place = (message.topic(), message.partition())
            try:
                grouped[place].append(message)  # type: ignore[index]  # equal to the Partition of the same words
            except KeyError:
                grouped[Partition(Topic(message.topic() or ""), message.partition() or 0)] = [message]
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[Partition(Topic(message.topic() or ""), message.partition() or 0)] = message.offset() or 0
        elif error.retriable() and not error.fatal():
            passing.append(error)
        else:
            raise fault_of(error)
    places = {**grouped, **ends}
    return [_batch(place, grouped.get(place, []), ends.get(place)) for place in places], passing


def _batch(partition: Partition, messages: Sequence[Message], end: int | None) -> Batch:
    return Batch(
        partition=partition,
        keys=list(map(Message.key, messages)),
        values=list(map(Message.value, messages)),
        headers=[headers if isinstance(headers, list) else [] for headers in map(Message.headers, messages)],
        timestamps_ms=[timestamp for _, timestamp in map(Message.timestamp, messages)],
        offsets=[offset or 0 for offset in map(Message.offset, messages)],
        end=end,
    )
