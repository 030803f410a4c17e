"""The Arrow types of Avro's: one choice, here, whatever codec made the columns."""

from __future__ import annotations

import pyarrow as pa

from civicbus.schemas.codec.schema import AvroSchema
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

_KINDS: dict[Kind, pa.DataType] = {
    Kind.BOOLEAN: pa.bool_(),
    Kind.INT: pa.int32(),
    Kind.LONG: pa.int64(),
    Kind.FLOAT: pa.float32(),
    Kind.DOUBLE: pa.float64(),
    Kind.BYTES: pa.binary(),
    Kind.STRING: pa.string(),
}
_LOGICAL: dict[Logical, pa.DataType] = {
    Logical.DATE: pa.date32(),
    Logical.TIME_MILLIS: pa.time32("ms"),
    Logical.TIME_MICROS: pa.time64("us"),
    Logical.TIMESTAMP_MILLIS: pa.timestamp("ms", "UTC"),
    Logical.TIMESTAMP_MICROS: pa.timestamp("us", "UTC"),
    Logical.LOCAL_TIMESTAMP_MILLIS: pa.timestamp("ms"),
    Logical.LOCAL_TIMESTAMP_MICROS: pa.timestamp("us"),
    Logical.UUID: pa.string(),
}


def arrow_schema(schema: AvroSchema) -> pa.Schema:
    """The Arrow schema of this schema's rows; ColumnCodec gives and takes batches of it."""
    return pa.schema(fields_of(schema.record))


def fields_of(record: Record) -> list[pa.Field]:
    """The Arrow fields of a record's; nullable where the Avro type is."""
    return [field_of(field.name, field.type) for field in record.fields]


def field_of(name: str, type_: Type) -> pa.Field:
    """The Arrow field of a type under a name."""
    if isinstance(type_, Nullable):
        return pa.field(name, data_type(type_.inner), nullable=True)
    return pa.field(name, data_type(type_), nullable=False)


def data_type(type_: Type) -> pa.DataType:
    """The Arrow type of an Avro type; whether it is nullable is its field's matter."""
    match type_:
        case Primitive():
            return _KINDS[type_.kind] if type_.logical is None else _LOGICAL[type_.logical]
        case Decimal():
            return pa.decimal128(type_.precision, type_.scale)
        case Fixed():
            return pa.binary(type_.size)
        case Enum():
            return pa.string()
        case Array():
            return pa.list_(field_of("item", type_.items))
        case Map():
            return pa.map_(pa.string(), field_of("value", type_.values))
        case Record():
            return pa.struct(fields_of(type_))
        case Nullable():
            return data_type(type_.inner)
