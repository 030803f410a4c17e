"""A city on the bus in memory: departments that publish, agreements that come and go, and two workers for the views.

A history is a list of actions; after :meth:`City.drain` nothing is left to do, and ``support.promises`` says whether
what was promised holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from civicbus.errors import Unavailable
from civicbus.events import CAUSE, SEQUENCE, ChangeEvent, deleted, upserted
from civicbus.keys import KeyValue, record_key
from civicbus.names import DatasetId
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import frame
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.stream_apps.admission.stage import Admission
from civicbus.stream_apps.views.inbox import Inbox
from civicbus.stream_apps.views.stage import Renewed, Rules, Views
from civicbus.transport.partitions import Partition
from civicbus.transport.placing import places
from support.selects import (
    ENTERPRISES,
    FIELDS,
    KEYS,
    PARTITIONS,
    PEOPLE,
    PERMITS,
    SITES,
    Wish,
    dataset,
    schemas,
    view_of,
)
from support.simulation import Bus, Death, Group, Log, Worker

BEGINNING = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
A_TURN = timedelta(milliseconds=300)
TOO_MANY_ROUNDS = 200
# The keys of each dataset stand in both partitions.
RECORDS: dict[DatasetId, list[tuple[KeyValue, ...]]] = {
    PERMITS: [("a",), ("b",), ("d",)],
    ENTERPRISES: [("v",), ("x",), ("y",)],
    PEOPLE: [(1,), (2,), (3,)],
    SITES: [("n", 1), ("n", 2), ("s", 1)],
}
_ENTERPRISE, _PERSON = [None, "v", "x", "y"], [None, 1, 2, 3]
VALUES: dict[str, list[object]] = {
    **dict.fromkeys(("enterprise", "partner", "parent", "user"), _ENTERPRISE),
    **dict.fromkeys(("person", "owner"), _PERSON),
    "district": [None, "n", "s", "n"],
    "number": [None, 1, 2, 1],
}


class Unfulfilled(AssertionError):
    """A promise that was not kept."""


@dataclass(frozen=True)
class Publish:
    """A change of a record. ``picks`` choose its values; ``older``: so far its sequence is behind."""

    dataset: DatasetId
    record: int
    picks: tuple[int, ...]
    text: str | None
    deletion: bool = False
    older: int = 0
    schema: int = 0


@dataclass(frozen=True)
class Turn:
    """One round of a worker with small batches of each kind; ``death`` is where it dies, if it does."""

    worker: str
    limit: int
    outputs: int
    followed: int
    death: Death | None = None


@dataclass(frozen=True)
class Crash:
    worker: str


@dataclass(frozen=True)
class Compact:
    topics: str


@dataclass(frozen=True)
class Agree:
    """An agreement is new, or has another SELECT; ``wish`` None: it is revoked."""

    name: str
    wish: Wish | None


@dataclass(frozen=True)
class HandOver:
    """The first of the two workers has these partitions from now on, the other the rest.

    ``unaware``: one is taken for dead and does not know it, and the other has everything.
    """

    first: tuple[int, ...]
    unaware: str | None = None


@dataclass(frozen=True)
class TimeOut:
    """Transactions of the dead are aborted."""


@dataclass(frozen=True)
class Registry:
    answers: bool


@dataclass(frozen=True)
class Upgrade:
    """The catalogue gives every dataset a later schema."""


Action = Publish | Turn | Crash | Compact | Agree | HandOver | TimeOut | Registry | Upgrade


@dataclass(frozen=True)
class History:
    """``admitted``: changes go through admission; else they are records at once."""

    agreements: dict[str, Wish]
    actions: list[Action]
    admitted: bool = False


@dataclass
class Newest:
    """What is to be the record of a key: the first change of its highest sequence."""

    sequence: int = 0
    value: bytes | None = None


class Shapes:
    """The registry's schemas: two of each dataset, and one of every SELECT that ever was."""

    def __init__(self) -> None:
        self.by_id: dict[int, AvroSchema] = {}
        self.wishes: dict[int, Wish] = {}
        self._ids: dict[tuple[str, Wish], int] = {}
        for number, name in enumerate(KEYS):
            self.by_id |= {10 * number + version: schema for version, schema in enumerate(schemas(name))}

    def writer(self, name: DatasetId, version: int) -> int:
        return 10 * list(KEYS).index(name) + version

    def of_view(self, name: str, wish: Wish, schema: AvroSchema) -> int:
        schema_id = self._ids.setdefault((name, wish), 100 + len(self._ids))
        self.by_id[schema_id], self.wishes[schema_id] = schema, wish
        return schema_id


