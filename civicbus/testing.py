"""A bus in memory, for the unit tests of those who publish with civicbus.

Promise: a publisher of :class:`FakeBus` is ``producers.publisher.Publisher`` itself and admission is its own stage, so
that what is refused here is refused there, for the same reason; one suite of tests runs over both
(``tests/contract``). What it has not: partitions (each topic has one), rights, other departments' processes.

It stands above the stream apps and below the commands, since it needs the publisher and admission at once; nothing
but the commands and tests imports it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.events import ChangeEvent, Headers, parse_change
from civicbus.names import DatasetId
from civicbus.producers.outlet import Receipt
from civicbus.producers.publisher import Publisher
from civicbus.producers.spool import Spool
from civicbus.producers.spooling import SPOOL_BYTES, Spooling
from civicbus.quarantine import Parked
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset
from civicbus.stream_apps.admission.trial import Trial, Tried
from civicbus.transport.outgoing import DELIVERY_S, IN_FLIGHT_BYTES, Position, size_of, unacknowledged
from civicbus.transport.promises import Promise

__all__ = ["Arrived", "FakeBus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A change as it stands on its topic; ``row`` is None for a deletion and for the report of an unsendable row."""

    key: bytes | None
    row: dict[str, object] | None
    event: ChangeEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnItsWay:
    outlet: _FakeOutlet
    dataset: Dataset
    change: Tried
    promise: Promise
    size: int


class FakeBus:
    """Topics, records and quarantine of some datasets in memory. Safe to use from several threads."""

    def __init__(self, *datasets: Dataset, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._datasets = {dataset.id: dataset for dataset in datasets}
        self._trial = Trial(datasets, clock)
        self._news = threading.Condition()
        self._on_their_way: deque[_OnItsWay] = deque()
        self._arrived: dict[DatasetId, list[Tried]] = {dataset.id: [] for dataset in datasets}
        self._records: dict[DatasetId, dict[bytes, bytes]] = {dataset.id: {} for dataset in datasets}
        self._parked: dict[DatasetId, list[Parked]] = {dataset.id: [] for dataset in datasets}
        self._away = False
        self._held = False

    def publisher(
        self,
        dataset: Dataset,
        *,
        spool: Path | None = None,
        spool_bytes: int = SPOOL_BYTES,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
    ) -> Publisher:
        """As ``Publisher.at``; raises Unavailable while the bus is away, unless there is a spool."""
        if dataset.id not in self._datasets:
            raise ConfigurationError(f"this bus has no {dataset.id}", mend="name it when the FakeBus is made")
        schema_id = self._trial.schema_id(dataset.id)
        if spool is None:
            return Publisher.over(self._connect(dataset, in_flight_bytes), dataset, schema_id)
        held = Spool(spool, dataset.id)
        outlet = Spooling(held, lambda: self._connect(dataset, in_flight_bytes), limit_bytes=spool_bytes)
        return Publisher.over(outlet, dataset, schema_id, last_sequence=held.last_sequence)

    def go_away(self) -> None:
        """Acknowledge nothing from now on, and let nobody connect."""
        with self._news:
            self._away = True

    def come_back(self) -> None:
        """Take what is on its way, and go on."""
        with self._news:
            self._away = False
            self.deliver()

    def hold(self) -> None:
        """Be slow: take what comes, and acknowledge nothing until :meth:`release`."""
        with self._news:
            self._held = True

    def release(self) -> None:
        """Acknowledge what was held, and go on."""
        with self._news:
            self._held = False
            self.deliver()

    def changes(self, dataset: Dataset) -> list[Arrived]:
        """Everything on the changes topic, in order."""
        codec = RowCodec(dataset.schema)
        with self._news:
            return [_read(codec, change) for change in self._arrived[dataset.id]]

    def records(self, dataset: Dataset) -> dict[str, dict[str, object]]:
        """What admission has let in: the current row of each record, by its key."""
        codec = RowCodec(dataset.schema)
        with self._news:
            return {key.decode(): codec.decode(unframe(row)[1]) for key, row in self._records[dataset.id].items()}

    def parked(self, dataset: Dataset) -> list[Parked]:
        """What admission has refused, in order, with reason and field."""
        with self._news:
            return list(self._parked[dataset.id])

    def deliver(self) -> None:
        """Take what is on its way, if the bus answers. Called by whoever puts something on its way."""
        with self._news:
            while self._on_their_way and not (self._away or self._held):
                self._take(self._on_their_way.popleft())
            self._news.notify_all()

    def _connect(self, dataset: Dataset, in_flight_bytes: int) -> _FakeOutlet:
        with self._news:
            if self._away:
                raise Unavailable("the fake bus is away")
        return _FakeOutlet(self._news, self._on_their_way, self.deliver, dataset, in_flight_bytes)

    def _take(self, one: _OnItsWay) -> None:
        dataset = one.dataset.id
        self._arrived[dataset].append(one.change)
        decided = self._trial.decide(dataset, [one.change])
        self._parked[dataset] += decided.parked
        for _, key, value, _, _ in decided.records:
            if value is None:
                self._records[dataset].pop(key, None)
            else:
                self._records[dataset][key] = value
        one.promise.settle(Position(0, len(self._arrived[dataset]) - 1))


class _FakeOutlet:
    """Puts the changes of one publisher on their way."""

    def __init__(
        self,
        news: threading.Condition,
        on_their_way: deque[_OnItsWay],
        deliver: Callable[[], None],
        dataset: Dataset,
        limit: int,
    ) -> None:
        self._news = news
        self._all = on_their_way
        self._deliver = deliver
        self._dataset = dataset
        self._limit = limit

    def send(
        self, *, key: bytes | None, value: bytes | None, headers: Headers, event_id: str, sequence: int | None
    ) -> Receipt:
        promise = Promise(event_id, sequence)
        size = size_of(key, value)
        change = Tried(key=key, value=value, headers=headers)
        with self._news:
            if not self._news.wait_for(lambda: self._has_room(size), DELIVERY_S):
                raise Unavailable(f"the broker has acknowledged nothing for {DELIVERY_S:g} s")
            self._all.append(_OnItsWay(outlet=self, dataset=self._dataset, change=change, promise=promise, size=size))
            self._deliver()
        return promise

    def would_wait(self, size: int) -> bool:
        with self._news:
            return not self._has_room(size_of(None, None) + size)

    def waiting(self) -> int:
        with self._news:
            return len(self._mine())

    def flush(self, timeout_s: float) -> None:
        with self._news:
            if self._news.wait_for(lambda: not self._mine(), timeout_s):
                return
            raise unacknowledged([one.promise for one in self._mine()], timeout_s)

    def close(self) -> None:
        try:
            self.flush(DELIVERY_S)
        finally:
            self.give_up()

    def give_up(self) -> None:
        with self._news:
            for one in self._mine():
                self._all.remove(one)
                one.promise.settle(Unavailable("the publisher was closed"))

    def topic_id(self) -> str:
        return str(self._dataset.id.changes)

    def _mine(self) -> list[_OnItsWay]:
        return [one for one in self._all if one.outlet is self]

    def _has_room(self, size: int) -> bool:
        mine = self._mine()
        return not mine or sum(one.size for one in mine) + size <= self._limit


def _read(codec: RowCodec, change: Tried) -> Arrived:
    framed = change.value is not None and change.key is not None
    row = codec.decode(unframe(change.value or b"")[1]) if framed else None
    return Arrived(key=change.key, row=row, event=parse_change(change.headers))
