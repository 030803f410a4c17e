"""A bus in memory on which the real stages run: logs, transactions, crashes, hand-overs and compaction.

It does what ``transport.exactly_once.Worker`` does with Kafka, step by step: a partition is opened by restoring
its outputs, a step's outputs and offsets become visible together or not at all, and a crash forgets the stage.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from civicbus.events import Headers
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import ANY_PARTITION, Batch, Stage, Step


@dataclass(frozen=True)
class Entry:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


@dataclass
class Log:
    """``entries`` is what compaction left; ``history`` is all that a reader could ever have seen."""

    entries: list[Entry] = field(default_factory=list)
    history: list[Entry] = field(default_factory=list)

    def append(self, key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int) -> None:
        entry = Entry(len(self.history), key, value, headers, timestamp_ms)
        self.entries.append(entry)
        self.history.append(entry)

    def compact(self) -> None:
        last = {entry.key: entry.offset for entry in self.entries}
        self.entries = [entry for entry in self.entries if last[entry.key] == entry.offset]

    def state(self) -> dict[bytes, bytes]:
        rows: dict[bytes, bytes] = {}
        for entry in self.entries:
            if entry.key is not None and entry.value is not None:
                rows[entry.key] = entry.value
            elif entry.key is not None:
                rows.pop(entry.key, None)
        return rows


class Bus:
    def __init__(self) -> None:
        self.logs: dict[Partition, Log] = {}
        self.committed: dict[Partition, int] = {}

    def log(self, partition: Partition) -> Log:
        return self.logs.setdefault(partition, Log())


class Worker:
    """One member of a stage's group, with the partitions that the group gave it.

    Its reading of followed partitions is a share of what stands in them; the end is told with the last of it.
    """

    def __init__(self, bus: Bus, make_stage: Callable[[], Stage], numbers: Iterable[int]) -> None:
        self._bus = bus
        self._make_stage = make_stage
        self._numbers = tuple(numbers)
        self.crash()

    def crash(self) -> None:
        """Everything in memory is gone; the partitions are opened again."""
        self._stage = self._make_stage()
        self._positions: dict[Partition, int] = {}
        self._followed: dict[Partition, int] = {}
        self._outputs: dict[Partition, set[Partition]] = {}
        self._touched: set[Partition] = set()
        self.adjust()

    def own(self, numbers: Iterable[int]) -> None:
        """A rebalance: these partitions of every input are this worker's from now on."""
        self._numbers = tuple(numbers)
        self.adjust()

    def adjust(self) -> None:
        """Take in changed rules, and open and close what is to be read now."""
        self._stage.renew(to_the_end=True)
        wanted = {Partition(topic, number) for topic in self._stage.inputs() for number in self._numbers}
        for partition in self._positions.keys() - wanted:
            del self._positions[partition], self._outputs[partition]
            self._touched.discard(partition)
            self._stage.close(partition)
        self._follow()
        for partition in sorted(wanted - self._positions.keys()):
            self._open(partition)
        for partition, known in self._outputs.items():
            outputs = self._stage.outputs(partition)
            for output in outputs.keys() - known:
                self._restore(output, outputs[output])
            self._outputs[partition] = set(outputs)

    def _open(self, partition: Partition) -> None:
        opening = self._stage.open(partition)
        for output, start in opening.outputs.items():
            self._restore(output, start)
        self._outputs[partition] = set(opening.outputs)
        for followed in self._followed:  # up to where another worker may have read them
            self._read_followed(followed, None)
        self._positions[partition] = self._bus.committed.get(partition, 0) if opening.start is None else opening.start

    def _restore(self, output: Partition, start: int) -> None:
        entries = [entry for entry in self._bus.log(output).entries if entry.offset >= start]
        if entries:
            self._stage.restore(_batch(output, entries, None))
        self._stage.restored(output)

    def _follow(self) -> None:
        wanted = self._stage.followed()
        self._followed = {partition: self._followed.get(partition, start) for partition, start in wanted.items()}

    def _read_followed(self, partition: Partition, limit: int | None) -> bool:
        log = self._bus.log(partition)
        entries = [entry for entry in log.entries if entry.offset >= self._followed[partition]]
        taken = entries[:limit]
        end = len(log.history) if len(taken) == len(entries) else None
        if taken:
            self._followed[partition] = taken[-1].offset + 1
        self._stage.follow(_batch(partition, taken, end))
        return bool(taken)

    def turn(self, limit: int = 1_000, *, lose_commit: bool = False) -> bool:
        """One round over at most ``limit`` records a partition; says whether there was anything to do."""
        followed = [self._read_followed(partition, limit) for partition in self._followed]
        batches = [batch for partition in self._positions if (batch := self._read(partition, limit)) is not None]
        step = self._stage.process(batches)
        self._touched |= step.touched
        if lose_commit:
            self.crash()
            return True
        self._commit(step)
        return bool(step.outputs or step.more or any(followed) or any(len(batch) for batch in batches))

    def _read(self, partition: Partition, limit: int) -> Batch | None:
        log = self._bus.log(partition)
        entries = [entry for entry in log.entries if entry.offset >= self._positions[partition]]
        taken = entries[:limit]
        end = len(log.history) if len(taken) == len(entries) else None
        if taken:
            self._positions[partition] = taken[-1].offset + 1
        return _batch(partition, taken, end) if taken or end is not None else None

    def _commit(self, step: Step) -> None:
        for to, key, value, headers, timestamp_ms in step.outputs:
            place = to if to.number != ANY_PARTITION else Partition(to.topic, 0)
            self._bus.log(place).append(key, value, headers, timestamp_ms)
        for partition in self._touched:
            self._bus.committed[partition] = self._positions[partition]
        self._touched.clear()
        self._stage.committed(step)

    def drain(self) -> None:
        while self.turn():
            pass


def _batch(partition: Partition, entries: list[Entry], end: int | None) -> Batch:
    return Batch(
        partition=partition,
        keys=[entry.key for entry in entries],
        values=[entry.value for entry in entries],
        headers=[entry.headers for entry in entries],
        timestamps_ms=[entry.timestamp_ms for entry in entries],
        offsets=[entry.offset for entry in entries],
        end=end,
    )
