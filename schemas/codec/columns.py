"""Batches of rows to and from Avro bytes, as Arrow columns.

Any bytes may be given to ``decode``. The columns are believed where they are sound and writing them again gives
the same bytes; all else goes to the row codec, which decides. Both codecs give the same answers; a schema that
is not columnar goes row by row and has the same Arrow types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.adapt import Adaptation
from civicbus.schemas.codec.arrow import arrow_schema, shaped
from civicbus.schemas.codec.frame import FRAME_BYTES, header, is_framed, unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.sound import unsound_field
from civicbus.schemas.codec.walk import CELLS, cells, cells_a_byte
from civicbus.schemas.codec.wire import Unsound, Wire, is_columnar

__all__ = ["BadRow", "ColumnCodec", "Decoded", "is_columnar"]

# Among so many rows the walker finds the bad ones sooner than halving does.
FEW = 512
# What a part of a batch may take in memory as it is decoded, by columns and as Python objects.
PART_BYTES = 2**30
CELL_BYTES = 8
# What is written at once: a boolean takes a bit in a column and up to two bytes in a row, and pyruhvro stops at 2 GiB.
WRITTEN_BYTES = 2**27
ROW_CELL_BYTES = 100


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
        self._unsound = unsound_field(writer.record)
        self._wire = Wire(writer) if is_columnar(writer) else None
        cell_bytes = ROW_CELL_BYTES if self._wire is None else CELL_BYTES
        self._byte_cells = cells_a_byte(writer.record)
        self._byte_cost = 1 + cell_bytes * self._byte_cells
        self._row_cost = cell_bytes * cells(writer.record)
        self._adapt = None if reader is None or reader == writer else Adaptation(writer, reader)

    def decode(self, bodies: Sequence[bytes]) -> Decoded:
        """The rows in these Avro bytes; bad ones are named and the others go on.

        Raises ValueError where the good rows together are more than an Arrow column holds (2 GiB of text).
        """
        return self._decoded([*bodies], b"")

    def decode_framed(self, values: Sequence[bytes]) -> Decoded:
        """The rows in framed values of one schema id, the first that is found; any with another frame are bad."""
        return self._decoded([*values], next(filter(is_framed, values), header(0))[:FRAME_BYTES])

    def decode_admitted(self, values: Sequence[bytes]) -> Decoded:
        """As ``decode_framed``, for values that admission let in: nobody else writes records, and it looked at each.

        They are not held against their bytes once more, which takes two thirds of the time. All of them have the
        frame of the first.
        """
        if self._wire is None or not values or not self._bounded(values):
            return self.decode_framed(values)
        try:
            batch = self._wire.read_sound(values, values[0][:FRAME_BYTES])
        except Unsound:
            return self.decode_framed(values)
        rows = batch if self._adapt is None else self._adapt(batch)
        return Decoded(batch=rows, indices=range(len(values)), bad=())

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """The Avro bytes of each row; raises Unacceptable with BYTES and the field at fault.

        Columns may stand in any order and in any of Arrow's forms of text and lists, as Polars gives them; raises
        ConfigurationError where they are other columns or other types.
        """
        return self._encoded(batch, b"")

    def encode_framed(self, schema_id: int, batch: pa.RecordBatch) -> list[bytes]:
        """The Kafka value of each row; raises as ``encode`` does."""
        return self._encoded(batch, header(schema_id))

    def encode_each(self, batch: pa.RecordBatch) -> list[bytes | Unacceptable]:
        """The Avro bytes of each row or why it has none, row by row: for a batch that ``encode`` refused."""
        return [self._encoded_alone(batch.slice(place, 1)) for place in range(len(batch))]

    def _decoded(self, values: list[bytes], start: bytes) -> Decoded:
        parts = self._parts(values, start, range(len(values)))
        whole = parts[0] if len(parts) == 1 else _joined(parts)
        return whole if self._adapt is None else replace(whole, batch=self._adapt(whole.batch))

    def _parts(self, values: list[bytes], start: bytes, indices: Sequence[int]) -> list[Decoded]:
        """The rows by columns; where that fails, by halves, until the bad rows are among a few."""
        bounded = self._bounded(values)
        if len(values) > 1 and not bounded:
            return self._halves(values, start, indices)
        if self._wire is None or not bounded:
            return [self._one_by_one(values, start, indices)]
        try:
            return [self._believed(self._wire, values, start, indices)]
        except Unsound:
            if len(values) > FEW:
                return self._halves(values, start, indices)
            return self._sifted(self._wire, values, start, indices)

    def _halves(self, values: list[bytes], start: bytes, indices: Sequence[int]) -> list[Decoded]:
        half = len(values) // 2
        first = self._parts(values[:half], start, indices[:half])
        return first + self._parts(values[half:], start, indices[half:])

    def _bounded(self, values: Sequence[bytes]) -> bool:
        """Whether no row can pass the walker's bound of cells, nor all of them together that of a part."""
        if self._byte_cells and max(map(len, values), default=0) * self._byte_cells > CELLS:
            return False
        return len(values) * self._row_cost + sum(map(len, values)) * self._byte_cost <= PART_BYTES

    def _believed(self, wire: Wire, values: list[bytes], start: bytes, indices: Sequence[int]) -> Decoded:
        """The rows by columns; those that are other bytes when written again as the walker decides. Raises Unsound.

        What the walker passes although it is other bytes has items in several blocks: the same row.
        """
        batch = wire.read(values, start)
        faults = {at: fault for at in wire.differing(batch, values, start) if (fault := self._fault(values[at], start))}
        if not faults:
            return Decoded(batch=batch, indices=indices, bad=())
        good = np.ones(len(values), np.bool_)
        good[[*faults]] = False
        bad = tuple(BadRow(index=indices[at], fault=fault) for at, fault in faults.items())
        return Decoded(batch=batch.filter(pa.array(good)), indices=np.asarray(indices)[good].tolist(), bad=bad)

    def _sifted(self, wire: Wire, values: list[bytes], start: bytes, indices: Sequence[int]) -> list[Decoded]:
        """The rows by columns, once the walker has taken out the bad ones."""
        faults = [self._fault(value, start) for value in values]
        good = [place for place, fault in enumerate(faults) if fault is None]
        bad = tuple(BadRow(index=indices[at], fault=fault) for at, fault in enumerate(faults) if fault is not None)
        rest = [values[place] for place in good], start, [indices[place] for place in good]
        try:
            return [replace(self._believed(wire, *rest), bad=bad)]
        except Unsound:
            return [replace(self._one_by_one(*rest), bad=bad)]

    def _fault(self, value: bytes, start: bytes) -> Unacceptable | None:
        try:
            self._rows.check(_body(value, start))
        except Unacceptable as fault:
            return fault.with_traceback(None)
        return None

    def _one_by_one(self, values: Sequence[bytes], start: bytes, indices: Sequence[int]) -> Decoded:
        rows: list[dict[str, object]] = []
        good: list[int] = []
        bad: list[BadRow] = []
        for index, value in zip(indices, values, strict=True):
            try:
                rows.append(self._rows.decode(_body(value, start)))
                good.append(index)
            except Unacceptable as fault:
                bad.append(BadRow(index=index, fault=fault.with_traceback(None)))
        return Decoded(batch=pa.RecordBatch.from_pylist(rows, schema=self._schema), indices=good, bad=tuple(bad))

    def _encoded(self, batch: pa.RecordBatch, start: bytes) -> list[bytes]:
        batch = shaped(batch, self._schema)
        field = self._unsound(batch)
        if field is not None:
            raise Unacceptable(Reason.BYTES, "a value is not one that the type allows", field=field)
        return self._written(batch, start)

    def _written(self, batch: pa.RecordBatch, start: bytes) -> list[bytes]:
        if batch.nbytes > WRITTEN_BYTES and len(batch) > 1:
            half = len(batch) // 2
            return self._written(batch.slice(0, half), start) + self._written(batch.slice(half), start)
        if self._wire is not None:
            try:
                values = self._wire.write(batch, start)
                if not self._byte_cells or max(map(len, values), default=0) * self._byte_cells <= CELLS:
                    return values
            except Unsound:
                pass
        return [start + self._rows.encode(row) for row in batch.to_pylist(maps_as_pydicts="strict")]

    def _encoded_alone(self, one: pa.RecordBatch) -> bytes | Unacceptable:
        try:
            return self._encoded(one, b"")[0]
        except Unacceptable as fault:
            return fault.with_traceback(None)


def _body(value: bytes, start: bytes) -> bytes:
    if not start:
        return value
    schema_id, body = unframe(value)
    if value[:FRAME_BYTES] != start:
        raise Unacceptable(Reason.FRAME, f"the frame names schema {schema_id}, the batch is of another")
    return body


def _joined(parts: Sequence[Decoded]) -> Decoded:
    return Decoded(
        batch=pa.concat_batches([part.batch for part in parts]),
        indices=[index for part in parts for index in part.indices],
        bad=tuple(bad for part in parts for bad in part.bad),
    )
