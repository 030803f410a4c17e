"""A bus in memory on which the real stages run: logs, transactions, crashes, hand-overs and compaction.

:class:`Worker` does what ``transport.exactly_once.Worker`` does with Kafka, step by step: a partition flows once its
outputs are read back and what it follows is no older than what another worker may have read; a step's outputs and
offsets become visible together or not at all; the group's generation fences who lost a partition; a crash forgets
the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from civicbus.errors import Unavailable
from civicbus.events import Headers
from civicbus.names import Topic
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import ANY_PARTITION, Batch, Stage, Step


class Fate(Enum):
    PENDING = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(eq=False)
class Transaction:
    """What one instance writes together. ``asked``: the coordinator was told to commit, and will, whoever dies."""

    name: str
    fate: Fate = Fate.PENDING
    asked: bool = False
    offsets: dict[Partition, int] = field(default_factory=dict)
    logs: set[Partition] = field(default_factory=set)


NONE = Transaction("no transaction", Fate.COMMITTED)


@dataclass(frozen=True)
class Entry:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    transaction: Transaction = NONE

    @property
    def visible(self) -> bool:
        return self.transaction.fate is Fate.COMMITTED


class Log:
    """``entries`` is what compaction left, of whatever fate; ``written`` all that ever was.

    ``end`` is that of a read-uncommitted reader; a transaction's decision takes an offset, too.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.written: list[Entry] = []
        self.end = 0

    @property
    def history(self) -> list[Entry]:
        """All that a read-committed reader could ever have seen."""
        return [entry for entry in self.written if entry.visible]

    @property
    def stable(self) -> int:
        """The end of a read-committed reader: it stops before the first transaction that is not decided."""
        pending = (entry.offset for entry in self.entries if entry.transaction.fate is Fate.PENDING)
        return min(pending, default=self.end)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        transaction: Transaction = NONE,
    ) -> None:
        entry = Entry(self.end, key, value, headers, timestamp_ms, transaction)
        self.entries.append(entry)
        self.written.append(entry)
        self.end += 1

    def read(self, start: int, limit: int | None = None) -> tuple[list[Entry], int, int | None]:
        """What a read-committed reader gets from an offset on, its position after, and the end where it saw it."""
        stable = self.stable
        found = [entry for entry in self.entries if start <= entry.offset < stable and entry.visible]
        if limit is not None and len(found) > limit:
            taken = found[:limit]
            return taken, taken[-1].offset + 1 if taken else start, None
        return found, max(start, stable), stable

    def compact(self) -> None:
        """Of what is decided the last of each key stays."""
        stable = self.stable
        last = {entry.key: entry.offset for entry in self.entries if entry.offset < stable and entry.visible}
        self.entries = [
            entry for entry in self.entries if entry.offset >= stable or last.get(entry.key) == entry.offset
        ]

    def state(self) -> dict[bytes, bytes]:
        """The latest row of each key."""
        rows: dict[bytes, bytes] = {}
        for entry in self.entries:
            if not entry.visible or entry.key is None:
                continue
            if entry.value is not None:
                rows[entry.key] = entry.value
            else:
                rows.pop(entry.key, None)
        return rows


class Bus:
    def __init__(self) -> None:
        self.logs: dict[Partition, Log] = {}
        self._committed: dict[Partition, int] = {}
        self._pending: list[Transaction] = []

    def log(self, partition: Partition) -> Log:
        return self.logs.setdefault(partition, Log())

    def begin(self, name: str) -> Transaction:
        transaction = Transaction(name)
        self._pending.append(transaction)
        return transaction

    def write(self, step: Step, transaction: Transaction) -> None:
        for to, key, value, headers, timestamp_ms in step.outputs:
            place = to if to.number != ANY_PARTITION else Partition(to.topic, 0)
            self.log(place).append(key, value, headers, timestamp_ms, transaction)
            transaction.logs.add(place)

    def decide(self, transaction: Transaction) -> None:
        """Commit what was asked to be, abort the rest; either leaves a mark in every log that it wrote to."""
        self._pending.remove(transaction)
        transaction.fate = Fate.COMMITTED if transaction.asked else Fate.ABORTED
        if transaction.asked:
            self._committed |= transaction.offsets
        for place in transaction.logs:
            self.log(place).end += 1

    def decide_all_of(self, name: str) -> None:
        """``init_transactions``: what an older instance of the name left behind is decided."""
        for transaction in [each for each in self._pending if each.name == name]:
            self.decide(transaction)

    def time_out(self) -> None:
        """So much time goes by that no transaction is open any more."""
        for transaction in list(self._pending):
            self.decide(transaction)

    def committed(self, partition: Partition) -> int:
        """The group's offset; waits for the transactions that have one for the partition."""
        for transaction in [each for each in self._pending if partition in each.offsets]:
            self.decide(transaction)
        return self._committed.get(partition, 0)


