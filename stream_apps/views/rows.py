"""The current rows of one dataset in this worker. Each record key of a partition has a slot, a small number.

What is known of a row stands at its slot in lists and columns, so that a batch of rows is a list of slots and all
bookkeeping on it is arithmetic on arrays. A row takes the bytes of its key and its value, about 190 bytes beside
them, and 8 for each view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Ints = NDArray[np.int64]

_FIRST_CAPACITY = 1024
_GROWTH = 1.3
NOWHERE = -1


class Column:
    """A value for each slot; ``empty`` where none was set."""

    def __init__(self, dtype: DTypeLike, empty: object, capacity: int) -> None:
        self._empty = empty
        # Which type an array's items have is decided by dtype, at run time.
        self.array: NDArray[Any] = np.full(capacity, empty, dtype)

    def grow(self, capacity: int) -> None:
        grown = np.full(capacity, self._empty, self.array.dtype)
        grown[: len(self.array)] = self.array
        self.array = grown

    def clear(self, slots: Ints) -> None:
        self.array[slots] = self._empty


class Rows:
    """Rows by slot. A slot whose value is None is a record that is deleted, or was never there."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []
        self._places: dict[int, dict[bytes, int]] = {}
        self._columns: list[Column] = []
        self._free: list[int] = []
        self._resting: list[int] = []
        self._capacity = _FIRST_CAPACITY
        self.partitions = self.column(np.int16, NOWHERE)
        self.timestamps = self.column(np.int64, 0)
        self.offsets = self.column(np.int64, NOWHERE)
        # The cause of a row that was read and not yet evaluated.
        self.causes = self.column(np.object_, None)

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def column(self, dtype: DTypeLike, empty: object) -> Column:
        """A new column over all slots."""
        made = Column(dtype, empty, self._capacity)
        self._columns.append(made)
        return made

    def drop(self, column: Column) -> None:
        self._columns.remove(column)

    def slots(self, partition: int, keys: Sequence[bytes]) -> Ints:
        """The slot of each key, a new one for a key that has none."""
        places = self._places.setdefault(partition, {})
        found = list(map(places.get, keys))
        if None in found:
            found = [
                self._slot(places, partition, key) if slot is None else slot
                for key, slot in zip(keys, found, strict=True)
            ]
        return np.array(found, np.int64)

    def put(
        self, slots: Ints, values: Sequence[bytes | None], timestamps_ms: Sequence[int], offsets: Sequence[int]
    ) -> None:
        """The rows' current values; of a slot that comes several times, the last."""
        held = self.values
        for slot, value in zip(slots.tolist(), values, strict=True):
            held[slot] = value
        self.timestamps.array[slots] = timestamps_ms
        self.offsets.array[slots] = offsets

    def of_partition(self, partition: int) -> Ints:
        """Every slot of a partition."""
        places = self._places.get(partition, {})
        return np.fromiter(places.values(), np.int64, len(places))

    def free(self, slots: Ints) -> None:
        """Forget these slots' keys. They rest until ``reuse``: what still names them must not meet another record."""
        partitions = self.partitions.array[slots].tolist()
        for slot, partition in zip(slots.tolist(), partitions, strict=True):
            del self._places[partition][self.keys[slot]]
        self._forget(slots)

    def close(self, partition: int) -> None:
        """Forget a partition."""
        slots = self.of_partition(partition)
        self._places.pop(partition, None)
        self._forget(slots)

    def reuse(self) -> None:
        """Nothing names a free slot any more."""
        if self._resting:
            self._free += self._resting
            self._resting = []

    def _slot(self, places: dict[bytes, int], partition: int, key: bytes) -> int:
        known = places.get(key)
        if known is not None:
            return known
        if self._free:
            slot = self._free.pop()
            self.keys[slot] = key
        else:
            slot = len(self.keys)
            self.keys.append(key)
            self.values.append(None)
            if slot == self._capacity:
                self._grow()
        places[key] = slot
        self.partitions.array[slot] = partition
        return slot

    def _grow(self) -> None:
        self._capacity = int(self._capacity * _GROWTH) + _FIRST_CAPACITY
        for column in self._columns:
            column.grow(self._capacity)

    def _forget(self, slots: Ints) -> None:
        forgotten = slots.tolist()
        for slot in forgotten:
            self.keys[slot], self.values[slot] = b"", None
        self._resting += forgotten
        for column in self._columns:
            column.clear(slots)
