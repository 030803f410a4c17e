"""Generated Avro schemas and rows, and bytes that are almost rows."""

from __future__ import annotations

import decimal
import json
import math
import struct
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from hypothesis import strategies as st

from civicbus.schemas.codec.columns import is_columnar
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema, document
from civicbus.schemas.codec.tree import (
    Array,
    Decimal,
    Enum,
    Fixed,
    Json,
    Kind,
    Logical,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNAR_LEAVES: list[Json] = [
    *("boolean", "int", "long", "float", "double", "string"),
    {"type": "int", "logicalType": "date"},
    {"type": "int", "logicalType": "time-millis"},
    {"type": "long", "logicalType": "time-micros"},
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "long", "logicalType": "timestamp-micros"},
    {"type": "long", "logicalType": "local-timestamp-millis"},
    {"type": "long", "logicalType": "local-timestamp-micros"},
    {"type": "string", "logicalType": "uuid"},
]
OTHER_LEAVES: list[Json] = [
    "bytes",
    {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
    {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 38},
]
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def record(*fields: tuple[str, Json] | Json, name: str = "row") -> AvroSchema:
    """A schema of these fields, each a name with a type or a whole document."""
    documents = [{"name": one[0], "type": one[1]} if isinstance(one, tuple) else one for one in fields]
    return AvroSchema.parse(json.dumps({"type": "record", "name": name, "fields": documents}))


@st.composite
def schemas(draw: st.DrawFn) -> AvroSchema:
    """Schemas of every supported type, about half of them columnar."""
    leaves = COLUMNAR_LEAVES + draw(st.sampled_from([[], OTHER_LEAVES]))
    return AvroSchema.parse(json.dumps(_Writing(draw, leaves).record(depth=3)))


def columnar_schemas() -> st.SearchStrategy[AvroSchema]:
    return schemas().filter(is_columnar)


class _Writing:
    """Writes one schema document; a named type may be used again by its name."""

    def __init__(self, draw: st.DrawFn, leaves: list[Json]) -> None:
        self._draw, self._leaves = draw, leaves
        self._columnar = leaves == COLUMNAR_LEAVES
        self._used: list[Json] = []
        self._count = 0

    def record(self, depth: int) -> Json:
        name = self._name("r")
        fields = self._draw(st.lists(names, min_size=1, max_size=4 if depth == 3 else 2, unique=True))
        document: Json = {"type": "record", "name": name, "fields": [self._field(one, depth) for one in fields]}
        self._used.append(name)
        return document

    def _field(self, name: str, depth: int) -> Json:
        return {"name": name, "type": self._optional(depth)}

    def _optional(self, depth: int) -> Json:
        inner = self._type(depth)
        return self._draw(st.sampled_from([inner, inner, ["null", inner], [inner, "null"]]))

    def _type(self, depth: int) -> Json:  # noqa: PLR0911 - one a kind
        kinds = ["leaf", "leaf", "leaf", "enum"] + ["array", "map", "record"] * (depth > 0)
        kinds += ["fixed", "fixed decimal"] * (not self._columnar) + ["used"] * bool(self._used)
        match self._draw(st.sampled_from(kinds)):
            case "array":
                return {"type": "array", "items": self._optional(depth - 1)}
            case "map":
                return {"type": "map", "values": self._optional(depth - 1)}
            case "record":
                return self.record(depth - 1)
            case "used":
                return self._draw(st.sampled_from(self._used))
            case "enum":
                return self._named({"type": "enum", "symbols": self._draw(_symbols)})
            case "fixed":
                return self._named({"type": "fixed", "size": self._draw(st.integers(1, 9))})
            case "fixed decimal":
                return self._named({"type": "fixed", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 3})
        return self._draw(st.sampled_from(self._leaves))

    def _named(self, document: dict[str, Json]) -> Json:
        name = self._name("n")
        self._used.append(name)
        return document | {"name": name}

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"


_symbols = st.lists(names, min_size=1, max_size=70, unique=True)


def rows(schema: AvroSchema) -> st.SearchStrategy[dict[str, object]]:
    """Rows of a schema in the form that RowCodec.decode gives."""
    return _values(schema.record)


def _values(type_: Type) -> st.SearchStrategy:  # noqa: PLR0911 - one a kind
    match type_:
        case Primitive():
            return _PLAIN[type_.kind] if type_.logical is None else _LOGICAL[type_.logical]
        case Decimal():
            limit = 10**type_.precision - 1
            return st.integers(-limit, limit).map(lambda digits: _scaled(digits, type_.scale))
        case Fixed():
            return st.binary(min_size=type_.size, max_size=type_.size)
        case Enum():
            return st.sampled_from(type_.symbols)
        case Array():
            return st.lists(_values(type_.items), max_size=4)
        case Map():
            return st.dictionaries(texts, _values(type_.values), max_size=4)
        case Nullable():
            return st.none() | _values(type_.inner)
        case Record():
            return st.fixed_dictionaries({field.name: _values(field.type) for field in type_.fields})


def _scaled(digits: int, scale: int) -> decimal.Decimal:
    return decimal.Decimal(digits).scaleb(-scale, decimal.Context(prec=80))


def _milli(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


_moments = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), EPOCH, EPOCH - timedelta(microseconds=1)]
)
_PLAIN = {
    Kind.BOOLEAN: st.booleans(),
    Kind.INT: st.integers(-(2**31), 2**31 - 1),
    Kind.LONG: st.integers(-(2**63), 2**63 - 1),
    Kind.FLOAT: st.floats(width=32, allow_nan=False),
    Kind.DOUBLE: st.floats(allow_nan=False),
    Kind.BYTES: st.binary(max_size=12),
    Kind.STRING: texts,
}
_LOGICAL = {
    Logical.DATE: st.dates() | st.sampled_from([date.min, date.max]),
    Logical.TIME_MILLIS: st.times().map(lambda one: one.replace(microsecond=one.microsecond // 1000 * 1000)),
    Logical.TIME_MICROS: st.times() | st.sampled_from([time.min, time.max]),
    Logical.TIMESTAMP_MILLIS: _moments.map(_milli),
    Logical.TIMESTAMP_MICROS: _moments,
    Logical.LOCAL_TIMESTAMP_MILLIS: _moments.map(lambda one: _milli(one).replace(tzinfo=None)),
    Logical.LOCAL_TIMESTAMP_MICROS: _moments.map(lambda one: one.replace(tzinfo=None)),
    Logical.UUID: st.integers(0, 2**128 - 1).map(lambda number: str(UUID(int=number))),
}


@st.composite
def in_blocks(draw: st.DrawFn, type_: Type, value: object) -> bytes:
    """A value as another writer may write it: the items of arrays and maps in any number of blocks, sized or not."""
    match type_, value:
        case Record(), dict():
            return b"".join(draw(in_blocks(field.type, value[field.name])) for field in type_.fields)
        case Nullable(), None:
            return varint(0 if type_.null_first else 1)
        case Nullable(), _:
            return varint(1 if type_.null_first else 0) + draw(in_blocks(type_.inner, value))
        case Array(), list():
            return draw(_blocks([draw(in_blocks(type_.items, item)) for item in value]))
        case Map(), dict():
            entries = [(key.encode(), draw(in_blocks(type_.values, one))) for key, one in value.items()]
            return draw(_blocks([varint(len(key)) + key + one for key, one in entries]))
    return RowCodec(record(("leaf", document(type_, set())))).encode({"leaf": value})


@st.composite
def _blocks(draw: st.DrawFn, items: list[bytes]) -> bytes:
    out = b""
    while items:
        count = draw(st.integers(1, len(items)))
        block, items = b"".join(items[:count]), items[count:]
        out += draw(st.sampled_from([varint(count), varint(-count) + varint(len(block))])) + block
    return out + varint(0)


@st.composite
def spoiled(draw: st.DrawFn, body: bytes) -> bytes:
    """A body with a byte or two changed, left out, put in, repeated or cut off."""
    spoilt = bytearray(body)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(spoilt)))
        match draw(st.sampled_from(["change", "drop", "insert", "cut", "append"])):
            case "change" if at < len(spoilt):
                spoilt[at] = draw(st.sampled_from([0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
            case "drop":
                del spoilt[at : at + 1]
            case "insert":
                spoilt[at:at] = draw(st.binary(min_size=1, max_size=3))
            case "cut":
                del spoilt[at:]
            case _:
                spoilt += draw(st.binary(min_size=1, max_size=2))
    return bytes(spoilt)


def varint(number: int) -> bytes:
    """A number as Avro writes it."""
    zigzag = (number << 1) ^ (number >> 63) if number < 0 else number << 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


def float32(number: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", number))[0]) if math.isfinite(number) else number
