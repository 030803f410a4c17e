"""How rows written with one schema are read as rows of another: decided once per pair, for rows and for columns.

Every row that the writer's schema can write has a reading, or the pair is refused here. So nothing depends on a
row's values: a field may be added with a default, dropped, moved, renamed by an alias, widened (int to long to
float to double, text to bytes) or made optional; an enum may gain symbols. Bytes to text, optional to required
and every change of a logical type are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from civicbus.errors import ConfigurationError
from civicbus.schemas.codec.defaults import row_value
from civicbus.schemas.codec.tree import (
    Array,
    Decimal,
    Enum,
    Field,
    Fixed,
    Kind,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)

# Reads a value of the writer's type as one of the reader's; None stands for "as it is".
Reading = Callable[[object], object]

_NUMBERS = (Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE)


def reading(writer: Type, reader: Type, path: str = "") -> Reading | None:
    """How values of one type are read as another's; raises ConfigurationError where some have no reading."""
    match writer, reader:
        case Nullable(), Nullable():
            return _optional(reading(writer.inner, reader.inner, path))
        case _, Nullable():
            return reading(writer, reader.inner, path)
        case Primitive(), Primitive():
            return _primitive(writer, reader, path)
        case Record(), Record() if _same_name(writer, reader):
            return _record(writer, reader, path)
        case Enum(), Enum() if _same_name(writer, reader):
            return _enum(writer, reader, path)
        case Fixed(), Fixed() if _same_name(writer, reader) and writer.size == reader.size:
            return None
        case Decimal(), Decimal() if _same_decimal(writer, reader):
            return None
        case Array(), Array():
            return _array(reading(writer.items, reader.items, path))
        case Map(), Map():
            return _map(reading(writer.values, reader.values, path))
    raise _incompatible(path, "its type was changed to one that cannot hold what was written")


def source(writer: Record, field: Field, path: str = "") -> Field | None:
    """The writer's field that a reader's field is read from; None where its default is taken."""
    written = {one.name: one for one in writer.fields}
    found = next((written[name] for name in (field.name, *field.aliases) if name in written), None)
    if found is None and field.default is None:
        raise _incompatible(_inside(path, field.name), "it is not in what was written and has no default")
    return found


def default(field: Field) -> object:
    """A fresh default of a field that has one."""
    assert field.default is not None  # noqa: S101 - source() refused the others
    return row_value(field.type, field.default.value)


def promotion(writer: Type, reader: Type) -> tuple[Primitive, Primitive] | None:
    """The two plain types where one is widened to the other, optional or not."""
    one, other = _bare(writer), _bare(reader)
    if isinstance(one, Primitive) and isinstance(other, Primitive) and one != other:
        return one, other
    return None


def _incompatible(path: str, detail: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path or 'the record'}: {detail}", mend="keep former types, and add fields with a default"
    )


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _bare(type_: Type) -> Type:
    return type_.inner if isinstance(type_, Nullable) else type_


def _same_name(writer: Record | Enum | Fixed, reader: Record | Enum | Fixed) -> bool:
    """Avro's rule: the same name without its namespace, or the writer's among the reader's aliases."""
    return _last(writer.name) == _last(reader.name) or writer.name in reader.aliases


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _same_decimal(writer: Decimal, reader: Decimal) -> bool:
    if (writer.precision, writer.scale) != (reader.precision, reader.scale):
        return False
    if writer.fixed is None or reader.fixed is None:
        return writer.fixed is reader.fixed
    return _same_name(writer.fixed, reader.fixed) and writer.fixed.size == reader.fixed.size


def _primitive(writer: Primitive, reader: Primitive, path: str) -> Reading | None:
    if writer == reader:
        return None
    if writer.logical is None and reader.logical is None:
        if (writer.kind, reader.kind) == (Kind.STRING, Kind.BYTES):
            return _encoded
        if writer.kind in _NUMBERS and reader.kind in _NUMBERS[_NUMBERS.index(writer.kind) :]:
            return _WIDENED[reader.kind]
    raise _incompatible(path, "its type was changed to one that cannot hold what was written")


def _encoded(value: object) -> object:
    return cast("str", value).encode()


def _as_double(value: object) -> object:
    return float(cast("float", value))


def _as_float(value: object) -> object:
    return struct.unpack("<f", struct.pack("<f", cast("float", value)))[0]


_WIDENED: dict[Kind, Reading | None] = {Kind.LONG: None, Kind.FLOAT: _as_float, Kind.DOUBLE: _as_double}


def _optional(inner: Reading | None) -> Reading | None:
    if inner is None:
        return None
    return lambda value: None if value is None else inner(value)


def _array(item: Reading | None) -> Reading | None:
    if item is None:
        return None
    return lambda value: [item(one) for one in cast("Sequence[object]", value)]


def _map(inner: Reading | None) -> Reading | None:
    if inner is None:
        return None
    return lambda value: {key: inner(one) for key, one in cast("Mapping[str, object]", value).items()}


def _enum(writer: Enum, reader: Enum, path: str) -> Reading | None:
    known = frozenset(reader.symbols)
    if known.issuperset(writer.symbols):
        return None
    if reader.default is None:
        raise _incompatible(path, "it lost a symbol and has no default symbol")
    return lambda value: value if value in known else reader.default


def _record(writer: Record, reader: Record, path: str) -> Reading | None:
    parts = [_part(writer, field, path) for field in reader.fields]
    names = [field.name for field in writer.fields]
    if all(part.unchanged for part in parts) and [part.source for part in parts] == names:
        return None
    return lambda value: {part.field.name: part.read(cast("Mapping[str, object]", value)) for part in parts}


def _part(writer: Record, field: Field, path: str) -> _Part:
    written = source(writer, field, path)
    if written is None:
        return _Part(field, None, None)
    return _Part(field, written.name, reading(written.type, field.type, _inside(path, field.name)))


@dataclass(frozen=True, slots=True)
class _Part:
    """A reader's field, the name of the writer's that it is read from, and how."""

    field: Field
    source: str | None
    how: Reading | None

    @property
    def unchanged(self) -> bool:
        return self.source == self.field.name and self.how is None

    def read(self, row: Mapping[str, object]) -> object:
        if self.source is None:
            return default(self.field)
        return row[self.source] if self.how is None else self.how(row[self.source])
