"""Engines and loops that are wrong on purpose, each in one way in which such a thing is easily built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from civicbus.stream_apps.views.dirty import Lot
from civicbus.stream_apps.views.inbox import Sent, Written
from civicbus.stream_apps.views.joined import Joined
from civicbus.stream_apps.views.rows import NOWHERE, Ints
from civicbus.stream_apps.views.source import Source
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Batch, Step
from civicbus.transport.transactions import Output
from support.simulation import Bus, Death, Worker


@dataclass(frozen=True)
class Mistake:
    """``loop``: the worker's loop that makes it; ``patches``: what of the engine is replaced, by class and name."""

    loop: type[Worker] = Worker
    patches: tuple[tuple[type, str, object], ...] = ()


class OffsetsFirst(Worker):
    """Offsets are committed, then outputs."""

    def commit(self, step: Step, batches: list[Batch], death: Death | None) -> None:
        if self.transact(Step(), set(self.offered(batches)), None):
            self.transact(step, set(), death)


class ToTheLastStableOffset(Worker):
    """Outputs are read back to where a read-committed reader sees their end, in front of what is pending."""

    def mark(self, output: Partition) -> int:
        return self.bus.log(output).stable


class OnlyWhatWasRead(Worker):
    """A transaction that only joined records made necessary carries no offsets, so that nothing fences it."""

    def offered(self, batches: list[Batch]) -> set[Partition]:
        return {batch.partition for batch in batches if len(batch)} & self.touched


class JoinedAsTheyAre(Worker):
    """A partition flows before joined datasets are read to where its last owner may have read them."""

    def behind(self) -> dict[Partition, int]:
        return {}


class NothingReadBack(Worker):
    """Inboxes are not read. ``known`` is the bus of the last one that was made."""

    known: ClassVar[Bus]

    def crash(self) -> None:
        NothingReadBack.known = self.bus
        super().crash()

    def _restore(self, outputs: Mapping[Partition, int]) -> dict[Partition, int]:
        for output in outputs:
            self.stage.restored(output)
        return {}


def nothing(*_: object) -> None:
    """Not done."""


def no_outputs(*_: object) -> list[Output]:
    return []


def inferred(source: Source, lot: Lot, now_ms: int) -> Written:
    """Rows that are evaluated because a partition opens count as sent where they stand before the committed offset."""
    records = source.dataset.id.records
    places = [Partition(records, number) for number in source.rows.partitions.array[lot.slots].tolist()]
    committed = np.array([NothingReadBack.known.committed(place) for place in places], np.int64)
    old = ~lot.fresh & (source.rows.offsets.array[lot.slots] < committed)
    if old.any():
        EVALUATE(source, lot.take(old), now_ms)
    return EVALUATE(source, lot.take(~old), now_ms) if not old.all() else Written(now_ms)


def only_present(joined: Joined, keys: Iterable[bytes | None]) -> Ints:
    """A key that no record has is in no index, so that the record's arrival finds nobody."""
    return np.array([NOWHERE if key is None else joined._slots.get(key, NOWHERE) for key in keys], np.int64)


EVALUATE = Source.evaluate
MISTAKES = {
    "offsets committed first": Mistake(OffsetsFirst),
    "tombstones forgotten": Mistake(patches=((Sent, "tombstones", nothing),)),
    "changes of joined records ignored": Mistake(patches=((Source, "follow", nothing),)),
    "the old row inferred from the compacted topic": Mistake(NothingReadBack, ((Source, "evaluate", inferred),)),
    "inboxes read to the last stable offset": Mistake(ToTheLastStableOffset),
    "no fence where only joined records changed": Mistake(OnlyWhatWasRead),
    "joined records older than the last owner's": Mistake(JoinedAsTheyAre),
    "records that are not there yet not waited for": Mistake(patches=((Joined, "slots", only_present),)),
    "inboxes remembered while another worker writes them": Mistake(patches=((Source, "close", nothing),)),
    "hashed keys not given back to their records": Mistake(patches=((Sent, "sweep", no_outputs),)),
    "a changed SELECT for changed rows only": Mistake(patches=((Source, "make_dirty_for", no_outputs),)),
}
