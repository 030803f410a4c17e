"""A text is a value of its field in one form only, and then exactly that value."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.errors import ConfigurationError
from civicbus.producers.columns import values
from civicbus.schemas.codec.schema import AvroSchema

DATE = {"type": "int", "logicalType": "date"}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-micros"}
CLOCK = {"type": "int", "logicalType": "time-millis"}
UUID = {"type": "string", "logicalType": "uuid"}
ENUM = {"type": "enum", "name": "state", "symbols": ["open", "closed"]}


def decimal(precision: int, scale: int) -> dict[str, object]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def read(type_: object, *column: object, dtype: pl.DataType | type[pl.DataType] = pl.String) -> list[object]:
    schema = {"type": "record", "name": "row", "fields": [{"name": "field", "type": type_}]}
    (field,) = AvroSchema.parse(json.dumps(schema)).record.fields
    frame = pl.DataFrame({"field": pl.Series(column, dtype=dtype)})
    return frame.select(values(pl.col("field"), frame.schema["field"], field)).to_series().to_list()


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        ("string", " a ", " a "),
        ("int", "-2147483648", -(2**31)),
        ("int", "007", 7),
        ("long", "9223372036854775807", 2**63 - 1),
        ("double", "41.80576343586902", 41.80576343586902),
        ("double", "-1e-3", -0.001),
        ("boolean", "TRUE", True),
        ("boolean", "false", False),
        (DATE, "0001-01-01", date.min),
        (DATE, "9999-12-31", date.max),
        (MICROS, "2024-02-29T10:00:00.123456+08:00", datetime(2024, 2, 29, 2, 0, 0, 123456, tzinfo=UTC)),
        (MICROS, "2024-02-29 10:00:00Z", datetime(2024, 2, 29, 10, tzinfo=UTC)),
        (MILLIS, "2024-02-29T10:00:00.123Z", datetime(2024, 2, 29, 10, 0, 0, 123000, tzinfo=UTC)),
        (LOCAL, "2024-02-29T10:00:00.123456", datetime.fromisoformat("2024-02-29T10:00:00.123456")),
        (CLOCK, "23:59:59.999", time(23, 59, 59, 999000)),
        (UUID, "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000a"),
        (ENUM, "open", "open"),
        (decimal(4, 2), "0012.3", Decimal("12.30")),
        (decimal(2, 2), "-.99", Decimal("-0.99")),
        (decimal(4, 0), "9999", Decimal(9999)),
    ],
)
def test_a_text_in_the_form_of_its_field_is_that_value(type_, text, value):
    assert read(type_, text) == [value]


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        *[("int", text) for text in ("2147483648", "1.0", " 1", "+1", "1,000", "٣", "1e3", "0x1")],
        *[("long", text) for text in ("9223372036854775808", "99999999999999999999")],
        *[("double", text) for text in ("1e999", "nan", "inf", "1,5", "0x10", ".", "1e", "1_0")],
        *[("float", text) for text in ("1e39",)],
        *[("boolean", text) for text in ("1", "yes", " true")],
        *[(DATE, text) for text in ("2023-02-29", "2024-1-1", "0000-01-01", "20240101", "2024-01-01 ", "01/02/2024")],
        *[(MICROS, text) for text in ("2024-01-01T10:00:00", "2024-01-01T25:00:00Z", "0001-01-01T00:00:00+08:00")],
        *[(MILLIS, text) for text in ("2024-01-01T10:00:00.1234Z",)],
        *[(LOCAL, text) for text in ("2024-01-01T10:00:00Z", "2024-01-01")],
        *[(CLOCK, text) for text in ("10:00:00.1234", "10:00", "24:00:00", "10:00:60")],
        *[(UUID, text) for text in ("00000000-0000-0000-0000-00000000000A", "none")],
        *[(ENUM, text) for text in ("OPEN", "other")],
        *[(decimal(4, 2), text) for text in ("1.234", "123.45", "1.", "-", ".", "1e2")],
        *[(decimal(4, 0), text) for text in ("10000", "1.0")],
    ],
)
def test_a_text_in_any_other_form_is_no_value(type_, text):
    assert read(type_, text) == [None]


def test_an_empty_cell_is_no_value_of_any_type():
    for type_ in ("int", "double", "boolean", DATE, MICROS, LOCAL, CLOCK, UUID, ENUM, decimal(4, 2)):
        assert read(type_, None) == [None]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_read_to_its_last_bit(number):
    assert repr(read("double", repr(number))) == repr([number])


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_whole_number_is_read_as_it_is(number):
    assert read("long", str(number)) == [number]


@given(st.dates())
def test_a_date_is_read_as_it_is(day):
    assert read(DATE, day.isoformat()) == [day]


@given(
    st.datetimes(
        min_value=datetime.fromisoformat("0002-01-01"),
        max_value=datetime.fromisoformat("9998-01-01"),
        timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
            lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
        ),
    )
)
def test_a_moment_is_read_in_utc(moment):
    assert read(MICROS, moment.isoformat()) == [moment.astimezone(UTC)]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**15), max_value=10**15))
def test_a_decimal_is_read_to_its_last_digit(number):
    assert read(decimal(20, 3), f"{number:f}") == [number]


@pytest.mark.parametrize(
    ("type_", "value", "dtype", "result"),
    [
        ("int", 2**31, pl.Int64, None),
        ("int", 5, pl.UInt8, 5),
        ("double", 5, pl.Int64, 5.0),
        ("double", float("nan"), pl.Float64, None),
        ("float", 1e300, pl.Float64, None),
        ("boolean", True, pl.Boolean, True),
        ("string", "a", pl.Categorical, "a"),
        (ENUM, "other", pl.Categorical, None),
        (DATE, date(2024, 1, 1), pl.Date, date(2024, 1, 1)),
        (MILLIS, datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC), pl.Datetime("us", "UTC"), None),
        (CLOCK, time(1, 2, 3, 4), pl.Time, None),
        (CLOCK, time(1, 2, 3, 4000), pl.Time, time(1, 2, 3, 4000)),
        (decimal(4, 2), Decimal("1.5"), pl.Decimal(3, 1), Decimal("1.50")),
        (decimal(4, 2), Decimal("999.9"), pl.Decimal(4, 1), None),
    ],
)
def test_a_frames_own_types_are_taken_where_no_value_changes(type_, value, dtype, result):
    assert read(type_, value, dtype=dtype) == [result]


@pytest.mark.parametrize(
    ("type_", "dtype"),
    [
        ("string", pl.Int64),
        ("int", pl.Float64),
        ("boolean", pl.Int64),
        (DATE, pl.Datetime("us")),
        (MICROS, pl.Datetime("us")),
        (MICROS, pl.Datetime("ns", "UTC")),
        (LOCAL, pl.Datetime("us", "UTC")),
        (decimal(4, 2), pl.Float64),
        ("bytes", pl.String),
        ({"type": "array", "items": "string"}, pl.String),
    ],
)
def test_a_column_whose_type_would_have_to_be_guessed_is_refused(type_, dtype):
    with pytest.raises(ConfigurationError, match="field field cannot be read from a column of"):
        read(type_, None, dtype=dtype)
