"""Batches of rows to and from Avro bytes, as Arrow columns.

Any bytes may be given to ``decode``. The columns are believed where they are sound and writing them again gives
the same bytes; all else goes to the row codec, which decides. Both codecs give the same answers; a schema that
is not columnar goes row by row and has the same Arrow types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.adapt import Adaptation
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.frame import FRAME_BYTES, header, is_framed, unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.walk import CELLS, cells, cells_a_byte
from civicbus.schemas.codec.wire import Unsound, Wire, is_columnar

__all__ = ["BadRow", "ColumnCodec", "Decoded", "is_columnar"]

# Fewer bad rows than this are looked for one by one rather than by halving.
FEW = 16
# What the columns of one call to pyruhvro may take in memory; more is decoded in parts.
PART_BYTES = 2**30
CELL_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """The input at ``index`` is no row of the schema."""

    index: int
    fault: Unacceptable


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The good rows, the places of the inputs that they come from in the same order, and the bad ones."""

    batch: pa.RecordBatch
    indices: Sequence[int]
    bad: tuple[BadRow, ...]


class ColumnCodec:
    """Reads batches written with ``writer`` as rows of ``reader``, and writes batches of ``writer``.

    Raises ConfigurationError where some rows of the writer have no reading.
    """

    def __init__(self, writer: AvroSchema, reader: AvroSchema | None = None) -> None:
        self._rows = RowCodec(writer)
        self._schema = arrow_schema(writer)
        self._wire = Wire(writer) if is_columnar(writer) else None
        self._row_bytes = CELL_BYTES * cells(writer.record)
        self._byte_cells = cells_a_byte(writer.record)
        self._adapt = None if reader is None or reader == writer else Adaptation(writer, reader)

    def decode(self, bodies: Sequence[bytes]) -> Decoded:
        """The rows in these Avro bytes; bad ones are named and the others go on.

        Raises ValueError where the good rows together are more than an Arrow column holds (2 GiB of text).
        """
        return self._decoded([*bodies], b"")

    def decode_framed(self, values: Sequence[bytes]) -> Decoded:
        """The rows in framed values of one schema id, the first that is found; any with another frame are bad."""
        return self._decoded([*values], next(filter(is_framed, values), header(0))[:FRAME_BYTES])

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """The Avro bytes of each row; raises Unacceptable with BYTES and the field at fault."""
        return self._encoded(batch, b"")

    def encode_framed(self, schema_id: int, batch: pa.RecordBatch) -> list[bytes]:
        """The Kafka value of each row; raises as ``encode`` does."""
        return self._encoded(batch, header(schema_id))

    def encode_each(self, batch: pa.RecordBatch) -> list[bytes | Unacceptable]:
        """The Avro bytes of each row or why it has none, row by row: for a batch that ``encode`` refused."""
        return [self._encoded_alone(batch.slice(place, 1)) for place in range(len(batch))]

    def _decoded(self, values: list[bytes], start: bytes) -> Decoded:
        parts = self._parts(values, start, 0)
        if len(parts) == 1:
            batch, indices, bad = parts[0].batch, parts[0].indices, parts[0].bad
        else:
            batch = pa.concat_batches([part.batch for part in parts])
            indices = [index for part in parts for index in part.indices]
            bad = tuple(one for part in parts for one in part.bad)
        return Decoded(batch=batch if self._adapt is None else self._adapt(batch), indices=indices, bad=bad)

    def _parts(self, values: list[bytes], start: bytes, first: int) -> list[Decoded]:
        """The rows by columns; where that fails, by halves, until the bad rows are found."""
        if self._wire is not None and self._bounded(values):
            try:
                return [self._believed(self._wire, values, start, first)]
            except Unsound:
                pass
        if self._wire is None or len(values) <= FEW:
            return [self._one_by_one(values, start, range(first, first + len(values)))]
        half = len(values) // 2
        return [*self._parts(values[:half], start, first), *self._parts(values[half:], start, first + half)]

    def _bounded(self, values: list[bytes]) -> bool:
        """Whether no row can pass the walker's bound of cells, nor all of them that of a part."""
        most = max(map(len, values), default=0)
        columns = len(values) * self._row_bytes + sum(map(len, values)) * (1 + CELL_BYTES * self._byte_cells)
        return most * self._byte_cells <= CELLS and columns <= PART_BYTES

    def _believed(self, wire: Wire, values: list[bytes], start: bytes, first: int) -> Decoded:
        batch = wire.read(values, start)
        differing = wire.differing(batch, values, start)
        indices = range(first, first + len(values))
        if not differing:
            return Decoded(batch=batch, indices=indices, bad=())
        alone = self._one_by_one([values[place] for place in differing], start, [indices[at] for at in differing])
        return _merged(batch, alone, sorted({*range(len(values))}.difference(differing)), first)

    def _one_by_one(self, values: Sequence[bytes], start: bytes, indices: Sequence[int]) -> Decoded:
        rows: list[dict[str, object]] = []
        good: list[int] = []
        bad: list[BadRow] = []
        for index, value in zip(indices, values, strict=True):
            try:
                rows.append(self._rows.decode(_body(value, start)))
                good.append(index)
            except Unacceptable as fault:
                bad.append(BadRow(index=index, fault=fault))
        return Decoded(batch=pa.RecordBatch.from_pylist(rows, schema=self._schema), indices=good, bad=tuple(bad))

    def _encoded(self, batch: pa.RecordBatch, start: bytes) -> list[bytes]:
        if self._wire is None:
            return [start + self._rows.encode(row) for row in _rows_of(batch)]
        try:
            values = self._wire.write(batch, start)
            if max(map(len, values), default=0) * self._byte_cells <= CELLS:
                return values
        except Unsound:
            pass
        return [start + self._rows.encode(row) for row in _rows_of(batch)]

    def _encoded_alone(self, one: pa.RecordBatch) -> bytes | Unacceptable:
        try:
            (row,) = _rows_of(one)
            return self._rows.encode(row)
        except Unacceptable as fault:
            return fault


def _body(value: bytes, start: bytes) -> bytes:
    if not start:
        return value
    schema_id, body = unframe(value)
    if value[:FRAME_BYTES] != start:
        raise Unacceptable(Reason.FRAME, f"the frame names schema {schema_id}, the batch is of another")
    return body


def _merged(batch: pa.RecordBatch, alone: Decoded, believed: list[int], first: int) -> Decoded:
    """The believed rows of a batch and those that were decoded alone, in the order of the inputs."""
    sources = {first + place: place for place in believed}
    sources |= {index: len(batch) + place for place, index in enumerate(alone.indices)}
    indices = sorted(sources)
    both = pa.concat_batches([batch, alone.batch])
    merged = both.take(pa.array([sources[index] for index in indices], pa.int64()))
    return Decoded(batch=merged, indices=indices, bad=alone.bad)


def _rows_of(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """The batch as Python rows; raises Unacceptable where a value has no Python form, naming its field."""
    columns: dict[str, list[object]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = column.to_pylist(maps_as_pydicts="strict")
        except (ValueError, OverflowError, KeyError):
            raise Unacceptable(Reason.BYTES, "a value is outside what its type can hold", field=name) from None
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
