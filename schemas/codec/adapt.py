"""Columns that were written with one schema as columns of another: the same readings as for rows."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from civicbus.schemas.codec.arrow import arrow_schema, data_type
from civicbus.schemas.codec.resolve import Reading, default, promotion, reading, source
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Field, Kind

# Makes one column of the reader's from a batch of the writer's.
Column = Callable[[pa.RecordBatch], pa.Array]


class Adaptation:
    """Turns batches of the writer's schema into batches of the reader's; refuses the pairs that rows refuse.

    Columns are taken, cast or filled in as a whole; only a field whose nested type changed goes value by value.
    """

    def __init__(self, writer: AvroSchema, reader: AvroSchema) -> None:
        reading(writer.record, reader.record)
        self._schema = arrow_schema(reader)
        self._columns = [
            _column(source(writer.record, field), field, self._schema.field(place).type)
            for place, field in enumerate(reader.record.fields)
        ]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        adapted: pa.RecordBatch = pa.RecordBatch.from_arrays(
            [make(batch) for make in self._columns], schema=self._schema
        )
        return adapted


def _column(written: Field | None, field: Field, type_: pa.DataType) -> Column:
    if written is None:
        return _constant(field, type_)
    name = written.name
    how = reading(written.type, field.type, field.name)
    widened = promotion(written.type, field.type)
    if widened is not None:
        through = pa.float64() if widened[1].kind is Kind.FLOAT else type_
        return lambda batch: batch.column(name).cast(through, safe=False).cast(type_, safe=False)
    if how is None and data_type(written.type) == type_:
        return lambda batch: batch.column(name)
    return lambda batch: _by_value(batch.column(name), how, type_)


def _constant(field: Field, type_: pa.DataType) -> Column:
    value = pa.scalar(default(field), type_)
    return lambda batch: pa.repeat(value, len(batch))


def _by_value(column: pa.Array, how: Reading | None, type_: pa.DataType) -> pa.Array:
    values = column.to_pylist(maps_as_pydicts="strict")
    array: pa.Array = pa.array(values if how is None else map(how, values), type_)
    return array
