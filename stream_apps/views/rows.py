"""The current rows of one dataset in this worker. Each record key of a partition has a slot, a small number.

What is known of a row stands at its slot in lists and columns, so that a batch of rows is a list of slots and all
bookkeeping on it is arithmetic on arrays. A row takes the bytes of its value, unless that stands on the disk, those
of its key, about 180 bytes beside them, and 8 for each view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from civicbus.stream_apps.views.values import NOTHING, Copied, Ints, Mapped, Places, Values

_FIRST_CAPACITY = 1024
_GROWTH = 1.3
NOWHERE = -1


@dataclass(slots=True, kw_only=True)
class RowsCopy:
    """The rows of one partition, to be cached. ``columns``: by name, a value for each row."""

    slots: Ints
    keys: list[bytes]
    values: Copied
    causes: list[bytes | None]
    columns: dict[str, NDArray[Any]]


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
    """Rows by slot. A slot without a value is a record that is deleted, or was never there."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self._values = Values()
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
        self._pieces = self.column(np.int32, NOTHING)
        self._addresses = self.column(np.int64, NOTHING)

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
            self._make(places, partition, [key for key, slot in zip(keys, found, strict=True) if slot is None])
            found = list(map(places.get, keys))
        return np.array(found, np.int64)

    def put(
        self,
        slots: Ints,
        values: Sequence[bytes | None],
        timestamps_ms: Sequence[int] | Ints,
        offsets: Sequence[int] | Ints,
    ) -> None:
        """The rows' current values; of a slot that comes several times, the last."""
        self._stand(slots, self._values.add(values))
        if self._values.are_many:
            self.tidy()
        self.timestamps.array[slots] = timestamps_ms
        self.offsets.array[slots] = offsets

    @property
    def value_bytes_in_memory(self) -> int:
        """How much memory the values take, with what was kept free for the next ones."""
        return self._values.memory_bytes

    def sizes(self, slots: Ints) -> Ints:
        """How many bytes each of the rows' current values has."""
        return self._values.sizes(self._standing(slots))

    def values_of(self, slots: Ints) -> list[bytes | None]:
        """The rows' current values."""
        return self._values.read(self._standing(slots))

    def move_to_disk(self, partition: int, copied: RowsCopy, mapped: Mapped) -> None:
        """Values that were copied into this file and are still the same stand there from now on; then ``tidy``."""
        if partition not in self._places:
            return
        now, then, there = self._standing(copied.slots), copied.values.places, self._values.add_file(mapped)
        same = (now.pieces == then.pieces) & (now.addresses == then.addresses)
        self._stand(copied.slots[same], there[same])

    def tidy(self) -> None:
        """Forget the values that no row has any more."""
        slots = np.flatnonzero(self._addresses.array != NOTHING)
        self._stand(slots, self._values.keep(self._standing(slots)))

    def doubt(self, slots: Ints, cause: bytes | NDArray[Any]) -> None:
        """These rows are to be evaluated once their partition flows, for this cause where they have none yet."""
        causes = self.causes.array[slots]
        self.causes.array[slots] = np.where(causes == None, cause, causes)  # noqa: E711 - item by item

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

    def loaded(self) -> set[int]:
        """The partitions of which there are rows."""
        return {number for number, places in self._places.items() if places}

    def load(self, partition: int, mapped: Mapped, *, on_disk: bool) -> Ints:
        """Take in a partition's rows as they were cached, ``on_disk`` without their values; their slots, in order."""
        table = mapped.table
        keys: list[bytes] = listed(table.column("key"))
        slots = self.slots(partition, keys)
        values = self._values
        self._stand(slots, values.add_file(mapped) if on_disk else values.add(listed(table.column("value"))))
        self.timestamps.array[slots] = table["timestamp"].to_numpy()
        self.offsets.array[slots] = table["offset"].to_numpy()
        self.causes.array[slots] = np.array([*listed(table.column("cause")), None], np.object_)[:-1]
        return slots

    def copy(self, partition: int, causes: NDArray[Any]) -> RowsCopy:
        """A partition's rows to be cached. ``causes``: of each slot that is to be evaluated again."""
        slots = self.of_partition(partition)
        places = slots.tolist()
        return RowsCopy(
            slots=slots,
            keys=[self.keys[slot] for slot in places],
            values=self._values.copy(self._standing(slots)),
            causes=causes[slots].tolist(),
            columns={"timestamp": self.timestamps.array[slots], "offset": self.offsets.array[slots]},
        )

    def reuse(self) -> None:
        """Nothing names a free slot any more."""
        if self._resting:
            self._free += self._resting
            self._resting = []

    def _standing(self, slots: Ints) -> Places:
        """Where values stand."""
        return Places(pieces=self._pieces.array[slots], addresses=self._addresses.array[slots])

    def _stand(self, slots: Ints, places: Places) -> None:
        self._pieces.array[slots] = places.pieces
        self._addresses.array[slots] = places.addresses

    def _make(self, places: dict[bytes, int], partition: int, keys: Sequence[bytes]) -> None:
        """A slot for each of these keys, which have none; free ones first."""
        new = list(dict.fromkeys(keys))
        freed = [self._free.pop() for _ in range(min(len(self._free), len(new)))]
        first, count = len(self.keys), len(new) - len(freed)
        for slot, key in zip(freed, new, strict=False):
            self.keys[slot] = key
        self.keys += new[len(freed) :]
        while len(self.keys) > self._capacity:
            self._grow()
        slots = [*freed, *range(first, first + count)]
        places.update(zip(new, slots, strict=True))
        self.partitions.array[slots] = partition

    def _grow(self) -> None:
        self._capacity = int(self._capacity * _GROWTH) + _FIRST_CAPACITY
        for column in self._columns:
            column.grow(self._capacity)

    def _forget(self, slots: Ints) -> None:
        forgotten = slots.tolist()
        for slot in forgotten:
            self.keys[slot] = b""
        self._resting += forgotten
        for column in self._columns:
            column.clear(slots)


def listed(column: pa.ChunkedArray) -> list[Any]:
    """A column's values as Python's."""
    values: list[Any] = pl.Series(pl.from_arrow(column)).to_list()
    return values
