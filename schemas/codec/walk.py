"""Walks the Avro bytes of a row before any decoder sees them.

A walk that returns proves: every count and length fits the bytes that are left, every index names a branch or
a symbol, every integer is in its range and in its shortest form, every text is UTF-8, every map has each key
once, no byte is left over, and the decoded row stays below a bound in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import repeat

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec import logical
from civicbus.schemas.codec.tree import (
    Array,
    Decimal,
    Enum,
    Fixed,
    Kind,
    Logical,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)

# Cells are slots of about eight bytes in a decoded row; only items of arrays and maps are counted.
CELLS = 1_000_000

# A step takes the bytes, a position in them and the cells spent so far; it returns the position after its value.
Step = Callable[[bytes, int, list[int]], int]

_UUID = re.compile(logical.UUID_FORM.encode())
_LIMITS = {Kind.INT: (-(2**31), 2**31 - 1), Kind.LONG: (-(2**63), 2**63 - 1)}


class _Fault(Exception):
    """The bytes do not fit; the text says how, without any value."""


class Walker:
    """The compiled walk of one schema's rows."""

    def __init__(self, record: Record) -> None:
        self._steps = [(field.name, _step(field.type)) for field in record.fields]
        self._byte_cells = cells_a_byte(record)

    def small(self, body: bytes) -> bool:
        """Whether a row of so many bytes is below the bound of cells, whatever it holds."""
        return len(body) * self._byte_cells <= CELLS

    def __call__(self, body: bytes) -> None:
        """Raises Unacceptable with BYTES and the row's field at fault."""
        at = 0
        spent = [0]
        name: str | None = None
        try:
            for name, step in self._steps:  # noqa: B007 - the handler below names the field
                at = step(body, at, spent)
        except IndexError:
            raise Unacceptable(Reason.BYTES, "the row ends early", field=name) from None
        except _Fault as fault:
            raise Unacceptable(Reason.BYTES, str(fault), field=name) from None
        if at != len(body):
            raise Unacceptable(Reason.BYTES, "bytes are left over after the row")


def cells(type_: Type) -> int:
    """The most cells that one value takes, the items of arrays and maps inside it not counted."""
    match type_:
        case Enum():
            return 1 + max(map(len, type_.symbols)) // 8
        case Fixed():
            return 1 + type_.size // 8
        case Record():
            return 1 + sum(cells(field.type) for field in type_.fields)
        case Nullable():
            return cells(type_.inner)
    return 2


def cells_a_byte(type_: Type) -> int:
    """The most cells that one more byte of a row can cost: 0 where there are no arrays and maps."""
    match type_:
        case Array():
            return max(cells(type_.items), cells_a_byte(type_.items))
        case Map():
            return max(2 + cells(type_.values), cells_a_byte(type_.values))
        case Record():
            return max(cells_a_byte(field.type) for field in type_.fields)
        case Nullable():
            return cells_a_byte(type_.inner)
    return 0


def _step(type_: Type) -> Step:
    match type_:
        case Primitive():
            return _primitive(type_)
        case Fixed():
            return _raw(type_.size)
        case Decimal():
            return _decimal(type_)
        case Enum():
            return _integer(0, len(type_.symbols) - 1, "is no index of a symbol")
        case Array():
            return _blocks(_step(type_.items), cells(type_.items))
        case Map():
            return _map(type_)
        case Nullable():
            return _nullable(type_)
        case Record():
            return _record(type_)


def _primitive(type_: Primitive) -> Step:
    if type_.logical is Logical.UUID:
        return _uuid
    if type_.logical is not None:
        return _integer(*logical.RANGES[type_.logical], f"is outside {type_.logical}")
    match type_.kind:
        case Kind.BOOLEAN:
            return _boolean
        case Kind.INT | Kind.LONG:
            return _integer(*_LIMITS[type_.kind], f"is no {type_.kind}")
        case Kind.FLOAT:
            return _raw(4)
        case Kind.DOUBLE:
            return _raw(8)
        case Kind.BYTES:
            return _bytes
        case Kind.STRING:
            return _string


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The zigzag number at a position, and the position after it."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at
    number, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise _Fault("a number is longer than 10 bytes")
    if byte == 0:
        raise _Fault("a number is not in its shortest form")
    return (number >> 1) ^ -(number & 1), at