SHAPES = Shapes()


@cache
def writer(name: DatasetId, version: int) -> RowCodec:
    return RowCodec(schemas(name)[version])


@cache
def inbox_of(name: str, wish: Wish, versions: int) -> Inbox:
    view = view_of(name, wish, versions)
    schema_id = SHAPES.of_view(name, wish, view.output)
    return Inbox(view=view, schema_id=schema_id, codec=ColumnCodec(view.output), secret=name.encode())


@cache
def partition_of(key: bytes) -> int:
    return int(places([key], PARTITIONS)[0])


@dataclass
class City:
    """The bus, admission, and the views' two workers, made by ``views`` and run as ``loop``."""

    loop: type[Worker] = Worker
    views: type[Views] = Views
    agreements: dict[str, Wish] = field(default_factory=dict)
    admitted: bool = False

    def __post_init__(self) -> None:
        self.bus = Bus()
        self.now = BEGINNING
        self.answers = True
        self.versions = 1
        self.newest = {(name, key): Newest() for name, keys in RECORDS.items() for key in keys}
        self.topics = {view_of(name, wish, 1).topic for name, wish in self.agreements.items()}
        self._edition = 0
        group = Group()
        self.workers = {"admission": self.loop(self.bus, self._admission, range(PARTITIONS), name="admission")}
        for name, numbers in {"first": [0], "second": [1]}.items():
            self.workers[name] = self.loop(self.bus, self._views, numbers, group, name)

    # What its stages are made of.

    def _admission(self) -> Admission:
        edition = -1

        def renewed(*, to_the_end: bool) -> list[object] | None:
            nonlocal edition
            del to_the_end
            if edition == self.versions:
                return None
            edition = self.versions
            return [dataset(name, self.versions) for name in KEYS]

        datasets = [dataset(name, self.versions) for name in KEYS]
        return Admission(datasets, renewed, SHAPES.by_id.__getitem__, lambda: self.now)

    def _views(self) -> Views:
        return self.views(self._rules(), self._renewed(), self._schema_of, lambda: self.now)

    def _rules(self) -> Rules:
        inboxes = [inbox_of(name, wish, self.versions) for name, wish in self.agreements.items()]
        return Rules(datasets={name: dataset(name, self.versions) for name in KEYS}, inboxes=inboxes)

    def _renewed(self) -> Renewed:
        edition = self._edition

        def renewed(*, to_the_end: bool) -> Rules | None:
            nonlocal edition
            del to_the_end
            if edition == self._edition:
                return None
            edition = self._edition
            return self._rules()

        return renewed

    def _schema_of(self, schema_id: int) -> AvroSchema:
        if not self.answers:
            raise Unavailable("the registry does not answer")
        return SHAPES.by_id[schema_id]

    # What happens.

    def act(self, action: Action) -> None:
        self.now += A_TURN
        match action:
            case Publish():
                self.publish(action)
            case Turn():
                self.turn(action)
            case Crash():
                self.workers[action.worker].crash()
            case Compact():
                self.compact(action.topics)
            case Agree():
                self.agree(action)
            case HandOver():
                self.hand_over(action)
            case TimeOut():
                self.bus.time_out()
            case Registry():
                self.answers = action.answers
            case Upgrade():
                self.versions = 2
                self._edition += 1

    def publish(self, change: Publish) -> None:
        values = RECORDS[change.dataset][change.record]
        newest = self.newest[change.dataset, values]
        sequence = max(1, newest.sequence + 1 - change.older)
        value = None if change.deletion else self._value(change, values, sequence)
        key = record_key(values)
        if self.admitted:
            event = self._event(change, sequence)
            self._log(change.dataset.changes, key).append(key, value, event.headers(), 0)
        elif sequence > newest.sequence:
            headers = [(CAUSE, b"change"), (SEQUENCE, str(sequence).encode())]
            self._log(change.dataset.records, key).append(key, value, headers, self._now_ms())
        if sequence > newest.sequence:
            newest.sequence, newest.value = sequence, value

    def _event(self, change: Publish, sequence: int) -> ChangeEvent:
        kind = deleted if change.deletion else upserted
        name = change.dataset
        source = f"urn:civicbus:{name.department}"
        return ChangeEvent(id=f"change-{sequence}", source=source, type=kind(name), time=self.now, sequence=sequence)

    def _value(self, change: Publish, key: tuple[KeyValue, ...], sequence: int) -> bytes:
        name, version = change.dataset, min(change.schema, self.versions - 1)
        picks = dict(zip(FIELDS[name], change.picks, strict=False))
        row: dict[str, object] = {named: VALUES[named][pick] for named, pick in picks.items() if named in VALUES}
        row |= {"version": sequence, "text": change.text, "remark": "later"}
        row |= dict(zip(KEYS[name], key, strict=True))
        shown = {named: row[named] for named in schemas(name)[version].field_names}
        return frame(SHAPES.writer(name, version), writer(name, version).encode(shown))

    def _log(self, topic: str, key: bytes) -> Log:
        return self.bus.log(Partition(topic, partition_of(key)))

    def _now_ms(self) -> int:
        return int(self.now.timestamp() * 1000)

    def turn(self, turn: Turn) -> None:
        worker = self.workers[turn.worker]
        if worker.down and worker.group.numbers[worker.name]:
            worker.crash()
        worker.turn(turn.limit, turn.outputs, turn.followed, turn.death)

    def compact(self, topics: str) -> None:
        for partition, log in self.bus.logs.items():
            if partition.topic.startswith(topics):
                log.compact()

    def agree(self, change: Agree) -> None:
        self._edition += 1
        if change.wish is None:
            self.agreements.pop(change.name, None)
        else:
            self.agreements[change.name] = change.wish
            self.topics.add(view_of(change.name, change.wish, 1).topic)

    def hand_over(self, change: HandOver) -> None:
        first, second = self.workers["first"], self.workers["second"]
        everything = tuple(range(PARTITIONS))
        if change.unaware is not None:
            lost, given = (first, second) if change.unaware == "first" else (second, first)
            first.group.divide({lost.name: (), given.name: everything}, taken_for_dead=[lost.name])
            self._tell(given)
            return
        rest = tuple(number for number in everything if number not in change.first)
        first.group.divide({"first": change.first, "second": rest})
        self._tell(first)
        self._tell(second)

    def _tell(self, worker: Worker) -> None:
        """The worker's callbacks; what fails in one of them is a crash."""
        if worker.down:
            return
        try:
            worker.hear()
        except Unavailable:
            worker.crash()

    def drain(self) -> None:
        """Everybody is up and hears everything, until two rounds bring nothing more."""
        self.answers = True
        self.bus.time_out()
        for worker in self.workers.values():
            if worker.down:
                worker.crash()
        still = 0
        for _ in range(TOO_MANY_ROUNDS):
            self.now += 4 * A_TURN
            moved = [worker.turn() for worker in self.workers.values()]
            still = 0 if any(moved) else still + 1
            if still == 2:
                return
        raise Unfulfilled("the workers do not come to rest")

    # What can be seen.

    def logs(self, topic: str) -> list[Log]:
        return [log for partition, log in self.bus.logs.items() if partition.topic == topic]

    def state(self, topic: str) -> dict[bytes, bytes]:
        return {key: value for log in self.logs(topic) for key, value in log.state().items()}


def live(history: History, make: Callable[[History], City]) -> City:
    """A city after this history, and after everything that follows from it."""
    city = make(history)
    for action in history.actions:
        city.act(action)
    city.drain()
    return city
