"""Which rows are to be evaluated again, and for what cause: each once, small lots before large ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from civicbus.stream_apps.views.rows import Column
from civicbus.stream_apps.views.values import Ints

LARGE = 5_000
_TURN = 8


@dataclass(frozen=True, slots=True)
class Lot:
    """Slots with the cause of each and the time that goes with it. ``fresh``: what a change just made dirty."""

    slots: Ints
    causes: NDArray[Any]
    timestamps_ms: Ints
    fresh: NDArray[np.bool_]

    @classmethod
    def of(cls, slots: Ints, causes: NDArray[Any], timestamps_ms: Ints, *, fresh: bool) -> Self:
        return cls(slots, causes, timestamps_ms, np.full(len(slots), fresh))

    @classmethod
    def joined(cls, lots: Sequence[Self]) -> Self:
        """One lot of several."""
        if len(lots) == 1:
            return lots[0]
        return cls(
            np.concatenate([lot.slots for lot in lots]),
            np.concatenate([lot.causes for lot in lots]),
            np.concatenate([lot.timestamps_ms for lot in lots]),
            np.concatenate([lot.fresh for lot in lots]),
        )

    def __len__(self) -> int:
        return len(self.slots)

    def take(self, places: Ints | slice) -> Lot:
        """Some of the lot."""
        return Lot(self.slots[places], self.causes[places], self.timestamps_ms[places], self.fresh[places])

    def where(self, these: NDArray[np.bool_]) -> Lot:
        """Those for which it is true; the lot itself where it is for all."""
        return self if these.all() else self.take(np.flatnonzero(these))


class Dirty:
    """A queue of lots. ``flags`` says of each slot whether it stands in the queue."""

    def __init__(self, flags: Column) -> None:
        self._flags = flags
        self._small: deque[Lot] = deque()
        self._large: deque[Lot] = deque()
        self._turns = 0

    def __bool__(self) -> bool:
        return bool(self._small or self._large)

    def mark(self, lot: Lot) -> None:
        """These rows are dirty; those that are so already keep their place and their cause."""
        new = lot.where(~self._flags.array[lot.slots])
        if len(new):
            self._flags.array[new.slots] = True
            (self._large if len(new) > LARGE else self._small).append(new)

    def clean(self, slots: Ints) -> None:
        """These rows are evaluated now."""
        self._flags.array[slots] = False

    def note(self, causes: NDArray[Any]) -> None:
        """Write the cause of every row in the queue into a column of causes."""
        for lot in (*self._small, *self._large):
            still = lot.where(self._flags.array[lot.slots])
            causes[still.slots] = still.causes

    def take(self, most: int) -> list[Lot]:
        """The next rows, clean from now on. A large lot gets its turn even where small ones never end."""
        taken: list[Lot] = []
        room = most
        self._turns += 1
        first = self._large if self._turns % _TURN == 0 else self._small
        for queue in (first, self._small, self._large):
            while queue and room > 0:
                lot = queue.popleft()
                if len(lot) > room:
                    queue.appendleft(lot.take(slice(room, None)))
                    lot = lot.take(slice(room))
                room -= len(lot)
                still = lot.where(self._flags.array[lot.slots])
                self.clean(still.slots)
                if len(still):
                    taken.append(still)
        return taken
