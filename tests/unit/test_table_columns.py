"""What a view's schema asks of its table."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.consumers.columns import KEY_COLUMN, LONGEST_NAME, Shape, fit, new_shape, types_of, widest
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.schema import AvroSchema

SYSTEM_COLUMNS = ["xmin", "ctid", "tableoid"]


def types(*fields: tuple[str, object]) -> dict[str, str]:
    record = {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in fields]}
    return types_of(arrow_schema(AvroSchema.parse(json.dumps(record))))


@pytest.mark.parametrize(
    ("avro", "postgres"),
    [
        ("string", "text"),
        ("int", "integer"),
        ("long", "bigint"),
        ("float", "real"),
        ("double", "double precision"),
        ("boolean", "boolean"),
        ("bytes", "bytea"),
        ({"type": "fixed", "name": "f", "size": 4}, "bytea"),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, "text"),
        ({"type": "string", "logicalType": "uuid"}, "text"),
        ({"type": "int", "logicalType": "date"}, "date"),
        ({"type": "int", "logicalType": "time-millis"}, "time without time zone"),
        ({"type": "long", "logicalType": "time-micros"}, "time without time zone"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "timestamp with time zone"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "timestamp with time zone"),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, "timestamp without time zone"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, "numeric(12,2)"),
        ({"type": "array", "items": "string"}, "jsonb"),
        ({"type": "map", "values": "long"}, "jsonb"),
        ({"type": "record", "name": "n", "fields": [{"name": "x", "type": "int"}]}, "jsonb"),
        (["null", {"type": "int", "logicalType": "date"}], "date"),
        (["string", "null"], "text"),
    ],
)
def test_each_avro_type_has_its_column_type(avro: object, postgres: str) -> None:
    assert types(("field", avro)) == {"field": postgres}


def test_a_field_that_names_an_earlier_type_has_that_type() -> None:
    assert types(("a", {"type": "enum", "name": "e", "symbols": ["A"]}), ("b", "e")) == {"a": "text", "b": "text"}


def test_a_view_that_has_a_record_key_of_its_own_keeps_the_name() -> None:
    shape = new_shape({KEY_COLUMN: "integer", f"{KEY_COLUMN}_": "text"})
    assert shape.types == {KEY_COLUMN: "integer", f"{KEY_COLUMN}_": "text"}
    assert shape.key == f"{KEY_COLUMN}__"


def test_a_record_key_that_a_view_gets_later_does_not_take_the_key_column() -> None:
    change = fit(new_shape({"a": "text"}), {"a": "text", KEY_COLUMN: "text"})
    assert [column.name for column in change.added] == [f"{KEY_COLUMN}_"]


AWKWARD = [*SYSTEM_COLUMNS, KEY_COLUMN, "a" * 63, "a" * 62 + "_"]
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,80}", fullmatch=True) | st.sampled_from(AWKWARD)


@given(st.lists(NAMES, min_size=1, max_size=20, unique=True))
def test_every_set_of_field_names_has_distinct_column_names_that_postgresql_takes(fields: list[str]) -> None:
    shape = new_shape(dict.fromkeys(fields, "text"))
    names = [shape.key, *shape.types]
    assert len(set(names)) == len(fields) + 1
    assert all(len(name.encode()) <= LONGEST_NAME and name not in SYSTEM_COLUMNS for name in names)
    assert fit(shape, dict.fromkeys(fields, "text")).added == ()


def test_a_new_field_is_added_and_nothing_else_changes() -> None:
    change = fit(Shape(key="k", types={"a": "text"}), {"a": "text", "b": "date"})
    assert [column.name for column in change.added] == ["b"]
    assert (change.widened, change.conflicts) == ((), ())


@pytest.mark.parametrize(
    ("have", "wanted"),
    [("integer", "bigint"), ("integer", "double precision"), ("bigint", "real"), ("real", "double precision")],
)
def test_a_wider_number_widens_its_column_and_a_narrower_one_goes_in(have: str, wanted: str) -> None:
    shape = Shape(key="k", types={"a": have})
    change = fit(shape, {"a": wanted})
    assert [column.type for column in change.widened] == [wanted]
    assert fit(widest(shape, change), {"a": have}) == fit(Shape(key="k", types={"a": wanted}), {"a": have})
    assert fit(widest(shape, change), {"a": have}).conflicts == ()


@pytest.mark.parametrize(
    ("have", "wanted"), [("text", "integer"), ("date", "text"), ("numeric(10,2)", "numeric(12,2)")]
)
def test_another_type_is_a_conflict(have: str, wanted: str) -> None:
    assert fit(Shape(key="k", types={"a": have}), {"a": wanted}).conflicts == ("a",)


def test_a_field_that_is_gone_leaves_its_column() -> None:
    change = fit(Shape(key="k", types={"a": "text", "b": "text"}), {"a": "text"})
    assert (change.added, change.widened, change.conflicts) == ((), (), ())