@dataclass
class Group:
    """Which partitions each member has. Every change is a new generation; a member is of the one that it heard of."""

    generation: int = 0
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def divide(self, numbers: Mapping[str, Iterable[int]], taken_for_dead: Iterable[str] = ()) -> None:
        self.generation += 1
        self.numbers |= {name: tuple(some) for name, some in numbers.items()}
        self.lost |= set(taken_for_dead)


class Death(Enum):
    """How far a transaction came when its process died."""

    BEFORE = auto()
    WRITTEN = auto()
    OFFSETS_SENT = auto()
    COMMIT_ASKED = auto()


@dataclass
class Opened:
    """A partition that a worker owns. ``awaited``: what is read up to an offset before its input flows."""

    outputs: set[Partition]
    awaited: dict[Partition, int]
    position: int


class Worker:
    """One member of a stage's group. ``down``: it died, and does nothing until it is restarted."""

    def __init__(
        self,
        bus: Bus,
        make_stage: Callable[[], Stage],
        numbers: Iterable[int],
        group: Group | None = None,
        name: str = "worker",
    ) -> None:
        self.name = name
        self.bus = bus
        self.group = Group() if group is None else group
        self.group.divide({name: numbers})
        self._make_stage = make_stage
        self.crash()

    # Its life.

    def crash(self) -> None:
        """Everything in memory is gone; another instance of the name takes its place in the group.

        One that cannot begin, because the registry does not answer, stays down.
        """
        self.bus.decide_all_of(self.name)
        self.stage = self._make_stage()
        self.opened: dict[Partition, Opened] = {}
        self.marks: dict[Partition, int] = {}
        self.restoring: dict[Partition, int] = {}
        self.followed: dict[Partition, int] = {}
        self.touched: set[Partition] = set()
        self.down = False
        try:
            self._adjust()
            self.hear()
        except Unavailable:
            self.down = True

    def hear(self) -> None:
        """The group's callbacks: what was taken away is forgotten first, what was given is opened."""
        self.generation = self.group.generation
        if self.name in self.group.lost:
            self.group.lost.remove(self.name)
            self._revoke(sorted(self.opened))
        self.topics = set(self.stage.inputs())
        self.stale: set[Topic] = set()
        wanted = {Partition(topic, number) for topic in self.topics for number in self.group.numbers[self.name]}
        self._revoke(sorted(self.opened.keys() - wanted))
        self._assign(sorted(wanted - self.opened.keys()))

    def _revoke(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._forget(self.opened.pop(partition).outputs)
            self.touched.discard(partition)
            self.stage.close(partition)

    def _assign(self, partitions: Iterable[Partition]) -> None:
        if partitions and self.stage.renew(to_the_end=True):
            self._adjust()
        inputs = self.stage.inputs()
        self.stale = {each.topic for each in partitions if each.topic not in inputs}
        for partition in [each for each in partitions if each.topic in inputs]:
            committed = self.bus.committed(partition)
            opening = self.stage.open(partition)
            marks = self._restore(opening.outputs)
            start = committed if opening.start is None else opening.start
            self.opened[partition] = Opened(set(opening.outputs), marks | self.behind(), start)

    def behind(self) -> dict[Partition, int]:
        """Up to where another worker may have read what this one follows."""
        ends = {followed: self.bus.log(followed).stable for followed in self.followed}
        return {followed: end for followed, end in ends.items() if end > self.followed[followed]}

    def _adjust(self) -> None:
        """What the stage wants to read now."""
        wanted = self.stage.followed()
        self.followed = {partition: self.followed.get(partition, start) for partition, start in wanted.items()}
        outputs = {partition: self.stage.outputs(partition) for partition in self.opened}
        for partition, opened in self.opened.items():
            self._forget(opened.outputs - outputs[partition].keys())
        for partition, opened in self.opened.items():
            new = {output: at for output, at in outputs[partition].items() if output not in opened.outputs}
            opened.outputs = set(outputs[partition])
            for unread in opened.awaited.keys() - opened.outputs - wanted.keys():
                del opened.awaited[unread]
            self._restore(new)

    # Reading.

    def mark(self, output: Partition) -> int:
        """How far an output is read back: to where a read-uncommitted reader sees its end."""
        return self.bus.log(output).end

    def _restore(self, outputs: Mapping[Partition, int]) -> dict[Partition, int]:
        marks = {output: self.mark(output) for output, start in outputs.items() if self.mark(output) > start}
        self.marks |= marks
        self.restoring |= {output: outputs[output] for output in marks}
        for output in outputs.keys() - marks.keys():
            self.stage.restored(output)
        return marks

    def _forget(self, outputs: Iterable[Partition]) -> None:
        for output in self.marks.keys() & set(outputs):
            del self.marks[output], self.restoring[output]

    def _read_beside(self, outputs: int | None, followed_limit: int | None) -> bool:
        """A share of every output that is read back and of every followed partition."""
        moved = False
        for output, mark in list(self.marks.items()):
            entries, position, end = self.bus.log(output).read(self.restoring[output], outputs)
            moved |= position > self.restoring[output]
            self.restoring[output] = position
            self.stage.restore(_batch(output, entries, end))
            if position >= mark:
                self._forget([output])
                self.stage.restored(output)
                self._no_longer_awaited(output, position)
        for followed, start in list(self.followed.items()):
            entries, position, end = self.bus.log(followed).read(start, followed_limit)
            moved |= position > start
            self.followed[followed] = position
            self.stage.follow(_batch(followed, entries, end))
            self._no_longer_awaited(followed, position)
        return moved

    def _no_longer_awaited(self, partition: Partition, position: int) -> None:
        for opened in self.opened.values():
            if position >= opened.awaited.get(partition, position + 1):
                del opened.awaited[partition]

    def _poll(self, limit: int | None) -> list[Batch]:
        batches = []
        for partition, opened in self.opened.items():
            if not opened.awaited:
                entries, opened.position, end = self.bus.log(partition).read(opened.position, limit)
                batches += [_batch(partition, entries, end)] if entries or end is not None else []
        return batches

    # Deciding.

    def turn(
        self,
        limit: int | None = None,
        outputs: int | None = None,
        followed: int | None = None,
        death: Death | None = None,
    ) -> bool:
        """One round over at most so many records of each partition of a kind; says whether it moved."""
        if self.down:
            return False
        try:
            self._renew()
            if self.stale & set(self.stage.inputs()):
                self.crash()
                return True
            moved = self._read_beside(outputs, followed)
            batches = self._poll(limit)
            step = self.stage.process(batches)
        except Unavailable:
            self.crash()
            return True
        for partition, offset in step.waiting.items():
            self.opened[partition].position = offset
        self.touched |= step.touched
        if step.outputs or any(map(len, batches)) or death:
            self.commit(step, batches, death)
        return moved or bool(step.outputs) or step.more or any(map(len, batches))

    def _renew(self) -> None:
        if self.stage.renew(to_the_end=False):
            self._adjust()
        if self.topics != set(self.stage.inputs()) and not self.stale & set(self.stage.inputs()):
            self.hear()

    def commit(self, step: Step, batches: list[Batch], death: Death | None) -> None:
        """One transaction."""
        self.transact(step, self.offered(batches), death)

    def transact(self, step: Step, offered: set[Partition], death: Death | None) -> bool:
        """Outputs, then offsets, then the commit; says whether it was committed.

        The group refuses the offsets of a member of an earlier generation, which makes the transaction fail.
        """
        if death is Death.BEFORE:
            return self._die()
        transaction = self.bus.begin(self.name)
        self.bus.write(step, transaction)
        if death is Death.WRITTEN:
            return self._die()
        if offered and self.generation != self.group.generation:
            self.crash()
            return False
        transaction.offsets |= {partition: self.opened[partition].position for partition in offered}
        self.touched.clear()
        transaction.asked = death is not Death.OFFSETS_SENT
        if death is not None:
            return self._die()
        self.bus.decide(transaction)
        self.stage.committed(step)
        return True

    def _die(self) -> bool:
        self.down = True
        return False

    def offered(self, batches: list[Batch]) -> set[Partition]:
        """Whose offsets go with the outputs: all that were touched, whether a record of theirs was read or not."""
        del batches
        return self.touched

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
