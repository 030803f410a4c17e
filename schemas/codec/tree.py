"""The typed tree of an Avro schema: what the parser made of its text, with every reference resolved.

Only what a row of the bus may hold is representable: every type takes at least one byte, a union is a type or
null, and no type contains itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Attributes = dict[str, Json]


class Kind(StrEnum):
    """Avro's primitive types, without null."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BYTES = "bytes"
    STRING = "string"


class Logical(StrEnum):
    """The logical types that change what a value is; decimal has a node of its own."""

    DATE = "date"
    TIME_MILLIS = "time-millis"
    TIME_MICROS = "time-micros"
    TIMESTAMP_MILLIS = "timestamp-millis"
    TIMESTAMP_MICROS = "timestamp-micros"
    LOCAL_TIMESTAMP_MILLIS = "local-timestamp-millis"
    LOCAL_TIMESTAMP_MICROS = "local-timestamp-micros"
    UUID = "uuid"


CARRIERS = {
    Logical.DATE: Kind.INT,
    Logical.TIME_MILLIS: Kind.INT,
    Logical.TIME_MICROS: Kind.LONG,
    Logical.TIMESTAMP_MILLIS: Kind.LONG,
    Logical.TIMESTAMP_MICROS: Kind.LONG,
    Logical.LOCAL_TIMESTAMP_MILLIS: Kind.LONG,
    Logical.LOCAL_TIMESTAMP_MICROS: Kind.LONG,
    Logical.UUID: Kind.STRING,
}


@dataclass(frozen=True, slots=True)
class Primitive:
    """A primitive type, perhaps with a logical type over it."""

    kind: Kind
    logical: Logical | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Exactly ``size`` bytes."""

    name: str
    size: int
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decimal:
    """A decimal number in bytes, or in a fixed where one is given."""

    precision: int
    scale: int
    fixed: Fixed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enum:
    """One of the symbols; a reader takes ``default`` for symbols that it does not know."""

    name: str
    symbols: tuple[str, ...]
    default: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Array:
    """Any number of items."""

    items: Type


@dataclass(frozen=True, slots=True)
class Map:
    """Any number of values, each under its own text."""

    values: Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Nullable:
    """A value or null: a union of the two, in either order."""

    inner: Type
    null_first: bool


@dataclass(frozen=True, slots=True)
class Default:
    """A field's default as its schema writes it, in JSON."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a record."""

    name: str
    type: Type
    default: Default | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Fields in order."""

    name: str
    fields: tuple[Field, ...]
    aliases: tuple[str, ...] = ()


Type = Primitive | Fixed | Decimal | Enum | Array | Map | Nullable | Record
Named = Fixed | Decimal | Enum | Record
