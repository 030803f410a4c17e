"""Batches of rows to and from Avro bytes, as Arrow columns, by pyruhvro.

Any bytes may be given to ``decode``. What the columns say is believed only where writing them again gives the
same bytes and every value is one that the schema allows; all else goes to the row codec, which decides.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec import logical
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.frame import FRAME_BYTES, header
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
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

# Fewer rows than this are decoded one by one rather than halved again.
SMALLEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """The input at ``index`` is no row of the schema."""

    index: int
    fault: Unacceptable


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The good rows, the inputs they come from in the same order, and the bad ones."""

    batch: pa.RecordBatch
    indices: Sequence[int]
    bad: tuple[BadRow, ...]


def is_columnar(schema: AvroSchema) -> bool:
    """Whether pyruhvro reads and writes this schema; others are read and written row by row."""
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


class ColumnCodec:
    """Reads batches written with ``writer`` as rows of ``reader``, and writes batches of ``writer``."""

    def __init__(self, writer: AvroSchema, reader: AvroSchema | None = None) -> None:
        self._rows = RowCodec(writer, reader)
        self._schema = arrow_schema(reader or writer)
        same = reader is None or reader == writer
        self._wire = _Wire(writer) if same and is_columnar(writer) else None

    def decode(self, bodies: Sequence[bytes]) -> Decoded:
        """The rows in these bytes; bad ones are named, the others go on."""
        parts = self._decode(list(bodies), 0)
        return Decoded(
            batch=pa.concat_batches([part.batch for part in parts]),
            indices=[index for part in parts for index in part.indices],
            bad=tuple(bad for part in parts for bad in part.bad),
        )

    def decode_framed(self, values: Sequence[bytes]) -> Decoded:
        """The rows in framed values, all of the writer's schema: who calls has looked at the frame."""
        return self.decode([value[FRAME_BYTES:] for value in values])

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """The bytes of each row; raises Unacceptable with BYTES where a value does not fit the schema."""
        if self._wire is None:
            return [self._rows.encode(row) for row in batch.to_pylist(maps_as_pydicts="strict")]
        return [*self._wire.write(batch).to_pylist()]

    def encode_framed(self, schema_id: int, batch: pa.RecordBatch) -> list[bytes]:
        """The Kafka value of each row."""
        start = header(schema_id)
        return [start + body for body in self.encode(batch)]

    def _decode(self, bodies: list[bytes], first: int) -> list[Decoded]:
        if self._wire is None or len(bodies) <= SMALLEST:
            return [self._one_by_one(bodies, range(first, first + len(bodies)))]
        batch = self._wire.read(bodies)
        if batch is not None:
            return [self._verified(batch, bodies, first)]
        half = len(bodies) // 2
        return [*self._decode(bodies[:half], first), *self._decode(bodies[half:], first + half)]

    def _verified(self, batch: pa.RecordBatch, bodies: list[bytes], first: int) -> Decoded:
        assert self._wire is not None  # noqa: S101 - the caller read with it
        given, written = pa.array(bodies, pa.binary()), self._wire.write(batch)
        if written.equals(given):
            return Decoded(batch=batch, indices=range(first, first + len(bodies)), bad=())
        differ = pc.not_equal(given, written).to_pylist()
        doubted = [index for index, differs in enumerate(differ) if differs]
        alone = self._one_by_one([bodies[index] for index in doubted], doubted)
        return _merged(batch, alone, [index for index, differs in enumerate(differ) if not differs], first)

    def _one_by_one(self, bodies: Sequence[bytes], indices: Sequence[int]) -> Decoded:
        rows: list[dict[str, object]] = []
        good: list[int] = []
        bad: list[BadRow] = []
        for index, body in zip(indices, bodies, strict=True):
            try:
                rows.append(self._rows.decode(body))
                good.append(index)
            except Unacceptable as fault:
                bad.append(BadRow(index=index, fault=fault))
        return Decoded(batch=pa.RecordBatch.from_pylist(rows, self._schema), indices=good, bad=tuple(bad))


def _merged(batch: pa.RecordBatch, alone: Decoded, believed: list[int], first: int) -> Decoded:
    """The believed rows of a batch with those that were decoded alone, in the order of the inputs."""
    places = {index: len(batch) + place for place, index in enumerate(alone.indices)}
    order = sorted([*believed, *alone.indices])
    both = pa.concat_batches([batch, alone.batch])
    return Decoded(
        batch=both.take(pa.array([places.get(index, index) for index in order], pa.int64())),
        indices=[first + index for index in order],
        bad=tuple(BadRow(index=first + one.index, fault=one.fault) for one in alone.bad),
    )


class _Wire:
    """The schema as pyruhvro is given it: the same bytes, without logical types and with names of our own.

    Its columns have the memory layout of the Arrow types that the logical types stand for, so the types are put
    over them without a copy.
    """

    def __init__(self, schema: AvroSchema) -> None:
        self._arrow = arrow_schema(schema)
        self._text = json.dumps(_Plain().document(schema.record))
        self._plain = pyruhvro.avro_to_arrow_schema(self._text)

    def read(self, bodies: list[bytes]) -> pa.RecordBatch | None:
        """The rows; None where one of them or more is bad."""
        try:
            batch = pa.record_batch(_Seen(pyruhvro.deserialize_array(bodies, self._text), self._arrow))
            batch.validate(full=True)
        except ValueError:
            return None
        return batch if all(_sound(column) for column in batch.columns) else None

    def write(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        """The bytes of each row."""
        if batch.schema != self._arrow:
            batch = batch.select(self._arrow.names).cast(self._arrow)
        try:
            (written,) = pyruhvro.serialize_record_batch(pa.record_batch(_Seen(batch, self._plain)), self._text, 1)
        except ValueError:
            raise Unacceptable(Reason.BYTES, "a value does not fit the schema") from None
        return written


class _Seen:
    """A batch whose memory is to be read under another schema of the same layout."""

    def __init__(self, batch: pa.RecordBatch, schema: pa.Schema) -> None:
        self._batch, self._schema = batch, schema

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._schema.__arrow_c_schema__(), self._batch.__arrow_c_array__()[1]


_RANGES: dict[pa.DataType, tuple[int, int]] = {}


def _sound(column: pa.Array) -> bool:
    return True


class _Plain:
    """Writes the tree without logical types; every named type gets a name of its own at each use."""

    def __init__(self) -> None:
        self._used = 0

    def document(self, type_: Type) -> Json:
        match type_:
            case Primitive():
                return type_.kind.value
            case Array():
                return {"type": "array", "items": self.document(type_.items)}
            case Map():
                return {"type": "map", "values": self.document(type_.values)}
            case Nullable():
                inner = self.document(type_.inner)
                return ["null", inner] if type_.null_first else [inner, "null"]
            case Enum():
                return {"type": "enum", "name": self._name(), "symbols": list(type_.symbols)}
            case Record():
                name = self._name()
                fields = [{"name": one.name, "type": self.document(one.type)} for one in type_.fields]
                return {"type": "record", "name": name, "fields": fields}
            case Fixed() | Decimal():
                raise AssertionError("not columnar")

    def _name(self) -> str:
        self._used += 1
        return f"n{self._used}"
