"""Columns and rows are two ways to one answer: for every schema, every row and every string of bytes."""

import io
import json
import math
import struct
from collections.abc import Sequence

import fastavro
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec, Decoded, is_columnar
from civicbus.schemas.codec.frame import frame
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Json
from support.avro import in_blocks, record, rows, schemas, spoiled

Row = dict[str, object]
generated = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
ids = st.integers(0, 2**32 - 1)


@st.composite
def batches(draw: st.DrawFn) -> tuple[AvroSchema, list[Row]]:
    schema = draw(schemas())
    return schema, draw(st.lists(rows(schema), min_size=1, max_size=8))


def as_rows(batch: pa.RecordBatch) -> list[Row]:
    """Arrow gives a map as pairs; a row has a dict. That is the one difference between the two."""
    return batch.to_pylist(maps_as_pydicts="strict")


def by_row(schema: AvroSchema, bodies: Sequence[bytes]) -> tuple[list[Row], list[int], list[tuple[int, str]]]:
    codec = RowCodec(schema)
    good: list[Row] = []
    indices, bad = [], []
    for index, body in enumerate(bodies):
        try:
            good.append(codec.decode(body))
            indices.append(index)
        except Unacceptable as fault:
            bad.append((index, f"{fault.reason} {fault.field}"))
    return good, indices, bad


def by_column(schema: AvroSchema, bodies: Sequence[bytes]) -> tuple[list[Row], list[int], list[tuple[int, str]]]:
    decoded = ColumnCodec(schema).decode(bodies)
    return (
        as_rows(decoded.batch),
        [*decoded.indices],
        [(one.index, f"{one.fault.reason} {one.fault.field}") for one in decoded.bad],
    )


@generated
@given(batches())
def test_what_is_written_reads_back_equal_by_rows_and_by_columns(batch: tuple[AvroSchema, list[Row]]) -> None:
    schema, written = batch
    bodies = [RowCodec(schema).encode(row) for row in written]
    assert by_row(schema, bodies)[0] == written
    assert by_column(schema, bodies) == (written, [*range(len(written))], [])


@generated
@given(batches())
def test_rows_and_columns_write_the_same_bytes(batch: tuple[AvroSchema, list[Row]]) -> None:
    schema, written = batch
    columns = pa.RecordBatch.from_pylist(written, schema=arrow_schema(schema))
    assert ColumnCodec(schema).encode(columns) == [RowCodec(schema).encode(row) for row in written]


@generated
@given(batches())
def test_fastavro_alone_writes_and_reads_the_same(batch: tuple[AvroSchema, list[Row]]) -> None:
    schema, written = batch
    parsed = fastavro.parse_schema(json.loads(schema.text.replace(',"logicalType":"uuid"', "")))
    for row in written:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row)
        assert out.getvalue() == RowCodec(schema).encode(row)
        assert fastavro.schemaless_reader(io.BytesIO(out.getvalue()), parsed, None) == row


@generated
@given(batches())
def test_decoded_columns_have_the_schema_that_is_derived_without_them(batch: tuple[AvroSchema, list[Row]]) -> None:
    schema, written = batch
    bodies = [RowCodec(schema).encode(row) for row in written]
    decoded = ColumnCodec(schema).decode(bodies).batch
    decoded.validate(full=True)
    assert decoded.schema.equals(arrow_schema(schema), check_metadata=True)


@generated
@given(batches(), ids)
def test_framed_values_are_the_frame_and_the_bytes(batch: tuple[AvroSchema, list[Row]], schema_id: int) -> None:
    schema, written = batch
    codec = ColumnCodec(schema)
    values = [frame(schema_id, RowCodec(schema).encode(row)) for row in written]
    decoded = codec.decode_framed(values)
    assert (as_rows(decoded.batch), decoded.bad) == (written, ())
    assert codec.encode_framed(schema_id, decoded.batch) == values


@generated
@given(batches(), st.data())
def test_spoiled_bytes_are_a_row_or_refused_and_both_codecs_say_the_same(
    batch: tuple[AvroSchema, list[Row]], data: st.DataObject
) -> None:
    schema, written = batch
    bodies = [RowCodec(schema).encode(row) for row in written]
    bodies = [data.draw(spoiled(body)) if data.draw(st.booleans()) else body for body in bodies]
    assert _without_nan(by_column(schema, bodies)) == _without_nan(by_row(schema, bodies))


@generated
@given(batches(), st.data())
def test_a_row_in_other_blocks_is_the_same_row(batch: tuple[AvroSchema, list[Row]], data: st.DataObject) -> None:
    schema, written = batch
    bodies = [data.draw(in_blocks(schema.record, row)) for row in written]
    assert by_row(schema, bodies)[0] == by_column(schema, bodies)[0] == written


@generated
@given(schemas(), st.lists(st.binary(max_size=40), max_size=6))
def test_random_bytes_are_a_row_or_refused_and_both_codecs_say_the_same(
    schema: AvroSchema, bodies: list[bytes]
) -> None:
    assert _without_nan(by_column(schema, bodies)) == _without_nan(by_row(schema, bodies))


@generated
@given(schemas(), st.lists(st.binary(max_size=12), max_size=6))
def test_random_values_are_a_row_or_refused_framed_or_not(schema: AvroSchema, values: list[bytes]) -> None:
    decoded = ColumnCodec(schema).decode_framed(values)
    assert sorted([*decoded.indices, *(one.index for one in decoded.bad)]) == [*range(len(values))]
    for one in decoded.bad:
        assert one.fault.reason in {Reason.FRAME, Reason.BYTES}


