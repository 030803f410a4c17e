"""pyruhvro behind one narrow door: Avro bytes to Arrow columns and back, for the schemas that it knows whole.

pyruhvro is given the schema without logical types and with names of our own; the Arrow types that the logical
types stand for have the same memory layout and are put over its columns without a copy. It takes bytes on trust
in places (text that is not UTF-8, integers of more bits than their type, trailing bytes), so ``read`` returns
sound columns only, and ``differing`` says which rows are other bytes when they are written again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from civicbus.schemas.codec.arrow import arrow_schema, under
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.sound import unsound_field
from civicbus.schemas.codec.tree import Array, Decimal, Enum, Fixed, Json, Kind, Map, Nullable, Primitive, Record, Type


class Unsound(Exception):
    """A row of the batch or more is bad; which one, the row codec says."""


def is_columnar(schema: AvroSchema) -> bool:
    """Whether pyruhvro reads and writes this schema; the others go row by row."""
    return _columnar(schema.record)


def _columnar(type_: Type) -> bool:
    match type_:
        case Primitive():
            return type_.kind is not Kind.BYTES
        case Fixed() | Decimal():
            return False
        case Enum():
            return True
        case Array():
            return _columnar(type_.items)
        case Map():
            return _columnar(type_.values)
        case Nullable():
            return _columnar(type_.inner)
        case Record():
            return all(_columnar(field.type) for field in type_.fields)


class Wire:
    """One columnar schema's rows. ``start`` is what stands before each: nothing, or the frame's five bytes.

    To pyruhvro the frame is two more fields, a boolean (0x00 is false) and a float (four bytes that nobody takes
    for a number), so that no value is copied in Python to take it off or put it on.
    """

    def __init__(self, schema: AvroSchema) -> None:
        self._arrow = arrow_schema(schema)
        self._unsound = unsound_field(schema.record)
        names = _Names()
        fields = [names.plain(field.type) for field in schema.record.fields]
        self._bare = _Layout(fields)
        self._framed = _Layout(["boolean", "float", *fields])

    def read(self, values: list[bytes], start: bytes) -> pa.RecordBatch:
        """The rows, where every one is sound; raises Unsound."""
        batch = self.read_sound(values, start)
        try:
            batch.validate(full=True)
        except ValueError:
            raise Unsound from None
        if self._unsound(batch) is not None:
            raise Unsound
        return batch

    def read_sound(self, values: Sequence[bytes], start: bytes) -> pa.RecordBatch:
        """The rows of values that are known to be sound; raises Unsound where they show that they are not."""
        try:
            batch = pyruhvro.deserialize_array(values, self._layout(start).text)
        except ValueError:
            raise Unsound from None
        if start:
            batch = pa.RecordBatch.from_arrays(batch.columns[2:], schema=self._bare.schema)
        return under(batch, self._arrow)

    def differing(self, batch: pa.RecordBatch, values: list[bytes], start: bytes) -> Sequence[int]:
        """The places of the rows whose bytes, written again, are not those that they were read from."""
        given, written = pa.array(values, pa.binary()), self._written(batch, start)
        if written.equals(given):
            return ()
        places: list[int] = np.flatnonzero(pc.not_equal(given, written).to_numpy(zero_copy_only=False)).tolist()
        return places

    def write(self, batch: pa.RecordBatch, start: bytes) -> list[bytes]:
        """The bytes of each row of a sound batch; raises Unsound where a symbol is not its enum's."""
        try:
            return [*self._written(batch, start).to_pylist()]
        except ValueError:
            raise Unsound from None

    def _written(self, batch: pa.RecordBatch, start: bytes) -> pa.BinaryArray:
        plain = under(batch, self._bare.schema)
        if start:
            frame = [pa.repeat(False, len(batch)), _four_bytes(start[1:], len(batch))]
            plain = pa.RecordBatch.from_arrays([*frame, *plain.columns], schema=self._framed.schema)
        (written,) = pyruhvro.serialize_record_batch(plain, self._layout(start).text, 1)
        array: pa.BinaryArray = written
        return array

    def _layout(self, start: bytes) -> _Layout:
        return self._framed if start else self._bare


class _Layout:
    """What pyruhvro is told of a row, and the Arrow schema that it makes of it."""

    def __init__(self, fields: Sequence[Json]) -> None:
        named: list[Json] = [{"name": f"f{place}", "type": field} for place, field in enumerate(fields)]
        self.text = json.dumps({"type": "record", "name": "row", "fields": named})
        self.schema: pa.Schema = pyruhvro.avro_to_arrow_schema(self.text)


class _Names:
    """Types without logical types; a named one gets a new name at each use, so that none refers to another."""

    def __init__(self) -> None:
        self._given = 0

    def plain(self, type_: Type) -> Json:
        """The type as pyruhvro is told it."""
        match type_:
            case Primitive():
                return type_.kind.value
            case Array():
                return {"type": "array", "items": self.plain(type_.items)}
            case Map():
                return {"type": "map", "values": self.plain(type_.values)}
            case Nullable():
                inner = self.plain(type_.inner)
                return ["null", inner] if type_.null_first else [inner, "null"]
            case Enum():
                return {"type": "enum", "name": self._name(), "symbols": [*type_.symbols]}
            case Record():
                name = self._name()
                fields: list[Json] = [{"name": one.name, "type": self.plain(one.type)} for one in type_.fields]
                return {"type": "record", "name": name, "fields": fields}
            case Fixed() | Decimal():
                raise AssertionError("is_columnar refuses it")

    def _name(self) -> str:
        self._given += 1
        return f"n{self._given}"


def _four_bytes(four: bytes, count: int) -> pa.Array:
    """As many floats whose memory is these four bytes; no arithmetic that could change a NaN."""
    array: pa.Array = pa.Array.from_buffers(pa.float32(), count, [None, pa.py_buffer(four * count)])
    return array
