"""Where the values of rows stand: in large pieces of memory, or in a checkpoint's file, each found by its address.

Objects of their own would take a third more, and what many of them leave free goes back to the machine late. A file
is mapped: what is read of it is the page cache's, and what is not read takes no memory; it stays readable after its
name is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Numbers = NDArray[np.int32]

NOTHING = -1
"""The address of a value that is not there."""
_LENGTH_BITS = 24
_LENGTH = 2**_LENGTH_BITS - 1
_PIECE_BYTES = 4 * 2**20
_SHARED = 4
_LITTLE_BYTES = 64 * 2**20
_MOVED_AT_ONCE = 20_000


class Mapped:
    """One partition's rows in a checkpoint's file. ``addresses``: of every row's value, in the table's order."""

    def __init__(self, path: Path) -> None:
        self._buffer: pa.Buffer = pa.memory_map(str(path)).read_buffer()
        self.bytes = memoryview(self._buffer)
        self.table: pa.Table = pa.ipc.open_file(self._buffer).read_all()
        column = self.table.column("value")
        self.value_bytes: int = column.nbytes
        self.addresses: Ints = np.concatenate([np.empty(0, np.int64), *map(self._addresses, column.chunks)])

    def _addresses(self, chunk: pa.LargeBinaryArray) -> Ints:
        _, offsets, data = chunk.buffers()
        if data is None:
            return np.full(len(chunk), NOTHING, np.int64)
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        addresses = _addresses(data.address - self._buffer.address + ends[:-1], np.diff(ends))
        return np.where(chunk.is_null().to_numpy(zero_copy_only=False), NOTHING, addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where some values stand: for each the piece and the address in it."""

    pieces: Numbers
    addresses: Ints

    def __getitem__(self, part: slice | Ints | NDArray[np.bool_]) -> Places:
        return Places(pieces=self.pieces[part], addresses=self.addresses[part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Values as they are at one moment; read when they are asked for, by whichever thread."""

    places: Places
    pieces: Mapping[int, memoryview]

    def __getitem__(self, part: slice) -> list[bytes | None]:
        return _read(self.places[part], self.pieces)


class Values:
    """Pieces that are only added to. Their numbers are never given twice, so equal places have equal values."""

    def __init__(self) -> None:
        self._pieces: dict[int, memoryview] = {NOTHING: memoryview(b"")}
        self._in_memory: dict[int, int] = {}
        self._last = NOTHING
        # The piece that is being filled, and how much of it is free.
        self._filling = NOTHING
        self._free = 0
        self._look_at_bytes = _LITTLE_BYTES

    def add(self, values: Sequence[bytes | None]) -> Places:
        """Keep these values in memory; where each of them stands."""
        present = [value or b"" for value in values]
        together = b"".join(present)
        lengths = np.fromiter(map(len, present), np.int64, len(values))
        ends = np.cumsum(lengths)
        piece, start = self._kept(together)
        addresses = _addresses(start + ends - lengths, lengths)
        if None in values:
            addresses[[value is None for value in values]] = NOTHING
        return _in_piece(piece, addresses)

    def add_file(self, mapped: Mapped) -> Places:
        """Values that stand in a file."""
        return _in_piece(self._new(mapped.bytes), mapped.addresses)

    def read(self, places: Places) -> list[bytes | None]:
        """The values that stand there."""
        return _read(places, self._pieces)

    def sizes(self, places: Places) -> Ints:
        """How many bytes each of the values has."""
        return np.where(places.addresses == NOTHING, 0, places.addresses & _LENGTH)

    def copy(self, places: Places) -> Copied:
        """These values, whatever becomes of the pieces."""
        return Copied(places=places, pieces=dict(self._pieces))

    @property
    def are_many(self) -> bool:
        """Whether so much stands in memory that it is time to see how much of it is wanted."""
        return self.memory_bytes > self._look_at_bytes

    def keep(self, wanted: Places) -> Places:
        """Forget what is not wanted, piece by piece; where the wanted values stand after that.

        Of what is in memory, pieces of which little is wanted are put together.
        """
        self._forget_but({*np.unique(wanted.pieces).tolist()})
        in_memory = np.isin(wanted.pieces, [*self._in_memory])
        wanted_bytes = int((wanted.addresses[in_memory] & _LENGTH).sum())
        if self.memory_bytes > wanted_bytes * 3 // 2 + _LITTLE_BYTES:
            wanted = self._together(wanted, np.flatnonzero(in_memory))
        self._look_at_bytes = self.memory_bytes + max(_LITTLE_BYTES, wanted_bytes // 2)
        return wanted

    def _together(self, wanted: Places, in_memory: Ints) -> Places:
        moved = Places(pieces=wanted.pieces.copy(), addresses=wanted.addresses.copy())
        before, self._free = [*self._in_memory], 0
        for start in range(0, len(in_memory), _MOVED_AT_ONCE):
            some = in_memory[start : start + _MOVED_AT_ONCE]
            to = self.add(self.read(wanted[some]))
            moved.pieces[some], moved.addresses[some] = to.pieces, to.addresses
        self._forget_but(self._pieces.keys() - before)
        return moved

    @property
    def memory_bytes(self) -> int:
        """How much memory the pieces take."""
        return sum(self._in_memory.values())

    def _forget_but(self, pieces: AbstractSet[int]) -> None:
        for piece in self._pieces.keys() - pieces - {NOTHING}:
            del self._pieces[piece]
            self._in_memory.pop(piece, None)
        if self._filling not in self._pieces:
            self._free = 0

    def _kept(self, together: bytes) -> tuple[int, int]:
        """The piece in which these bytes stand, and where in it; many are one of their own and need no copy."""
        if not together:
            return NOTHING, 0
        if len(together) >= _PIECE_BYTES // _SHARED:
            return self._new_in_memory(memoryview(together)), 0
        if len(together) > self._free:
            self._filling = self._new_in_memory(np.empty(_PIECE_BYTES, np.uint8).data)
            self._free = _PIECE_BYTES
        start = _PIECE_BYTES - self._free
        self._free -= len(together)
        self._pieces[self._filling][start : start + len(together)] = together
        return self._filling, start

    def _new_in_memory(self, piece: memoryview) -> int:
        number = self._new(piece)
        self._in_memory[number] = len(piece)
        return number

    def _new(self, piece: memoryview) -> int:
        self._last += 1
        self._pieces[self._last] = piece
        return self._last


def _addresses(starts: Ints, lengths: Ints) -> Ints:
    """An address is where a value begins, and in 24 bits its length."""
    addresses: Ints = starts << _LENGTH_BITS | lengths
    return addresses


def _in_piece(piece: int, addresses: Ints) -> Places:
    return Places(pieces=np.where(addresses == NOTHING, NOTHING, piece).astype(np.int32), addresses=addresses)


def _read(places: Places, pieces: Mapping[int, memoryview]) -> list[bytes | None]:
    absent = places.addresses == NOTHING
    starts = np.where(absent, 0, places.addresses >> _LENGTH_BITS)
    ends = np.where(absent, 0, starts + (places.addresses & _LENGTH))
    values: list[bytes | None] = [
        pieces[piece][start:end].tobytes()
        for piece, start, end in zip(places.pieces.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]
    for place in np.flatnonzero(absent).tolist():
        values[place] = None
    return values


def fitting(sizes: Ints, most: int) -> int:
    """How many of them, from the first, come to no more than ``most`` together; at least one."""
    return max(1, int(np.searchsorted(np.cumsum(sizes), most, side="right")))
