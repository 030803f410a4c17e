"""The types of the view language, and what each is in Avro.

One type, one meaning: a type is what DuckDB calls it, restricted to what a row of the bus may hold. What has no
type here (arrays, maps, records) cannot be selected.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from civicbus.schemas.codec import tree
from civicbus.schemas.codec.tree import Logical


class Kind(StrEnum):
    """What a value is; the names are DuckDB's."""

    NULL = "NULL"
    BOOLEAN = "BOOLEAN"
    INTEGER = "INTEGER"
    BIGINT = "BIGINT"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    DECIMAL = "DECIMAL"
    VARCHAR = "VARCHAR"
    BLOB = "BLOB"
    DATE = "DATE"
    TIME = "TIME"
    TIMESTAMP = "TIMESTAMP"
    TIMESTAMPTZ = "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True, slots=True)
class Type:
    """A kind, with the digits of a DECIMAL, or ``millis`` for times that Avro keeps in milliseconds."""

    kind: Kind
    precision: int = 0
    scale: int = 0
    millis: bool = False

    def __str__(self) -> str:
        return f"DECIMAL({self.precision},{self.scale})" if self.kind is Kind.DECIMAL else self.kind.value

    @property
    def is_integer(self) -> bool:
        return self.kind in (Kind.INTEGER, Kind.BIGINT)

    @property
    def is_float(self) -> bool:
        return self.kind in (Kind.FLOAT, Kind.DOUBLE)

    @property
    def is_number(self) -> bool:
        return self.is_integer or self.is_float


NULL = Type(Kind.NULL)
BOOLEAN = Type(Kind.BOOLEAN)
INTEGER = Type(Kind.INTEGER)
BIGINT = Type(Kind.BIGINT)
FLOAT = Type(Kind.FLOAT)
DOUBLE = Type(Kind.DOUBLE)
VARCHAR = Type(Kind.VARCHAR)
BLOB = Type(Kind.BLOB)
DATE = Type(Kind.DATE)

_LOGICAL = {
    Logical.DATE: DATE,
    Logical.TIME_MILLIS: Type(Kind.TIME, millis=True),
    Logical.TIME_MICROS: Type(Kind.TIME),
    Logical.TIMESTAMP_MILLIS: Type(Kind.TIMESTAMPTZ, millis=True),
    Logical.TIMESTAMP_MICROS: Type(Kind.TIMESTAMPTZ),
    Logical.LOCAL_TIMESTAMP_MILLIS: Type(Kind.TIMESTAMP, millis=True),
    Logical.LOCAL_TIMESTAMP_MICROS: Type(Kind.TIMESTAMP),
}
_KINDS = {
    tree.Kind.BOOLEAN: BOOLEAN,
    tree.Kind.INT: INTEGER,
    tree.Kind.LONG: BIGINT,
    tree.Kind.FLOAT: FLOAT,
    tree.Kind.DOUBLE: DOUBLE,
    tree.Kind.BYTES: BLOB,
    tree.Kind.STRING: VARCHAR,
}
_LOGICAL_OF = {type_: logical for logical, type_ in _LOGICAL.items()}
_KIND_OF = {type_: kind for kind, type_ in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class FieldType:
    """The type of one field of a dataset, and how a view's schema names it again."""

    type: Type
    nullable: bool
    avro: tree.Type


def field_types(record: tree.Record) -> dict[str, FieldType | None]:
    """The fields of a record by name; None for one of several values, which cannot be selected."""
    return {field.name: _field_type(field.type) for field in record.fields}


def _field_type(avro: tree.Type) -> FieldType | None:
    inner = avro.inner if isinstance(avro, tree.Nullable) else avro
    type_ = _type(inner)
    if type_ is None:
        return None
    is_uuid = isinstance(inner, tree.Primitive) and inner.logical is Logical.UUID
    return FieldType(type_, inner is not avro, inner if is_uuid else avro_type(type_))


def _type(avro: tree.Type) -> Type | None:
    match avro:
        case tree.Primitive(logical=None):
            return _KINDS[avro.kind]
        case tree.Primitive(logical=Logical() as logical):
            return VARCHAR if logical is Logical.UUID else _LOGICAL[logical]
        case tree.Decimal():
            return Type(Kind.DECIMAL, avro.precision, avro.scale)
        case tree.Enum():
            return VARCHAR
        case tree.Fixed():
            return BLOB
    return None


def avro_type(type_: Type) -> tree.Type:
    """How an Avro schema says this type; there is no saying NULL."""
    if type_.kind is Kind.DECIMAL:
        return tree.Decimal(precision=type_.precision, scale=type_.scale)
    if type_ in _LOGICAL_OF:
        return tree.Primitive(tree.CARRIERS[_LOGICAL_OF[type_]], _LOGICAL_OF[type_])
    return tree.Primitive(_KIND_OF[type_])