@generated
@given(batches())
def test_a_row_cut_short_anywhere_is_refused(batch: tuple[AvroSchema, list[Row]]) -> None:
    schema, (row, *_) = batch
    body = RowCodec(schema).encode(row)
    cuts = [body[:end] for end in range(len(body))]
    assert by_row(schema, cuts)[:2] == ([], [])
    assert by_column(schema, cuts)[:2] == ([], [])


@generated
@given(schemas(), st.lists(st.binary(max_size=40), max_size=6))
def test_what_is_accepted_is_written_again_as_a_row_that_reads_back_equal(
    schema: AvroSchema, bodies: list[bytes]
) -> None:
    codec = RowCodec(schema)
    for row in by_row(schema, bodies)[0]:
        assert _without_nan(codec.decode(codec.encode(row))) == _without_nan(row)


def test_numbers_that_are_none_keep_their_bits() -> None:
    schema = record(("a", "float"), ("b", "double"))
    bodies = [struct.pack("<I", 0x7FA00001) + struct.pack("<Q", 0xFFF4000000000001), struct.pack("<fd", math.inf, -0.0)]
    decoded = ColumnCodec(schema).decode(bodies)
    assert decoded.bad == ()
    assert ColumnCodec(schema).encode(decoded.batch) == bodies


@pytest.mark.parametrize("schema_id", [0, 1, 0x0100807F, 0xFFFFFFFF, 0x0000807F, 0x000080FF])
def test_a_schema_id_that_looks_like_a_nan_is_framed_rightly(schema_id: int) -> None:
    codec = ColumnCodec(record(("a", "string")))
    values = [frame(schema_id, b"\x02x")] * 3
    assert codec.encode_framed(schema_id, codec.decode_framed(values).batch) == values


def test_a_value_framed_for_another_schema_is_refused_and_the_others_go_on() -> None:
    schema = record(("a", "string"))
    values = [frame(7, b"\x02x"), frame(8, b"\x02y"), b"\x01\x00\x00\x00\x07\x02z", b"\x00\x00", frame(7, b"\x02w")]
    decoded = ColumnCodec(schema).decode_framed(values)
    assert as_rows(decoded.batch) == [{"a": "x"}, {"a": "w"}]
    assert [(one.index, one.fault.reason) for one in decoded.bad] == [(place, Reason.FRAME) for place in (1, 2, 3)]


def test_a_bad_first_value_does_not_decide_what_the_frame_is() -> None:
    decoded = ColumnCodec(record(("a", "string"))).decode_framed([b"\x00\x01", frame(7, b"\x02x")])
    assert ([*decoded.indices], [one.index for one in decoded.bad]) == ([1], [0])


def test_columns_are_used_where_pyruhvro_knows_every_type() -> None:
    columnar: list[Json] = [
        {"type": "int", "logicalType": "time-millis"},
        {"type": "array", "items": ["null", {"type": "string", "logicalType": "uuid"}]},
        {"type": "map", "values": {"type": "enum", "name": "e", "symbols": ["A"]}},
    ]
    other: list[Json] = [
        "bytes",
        {"type": "fixed", "name": "f", "size": 2},
        {"type": "array", "items": "bytes"},
        ["null", {"type": "bytes", "logicalType": "decimal", "precision": 3}],
        {"type": "record", "name": "r", "fields": [{"name": "b", "type": ["null", "bytes"]}]},
    ]
    assert [is_columnar(record(("a", type_))) for type_ in columnar] == [True] * 3
    assert [is_columnar(record(("a", type_))) for type_ in other] == [False] * 5


@pytest.mark.parametrize("bad", [{5}, {0, 4999}, set(range(0, 5000, 7)), set(range(1, 4999)), set(range(5000))])
def test_bad_rows_are_found_wherever_they_stand_in_a_large_batch(bad: set[int]) -> None:
    schema = record(("n", "long"), ("text", ["null", "string"]))
    codec = RowCodec(schema)
    bodies = [codec.encode({"n": n, "text": f"text {n}"}) for n in range(5000)]
    for place in bad:
        bodies[place] = bodies[place] + b"\x00" if place % 2 else bodies[place][:-1]
    decoded = ColumnCodec(schema).decode(bodies)
    assert {one.index for one in decoded.bad} == bad
    assert [*decoded.indices] == decoded.batch.column("n").to_pylist() == [n for n in range(5000) if n not in bad]


def test_items_written_in_several_blocks_are_a_row() -> None:
    schema = record(("a", {"type": "array", "items": "int"}), ("m", {"type": "map", "values": "int"}))
    several = b"\x02\x02" + b"\x01\x02\x04" + b"\x00" + b"\x02\x02k\x02" + b"\x01\x06\x02l\x04" + b"\x00"
    plain = RowCodec(schema).encode({"a": [1, 2], "m": {"k": 1, "l": 2}})
    decoded: Decoded = ColumnCodec(schema).decode([plain, several, plain])
    assert as_rows(decoded.batch) == [{"a": [1, 2], "m": {"k": 1, "l": 2}}] * 3
    assert ([*decoded.indices], decoded.bad) == ([0, 1, 2], ())


def test_no_bodies_are_a_batch_of_no_rows() -> None:
    for type_ in ("string", "bytes"):
        schema = record(("a", type_))
        decoded = ColumnCodec(schema).decode([])
        assert (len(decoded.batch), decoded.batch.schema, [*decoded.indices]) == (0, arrow_schema(schema), [])
        assert ColumnCodec(schema).encode_framed(1, decoded.batch) == []


def _without_nan(value: object) -> object:
    match value:
        case float() if math.isnan(value):
            return "nan"
        case list() | tuple():
            return [_without_nan(one) for one in value]
        case dict():
            return {key: _without_nan(one) for key, one in value.items()}
    return value
