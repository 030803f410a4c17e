"""The Arrow types of Avro's: one choice, here, whatever codec made the columns."""

from __future__ import annotations

import pyarrow as pa

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.reasons import Reason
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


class _Under:
    """Hands a batch's memory to Arrow's C interface with another schema."""

    def __init__(self, batch: pa.RecordBatch, schema: pa.Schema) -> None:
        self._batch, self._schema = batch, schema

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._schema.__arrow_c_schema__(), self._batch.__arrow_c_array__()[1]


def under(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same memory under a schema of the same layout: names, logical types and nullability change, no byte."""
    seen: pa.RecordBatch = pa.record_batch(_Under(batch, schema))
    return seen


def shaped(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of the same columns, in any order and any of Arrow's forms of text and lists, as ``schema`` has them.

    Raises ConfigurationError where columns or their types differ, Unacceptable where a required one holds nulls.
    """
    if batch.schema.equals(schema):
        return batch
    if sorted(batch.schema.names) != sorted(schema.names):
        raise ConfigurationError("the batch has other columns than its schema", mend="select the schema's columns")
    columns = [_shaped(batch.column(field.name), field) for field in schema]
    return under(pa.RecordBatch.from_arrays(columns, names=schema.names), schema)


def _shaped(column: pa.Array, field: pa.Field) -> pa.Array:
    if not _alike(column.type, field.type):
        raise ConfigurationError(f"{field.name}: {column.type} is not {field.type}", mend="cast the column first")
    if column.null_count and not field.nullable:
        raise Unacceptable(Reason.BYTES, "a required value is missing", field=field.name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.dictionary(column.type.index_type, pa.large_string()))
    shaped: pa.Array = column.cast(_relaxed(field.type))
    return shaped


def _relaxed(type_: pa.DataType) -> pa.DataType:
    """The type with nulls allowed at every place inside it: Arrow's cast looks at what lies under a null too."""
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(field.name, _relaxed(field.type)) for field in type_])
    if pa.types.is_map(type_):
        return pa.map_(pa.string(), _relaxed(type_.item_type))
    return pa.list_(_relaxed(type_.value_type)) if pa.types.is_list(type_) else type_


def _alike(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether two types differ in form only, so that a cast keeps every value."""
    if pa.types.is_dictionary(given):
        return _alike(given.value_type, wanted)
    if pa.types.is_struct(given) and pa.types.is_struct(wanted):
        return sorted(given.names) == sorted(wanted.names) and all(
            _alike(given.field(field.name).type, field.type) for field in wanted
        )
    if pa.types.is_map(given) and pa.types.is_map(wanted):
        return _alike(given.key_type, wanted.key_type) and _alike(given.item_type, wanted.item_type)
    if _is_list(given) and _is_list(wanted):
        return _alike(given.value_type, wanted.value_type)
    return bool(given == wanted or any(form(given) and form(wanted) for form in (_is_text, _is_bytes)))


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_))