def _integer(low: int, high: int, otherwise: str) -> Step:
    def step(data: bytes, at: int, spent: list[int]) -> int:
        byte = data[at]
        if byte < 0x80:
            number = (byte >> 1) ^ -(byte & 1)
            at += 1
        else:
            number, at = _varint(data, at)
        if low <= number <= high:
            return at
        raise _Fault(f"a number {otherwise}")

    return step


def _boolean(data: bytes, at: int, spent: list[int]) -> int:
    if data[at] > 1:
        raise _Fault("a boolean is neither 0 nor 1")
    return at + 1


def _raw(size: int) -> Step:
    def step(data: bytes, at: int, spent: list[int]) -> int:
        if at + size > len(data):
            raise _Fault("the row ends early")
        return at + size

    return step


def _span(data: bytes, at: int) -> tuple[int, int]:
    """Where the bytes after a length start and end."""
    length, at = _varint(data, at)
    if not 0 <= length <= len(data) - at:
        raise _Fault("a length is negative or greater than the bytes left")
    return at, at + length


def _bytes(data: bytes, at: int, spent: list[int]) -> int:
    return _span(data, at)[1]


def _string(data: bytes, at: int, spent: list[int]) -> int:
    byte = data[at]
    if byte < 0x80 and not byte & 1:
        start = at + 1
        end = start + (byte >> 1)
        if end > len(data):
            raise _Fault("a length is negative or greater than the bytes left")
    else:
        start, end = _span(data, at)
    try:
        data[start:end].decode()
    except UnicodeDecodeError:
        raise _Fault("a text is not UTF-8") from None
    return end


def _uuid(data: bytes, at: int, spent: list[int]) -> int:
    start, end = _span(data, at)
    if not _UUID.fullmatch(data[start:end]):
        raise _Fault("a text is no UUID in lower case")
    return end


def _decimal(type_: Decimal) -> Step:
    size = None if type_.fixed is None else type_.fixed.size
    precision = type_.precision

    def step(data: bytes, at: int, spent: list[int]) -> int:
        start, end = _span(data, at) if size is None else (at, at + size)
        if end > len(data):
            raise _Fault("the row ends early")
        if not logical.fits(data[start:end], precision):
            raise _Fault(f"a number is no decimal of {precision} digits")
        return end

    return step


def _nullable(type_: Nullable) -> Step:
    null, value = (0, 2) if type_.null_first else (2, 0)
    inner = _step(type_.inner)

    def step(data: bytes, at: int, spent: list[int]) -> int:
        byte = data[at]
        if byte == null:
            return at + 1
        if byte == value:
            return inner(data, at + 1, spent)
        raise _Fault("a union has no such branch")

    return step


def _record(type_: Record) -> Step:
    steps = [_step(field.type) for field in type_.fields]

    def step(data: bytes, at: int, spent: list[int]) -> int:
        for one in steps:
            at = one(data, at, spent)
        return at

    return step


def _blocks(item: Step, weight: int) -> Step:
    def step(data: bytes, at: int, spent: list[int]) -> int:
        while True:
            count, at, end = _block(data, at)
            if count == 0:
                return at
            spent[0] += count * weight
            if spent[0] > CELLS:
                raise _Fault("the row holds too many items")
            for _ in repeat(None, count):
                at = item(data, at, spent)
            if end is not None and at != end:
                raise _Fault("a block of items does not end where it says")

    return step


def _block(data: bytes, at: int) -> tuple[int, int, int | None]:
    """A block's count of items, where they start, and where they end if the block says it."""
    count, at = _varint(data, at)
    end = None
    if count < 0:
        count = -count
        size, at = _varint(data, at)
        end = at + size
    if count > len(data) - at:
        raise _Fault("a count is greater than the bytes left")
    return count, at, end


def _map(type_: Map) -> Step:
    value = _step(type_.values)
    weight = 2 + cells(type_.values)

    def step(data: bytes, at: int, spent: list[int]) -> int:
        keys: set[bytes] = set()

        def entry(data: bytes, at: int, spent: list[int]) -> int:
            end = _string(data, at, spent)
            key = data[at:end]
            if key in keys:
                raise _Fault("a map has a key twice")
            keys.add(key)
            return value(data, end, spent)

        return _blocks(entry, weight)(data, at, spent)

    return step
