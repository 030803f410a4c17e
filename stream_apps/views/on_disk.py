"""Values of rows that stand in a checkpoint's file and not in memory, each found by its address.

The file is mapped: what is read of it is the page cache's, and what is not read takes no memory. It stays readable
after its name is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ON_DISK = b"civicbus:on disk"
"""Stands where a row's value would, told by its identity; no value begins like it."""
NOTHING = -1
_LENGTH_BITS = 24
_LENGTH = 2**_LENGTH_BITS - 1


class Mapped:
    """One partition's rows in a checkpoint. An address is where a value begins, and in 24 bits its length."""

    def __init__(self, path: Path) -> None:
        self._buffer: pa.Buffer = pa.memory_map(str(path)).read_buffer()
        self._bytes = memoryview(self._buffer)
        self.table: pa.Table = pa.ipc.open_file(self._buffer).read_all()
        self.value_bytes: int = self.table.column("value").nbytes

    def addresses(self) -> Ints:
        """Of every row in the table's order, NOTHING where it is deleted."""
        chunks = [self._addresses(chunk) for chunk in self.table.column("value").chunks]
        return np.concatenate([np.empty(0, np.int64), *chunks])

    def read(self, address: int) -> bytes:
        """The value at an address."""
        start = address >> _LENGTH_BITS
        return bytes(self._bytes[start : start + (address & _LENGTH)])

    def _addresses(self, chunk: pa.LargeBinaryArray) -> Ints:
        _, offsets, data = chunk.buffers()
        if data is None:
            return np.full(len(chunk), NOTHING, np.int64)
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        addresses = (data.address - self._buffer.address + ends[:-1]) << _LENGTH_BITS | np.diff(ends)
        absent = chunk.is_null().to_numpy(zero_copy_only=False)
        return np.where(absent, NOTHING, addresses)


class Values(Sequence[bytes | None]):
    """Values of which some are on the disk; read when they are asked for."""

    def __init__(self, held: list[bytes | None], addresses: NDArray[Any], mapped: Mapped | None) -> None:
        self.held = held
        self._addresses = addresses
        self._mapped = mapped

    def __len__(self) -> int:
        return len(self.held)

    @overload
    def __getitem__(self, index: int) -> bytes | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes | None]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes | None] | None:
        if isinstance(index, slice):
            return list(self._read(index))
        return next(self._read(slice(index, index + 1)))

    def _read(self, part: slice) -> Iterator[bytes | None]:
        mapped = self._mapped
        if mapped is None:
            return iter(self.held[part])
        return (
            mapped.read(address) if value is ON_DISK else value
            for value, address in zip(self.held[part], self._addresses[part].tolist(), strict=True)
        )
