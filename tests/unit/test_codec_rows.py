"""Which Python rows are written, and that what is wrong with a row is said without its value."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.tree import Json
from support.avro import float32, record

DATE: Json = {"type": "int", "logicalType": "date"}
CLOCK: Json = {"type": "int", "logicalType": "time-millis"}
MILLIS: Json = {"type": "long", "logicalType": "timestamp-millis"}
MICROS: Json = {"type": "long", "logicalType": "timestamp-micros"}
LOCAL: Json = {"type": "long", "logicalType": "local-timestamp-micros"}
UUID_TEXT: Json = {"type": "string", "logicalType": "uuid"}
MONEY: Json = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
ENUM: Json = {"type": "enum", "name": "kind", "symbols": ["A", "B"]}
FIXED: Json = {"type": "fixed", "name": "two", "size": 2}
PLACE: Json = {"type": "record", "name": "place", "fields": [{"name": "street", "type": "string"}]}
BEIJING = timezone(timedelta(hours=8))


def round_trip(type_: Json, value: object) -> object:
    codec = RowCodec(record(("at", type_)))
    return codec.decode(codec.encode({"at": value}))["at"]


@pytest.mark.parametrize(
    ("type_", "value", "read"),
    [
        ("double", 5, 5.0),
        ("float", 0.1, float32(0.1)),
        (MICROS, datetime(2020, 1, 1, 8, tzinfo=BEIJING), datetime(2020, 1, 1, tzinfo=UTC)),
        (UUID_TEXT, UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (MONEY, Decimal("1.2"), Decimal("1.20")),
        (MONEY, Decimal("1.2000"), Decimal("1.20")),
        (MONEY, Decimal("1E+2"), Decimal("100.00")),
        (MONEY, Decimal("-0"), Decimal("0.00")),
        ({"type": "array", "items": "int"}, (1, 2), [1, 2]),
    ],
)
def test_other_forms_of_a_value_are_written_as_the_value(type_: Json, value: object, read: object) -> None:
    found = round_trip(type_, value)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("boolean", 1),
        ("boolean", "true"),
        ("int", True),
        ("int", 3.0),
        ("int", 3.7),
        ("int", "5"),
        ("int", 2**31),
        ("int", None),
        ("long", 2**63),
        ("long", -(2**63) - 1),
        ("float", 1e300),
        ("float", "1"),
        ("double", True),
        ("double", 2**53 + 1),
        ("double", Decimal("1.5")),
        ("string", 5),
        ("string", b"text"),
        ("string", "\ud800"),
        ("string", None),
        ("bytes", "text"),
        (FIXED, b"abc"),
        (ENUM, "C"),
        (ENUM, 0),
        (["null", "int"], "5"),
        (DATE, datetime(2020, 1, 1, tzinfo=UTC)),
        (DATE, "2020-01-01"),
        (DATE, 18262),
        (CLOCK, time(1, 2, 3, 4)),
        (CLOCK, time(1, tzinfo=UTC)),
        (MILLIS, datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (MICROS, datetime(2020, 1, 1)),  # noqa: DTZ001 - the zone that is missing is the point
        (MICROS, datetime.min.replace(tzinfo=BEIJING)),
        (MICROS, date(2020, 1, 1)),
        (LOCAL, datetime(2020, 1, 1, tzinfo=UTC)),
        (UUID_TEXT, "00000000-0000-0000-0000-00000000000A"),
        (UUID_TEXT, "{00000000-0000-0000-0000-000000000005}"),
        (MONEY, Decimal("1.234")),
        (MONEY, Decimal("1000")),
        (MONEY, Decimal("-1000")),
        (MONEY, Decimal("NaN")),
        (MONEY, Decimal("1E+999999")),
        (MONEY, Decimal("1E-999999")),
        (MONEY, 1.5),
        ({"type": "array", "items": "int"}, "12"),
        ({"type": "array", "items": "int"}, [1, "2"]),
        ({"type": "map", "values": "int"}, {5: 1}),
        ({"type": "map", "values": "int"}, [("a", 1)]),
        (PLACE, "street"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_the_field(type_: Json, value: object) -> None:
    codec = RowCodec(record(("before", "int"), ("at", type_)))
    with pytest.raises(Unacceptable) as caught:
        codec.encode({"before": 1, "at": value})
    assert (caught.value.reason, caught.value.field) == (Reason.BYTES, "at")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"at": {"street": 5}}, "at.street"),
        ({"at": {}}, "at.street"),
        ({"at": {"street": "x", "sreet": "y"}}, "at.sreet"),
        ({}, "at"),
        ({"at": {"street": "x"}, "att": 1}, "att"),
    ],
)
def test_the_field_is_named_with_its_place_in_the_row(row: dict[str, object], field: str) -> None:
    with pytest.raises(Unacceptable) as caught:
        RowCodec(record(("at", PLACE))).encode(row)
    assert caught.value.field == field


def test_a_missing_field_takes_its_default_and_an_unknown_one_is_still_refused() -> None:
    codec = RowCodec(record(("a", "int"), {"name": "b", "type": ["null", "string"], "default": None}))
    assert codec.decode(codec.encode({"a": 1})) == {"a": 1, "b": None}
    with pytest.raises(Unacceptable):
        codec.encode({"a": 1, "c": 2})


@pytest.mark.parametrize(
    "refused",
    [
        lambda codec: codec.encode({"at": "S3CRET" * 2, "other": 1}),
        lambda codec: codec.encode({"at": "x", "other": "S3CRET"}),
        lambda codec: codec.decode(b"\x0cS3CRET"),
        lambda codec: codec.decode(b"\x0eS3CRET\xff\x00"),
    ],
)
def test_a_refusal_never_repeats_a_value(refused: Callable[[RowCodec], object]) -> None:
    with pytest.raises(Unacceptable) as caught:
        refused(RowCodec(record(("at", {"type": "string", "logicalType": "uuid"}), ("other", "int"))))
    assert "S3CRET" not in f"{caught.value} {caught.value.detail} {caught.value.field}"
