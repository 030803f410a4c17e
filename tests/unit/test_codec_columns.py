"""Batches from elsewhere (Polars, wide types, holes) are written rightly or refused with the field."""

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import WRITTEN_BYTES, ColumnCodec
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Json
from support.avro import record, varint

DATE: Json = {"type": "int", "logicalType": "date"}
CLOCK: Json = {"type": "long", "logicalType": "time-micros"}
MICROS: Json = {"type": "long", "logicalType": "timestamp-micros"}
UUID: Json = {"type": "string", "logicalType": "uuid"}
ENUM: Json = {"type": "enum", "name": "kind", "symbols": ["A", "B"]}
MONEY: Json = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
PLACE: Json = {"type": "record", "name": "place", "fields": [{"name": "n", "type": "int"}]}
FAR_DAY = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
TWICE = pa.MapArray.from_arrays([0, 2], pa.array(["k", "k"]), pa.array([1, 2], pa.int32()))


def one_column(array: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([array], names=["at"])


@pytest.mark.parametrize("level", [pl.CompatLevel.oldest(), pl.CompatLevel.newest()])
@pytest.mark.parametrize("money", [[], [("money", MONEY)]])
def test_a_polars_frame_in_any_order_is_written_as_its_rows(
    level: pl.CompatLevel, money: list[tuple[str, Json]]
) -> None:
    schema = record(
        ("text", "string"),
        ("maybe", ["null", "long"]),
        ("day", ["null", DATE]),
        ("at", MICROS),
        ("tags", {"type": "array", "items": "string"}),
        ("place", PLACE),
        *money,
    )
    row = {
        "place": {"n": 1},
        "tags": ["a", "é"],
        "at": datetime(2020, 1, 1, tzinfo=UTC),
        "day": date(2020, 1, 1),
        "maybe": None,
        "text": "许可",
    } | {name: Decimal("1.50") for name, _ in money}
    types = {"maybe": pl.Int64, "place": pl.Struct({"n": pl.Int32}), "money": pl.Decimal(5, 2)}
    overrides = {name: type_ for name, type_ in types.items() if name in row}
    frame = pl.DataFrame([row, row], schema_overrides=overrides)
    (batch,) = frame.to_arrow(compat_level=level).to_batches()
    assert ColumnCodec(schema).encode(batch) == [RowCodec(schema).encode(row)] * 2


@pytest.mark.parametrize("level", [pl.CompatLevel.oldest(), pl.CompatLevel.newest()])
def test_symbols_from_a_polars_enum_are_written(level: pl.CompatLevel) -> None:
    frame = pl.DataFrame({"at": pl.Series(["B", None, "A"], dtype=pl.Enum(["B", "A"]))})
    (batch,) = frame.to_arrow(compat_level=level).to_batches()
    assert ColumnCodec(record(("at", ["null", ENUM]))).encode(batch) == [b"\x02\x02", b"\x00", b"\x02\x00"]


MISFITS = [
    ("string", pa.array(["x", None])),
    ("bytes", pa.array([b"x", None])),
    (["null", DATE], FAR_DAY),
    (MICROS, pa.array([2**62], pa.timestamp("us", "UTC"))),
    (CLOCK, pa.array([86_400_000_000], pa.int64()).view(pa.time64("us"))),
    (UUID, pa.array(["00000000-0000-0000-0000-00000000000A"])),
    (ENUM, pa.array(["C"])),
    (["null", ENUM], pa.array(["A", None, "C"])),
    ({"type": "array", "items": "int"}, pa.array([[1, None]], pa.list_(pa.int32()))),
    ({"type": "array", "items": DATE}, pa.ListArray.from_arrays([0, 1], FAR_DAY)),
    ({"type": "map", "values": "int"}, TWICE),
    (PLACE, pa.array([{"n": None}], pa.struct([("n", pa.int32())]))),
    (["null", PLACE], pa.array([None, {"n": None}], pa.struct([("n", pa.int32())]))),
    (MONEY, pa.array([None], pa.decimal128(5, 2))),
]


@pytest.mark.parametrize(("type_", "array"), MISFITS)
def test_a_column_that_does_not_fit_is_refused_with_the_field(type_: Json, array: pa.Array) -> None:
    codec = ColumnCodec(record(("at", type_)))
    for encode in (codec.encode, lambda batch: codec.encode_framed(1, batch)):
        with pytest.raises(Unacceptable) as caught:
            encode(one_column(array))
        assert caught.value.reason is Reason.BYTES
        assert (caught.value.field or "").startswith("at")


@pytest.mark.parametrize(("type_", "array"), MISFITS)
def test_the_rows_that_fit_are_told_from_those_that_do_not(type_: Json, array: pa.Array) -> None:
    outcomes = ColumnCodec(record(("at", type_))).encode_each(one_column(array))
    assert len(outcomes) == len(array)
    assert isinstance(outcomes[-1], Unacceptable)
    assert all(isinstance(one, bytes) for one in outcomes[:-1])


def test_what_lies_under_a_null_is_not_looked_at() -> None:
    hidden = pa.StructArray.from_arrays([pa.array([None, 1], pa.int32())], names=["n"], mask=pa.array([True, False]))
    assert ColumnCodec(record(("at", ["null", PLACE]))).encode(one_column(hidden)) == [b"\x00", b"\x02\x02"]


def test_a_slice_of_a_batch_is_written_as_its_rows() -> None:
    types: list[Json] = [
        {"type": "map", "values": "int"},
        {"type": "array", "items": ["null", "string"]},
        ["null", PLACE],
        DATE,
    ]
    schema = record(*((f"f{place}", type_) for place, type_ in enumerate(types)))
    rows = [{"f0": {"k": n, "l": 1}, "f1": ["x", None], "f2": {"n": n}, "f3": date(2020, 1, 1)} for n in range(6)]
    batch = pa.RecordBatch.from_pylist(rows, schema=arrow_schema(schema))
    assert ColumnCodec(schema).encode(batch.slice(2, 3)) == [RowCodec(schema).encode(row) for row in rows[2:5]]


@pytest.mark.parametrize(
    "batch",
    [
        pa.record_batch({"at": ["x"], "more": [1]}),
        pa.record_batch({"other": ["x"]}),
        pa.record_batch({"at": [5]}),
        pa.record_batch({"at": [["x"]]}),
        pa.record_batch([pa.array([b"x"])], names=["at"]),
    ],
)
@pytest.mark.parametrize("more", [[], [("sum", MONEY)]])
def test_a_batch_of_other_columns_or_types_is_a_mistake_of_the_program(
    batch: pa.RecordBatch, more: list[tuple[str, Json]]
) -> None:
    with pytest.raises(ConfigurationError):
        ColumnCodec(record(("at", "string"), *more)).encode(batch)


def test_a_batch_without_rows_is_written_as_no_values() -> None:
    schema: AvroSchema = record(("at", UUID), ("m", {"type": "map", "values": DATE}))
    assert ColumnCodec(schema).encode(pa.RecordBatch.from_pylist([], schema=arrow_schema(schema))) == []


def test_a_batch_that_is_written_in_parts_keeps_its_order() -> None:
    schema = record(("n", "int"), ("text", "string"))
    count = WRITTEN_BYTES // 2**20 + 2
    columns = [pa.array(range(count), pa.int32()), pa.repeat("x" * 2**20, count)]
    values = ColumnCodec(schema).encode(pa.RecordBatch.from_arrays(columns, schema=arrow_schema(schema)))
    assert [value[: len(varint(n))] for n, value in enumerate(values)] == [varint(n) for n in range(count)]
