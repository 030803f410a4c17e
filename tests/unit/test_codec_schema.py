"""Which schemas may be used on the bus, and their one canonical text."""

import json
import time
from collections.abc import Callable

import fastavro
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.parse import DEPTH, FIELDS, FIXED_BYTES, SYMBOLS, TEXT_BYTES
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Json
from support.avro import record, schemas

generated = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def row(*types: Json) -> str:
    fields = [{"name": f"f{place}", "type": type_} for place, type_ in enumerate(types)]
    return json.dumps({"type": "record", "name": "row", "fields": fields})


def refusal(text: str) -> str:
    with pytest.raises(Unacceptable) as caught:
        AvroSchema.parse(text)
    assert caught.value.reason is Reason.SCHEMA_UNSAFE
    return caught.value.detail


def nested(depth: int) -> Json:
    type_: Json = "int"
    for _ in range(depth):
        type_ = {"type": "array", "items": type_}
    return type_


def doubling(levels: int) -> Json:
    """A record of two records of two records …: a short text for a tree of 2**levels leaves."""
    type_: Json = {"type": "record", "name": "r0", "fields": [{"name": "leaf", "type": "int"}]}
    for level in range(1, levels):
        fields = [{"name": "one", "type": type_}, {"name": "two", "type": f"r{level - 1}"}]
        type_ = {"type": "record", "name": f"r{level}", "fields": fields}
    return type_


EMPTY = {"type": "record", "name": "empty", "fields": []}
SELF = {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]}
ROUND = {
    "type": "record",
    "name": "a",
    "fields": [
        {"name": "b", "type": {"type": "record", "name": "b", "fields": [{"name": "a", "type": ["null", "a"]}]}}
    ],
}


@pytest.mark.parametrize(
    ("type_", "why"),
    [
        (SELF, "contains itself"),
        (ROUND, "contains itself"),
        (["null", "row"], "contains itself"),
        ({"type": "array", "items": "row"}, "contains itself"),
        ("null", "no bytes"),
        ({"type": "array", "items": "null"}, "no bytes"),
        ({"type": "map", "values": {"type": "null"}}, "no bytes"),
        ({"type": "array", "items": EMPTY}, "at least one field"),
        (EMPTY, "at least one field"),
        ({"type": "array", "items": {"type": "fixed", "name": "f", "size": 0}}, "1 to"),
        ({"type": "fixed", "name": "f", "size": FIXED_BYTES + 1}, "1 to"),
        ({"type": "fixed", "name": "f", "size": True}, "1 to"),
        ([], "a union is of null and one other type"),
        (["null"], "a union is of null and one other type"),
        (["string"], "a union is of null and one other type"),
        (["null", "null"], "a union is of null and one other type"),
        (["null", "int", "string"], "a union is of null and one other type"),
        (["int", "string"], "a union is of null and one other type"),
        (["null", ["null", "int"]], "directly in a union"),
        ("unknown", "stands before it"),
        ({"type": "unknown"}, "stands before it"),
        ({"type": "array"}, "no type"),
        ({"type": ["int"]}, "no type"),
        (7, "no type"),
        (None, "no type"),
        ({"type": "enum", "name": "e", "symbols": []}, "different symbols"),
        ({"type": "enum", "name": "e", "symbols": ["A", "A"]}, "different symbols"),
        ({"type": "enum", "name": "e", "symbols": [f"S{n}" for n in range(SYMBOLS + 1)]}, "symbols"),
        ({"type": "enum", "name": "array", "symbols": ["A"]}, "named array"),
        ({"type": "enum", "name": "e", "symbols": ["no symbol"]}, "valid name"),
        ({"type": "enum", "name": "e", "symbols": ["A"], "default": "B"}, "one of its symbols"),
        ({"type": "enum", "name": "int", "symbols": ["A"]}, "named int"),
        ({"type": "enum", "name": "e-e", "symbols": ["A"]}, "valid name"),
        ({"type": "enum", "name": "e" * 256, "symbols": ["A"]}, "valid name"),
        ({"type": "enum", "name": "row", "symbols": ["A"]}, "defined twice"),
        ({"type": "enum", "name": "e", "symbols": ["A"], "aliases": "x"}, "no list"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 39, "scale": 2}, "more than 38 digits"),
        (nested(DEPTH + 1), "nests deeper"),
        (doubling(20), "more than"),
    ],
)
def test_a_schema_that_could_hurt_is_refused_with_the_reason(type_: Json, why: str) -> None:
    assert why in refusal(row(type_))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        '"string"',
        "[]",
        "null",
        '{"type":"array","items":"int"}',
        '{"type":"record","name":"row"}',
        '{"type":"record","name":"row","fields":[{"name":"a"}]}',
        '{"type":"record","name":"row","fields":[{"type":"int"}]}',
        '{"type":"record","name":"row","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}',
        '{"type":"record","name":"row","name":"other","fields":[{"name":"a","type":"int"}]}',
        '{"type":"record","name":"row","fields":[{"name":"a","type":"double","default":NaN}]}',
        '{"type":"record","name":"row","fields":[{"name":"a\\u0000","type":"int"}]}',
        '{"type":"record","fields":[{"name":"a","type":"int"}]}',
        "[" * 1_000_000,
        '{"a":' * 200_000,
        "1" * 5000,
        '{"type":"record","name":"row","fields":[{"name":"a","type":"int","default":' + "[" * 500 + "]" * 500 + "}]}",
        '{"type":"record","name":"row","fields":[{"name":"\ud800","type":"int"}]}',
    ],
)
def test_text_that_is_no_schema_of_rows_is_refused(text: str) -> None:
    refusal(text)


def test_a_schema_of_too_many_bytes_is_refused_before_it_is_read() -> None:
    padded = row("int") + " " * TEXT_BYTES
    assert str(TEXT_BYTES) in refusal(padded)


def test_as_many_fields_as_allowed_are_accepted_and_one_more_is_not() -> None:
    assert len(AvroSchema.parse(row(*["int"] * FIELDS)).field_names) == FIELDS
    assert "more than" in refusal(row(*["int"] * (FIELDS + 1)))


def test_a_type_counts_at_each_of_its_uses() -> None:
    wide = {"type": "record", "name": "wide", "fields": [{"name": f"g{n}", "type": "int"} for n in range(400)]}
    AvroSchema.parse(row(wide, "wide"))
    assert "more than" in refusal(row(wide, "wide", "wide"))


def test_symbols_count_at_each_use_of_their_enum() -> None:
    half = {"type": "enum", "name": "half", "symbols": [f"S{n}" for n in range(SYMBOLS // 2)]}
    AvroSchema.parse(row(half, "half"))
    assert "symbols" in refusal(row(half, "half", "half"))


def test_a_default_that_unfolds_into_millions_of_values_is_refused_before_it_does() -> None:
    fields = [{"name": f"g{n}", "type": "int", "default": 0} for n in range(900)]
    items: Json = {"type": "array", "items": {"type": "record", "name": "wide", "fields": fields}}
    some: Json = {"name": "a", "type": items, "default": [{}] * 10}
    assert record(some).field_names == ("a",)
    started = time.perf_counter()
    many = {"type": "record", "name": "row", "fields": [{"name": "a", "type": items, "default": [{}] * 200_000}]}
    assert "too large" in refusal(json.dumps(many))
    assert time.perf_counter() - started < 10


def test_a_used_type_is_as_deep_as_where_it_was_defined() -> None:
    inner = {"type": "record", "name": "deep", "fields": [{"name": "d", "type": nested(DEPTH - 3)}]}
    AvroSchema.parse(row(inner, "deep"))
    assert "nests deeper" in refusal(row(inner, {"type": "array", "items": {"type": "array", "items": "deep"}}))


@pytest.mark.parametrize(
    ("type_", "default"),
    [
        ("int", 2**31),
        ("int", 1.0),
        ("int", True),
        ("int", None),
        ("long", -(2**63) - 1),
        ("float", 1e39),
        ("double", "1"),
        ("boolean", 0),
        ("string", 5),
        ("string", "\ud800"),
        ("bytes", "\u0100"),
        (["null", "int"], 5),
        (["int", "null"], None),
        ({"type": "fixed", "name": "f", "size": 2}, "abc"),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, "B"),
        ({"type": "array", "items": "int"}, ["a"]),
        ({"type": "map", "values": "int"}, []),
        ({"type": "int", "logicalType": "date"}, 2**31 - 1),
        ({"type": "int", "logicalType": "date"}, "2020-01-01"),
        ({"type": "string", "logicalType": "uuid"}, "no uuid"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2}, "\u0001\u0000"),
        ({"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}]}, {}),
    ],
)
def test_a_default_that_does_not_fit_its_type_is_refused(type_: Json, default: Json) -> None:
    text = json.dumps({"type": "record", "name": "row", "fields": [{"name": "a", "type": type_, "default": default}]})
    assert "default" in refusal(text)


def test_a_refusal_names_the_place() -> None:
    street = {"type": "record", "name": "address", "fields": [{"name": "street", "type": ["int", "string"]}]}
    assert refusal(row("int", street)).startswith("schema.f1.street: ")


@generated
@given(schemas())
def test_the_canonical_text_is_its_own_canonical_text(schema: AvroSchema) -> None:
    again = AvroSchema.parse(schema.text)
    assert (again, again.record, again.fingerprint) == (schema, schema.record, schema.fingerprint)


def shuffled(document: Json, order: Callable[[list[str]], list[str]]) -> Json:
    if isinstance(document, dict):
        return {key: shuffled(document[key], order) for key in order([*document])}
    if isinstance(document, list):
        return [shuffled(one, order) for one in document]
    return document


@generated
@given(schemas(), st.randoms())
def test_white_space_order_and_documentation_do_not_change_the_fingerprint(schema: AvroSchema, random) -> None:
    def order(keys: list[str]) -> list[str]:
        return random.sample(keys, len(keys))

    document = shuffled(json.loads(schema.text), order)
    assert isinstance(document, dict)
    document |= {"doc": "what a row is", "civicbus.owner": "construction", "order": "ignore"}
    assert AvroSchema.parse(json.dumps(document, indent=3)) == schema


@generated
@given(schemas())
def test_fastavro_reads_every_accepted_schema(schema: AvroSchema) -> None:
    fastavro.parse_schema(json.loads(schema.text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int", {"type": "int", "logicalType": "date"}),
        ("int", "long"),
        (["null", "int"], ["int", "null"]),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, {"type": "enum", "name": "e", "symbols": ["B", "A"]}),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 1},
            {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2},
        ),
    ],
)
def test_what_changes_the_meaning_of_bytes_changes_the_fingerprint(one: Json, other: Json) -> None:
    assert AvroSchema.parse(row(one)).fingerprint != AvroSchema.parse(row(other)).fingerprint


def test_a_default_and_an_alias_change_the_fingerprint_for_they_change_what_is_read() -> None:
    plain: Json = {"name": "a", "type": "int"}
    assert record(plain) != record({"name": "a", "type": "int", "default": 1})
    assert record(plain) != record({"name": "a", "type": "int", "aliases": ["b"]})
    assert record({"name": "a", "type": "double", "default": 1}) == record(
        {"name": "a", "type": "double", "default": 1.0}
    )


def test_the_order_in_which_a_default_is_written_does_not_matter() -> None:
    counts: Json = {"type": "map", "values": "double"}
    numbers: Json = [{"name": "n", "type": "int"}, {"name": "m", "type": "int"}]
    place: Json = {"type": "record", "name": "p", "fields": numbers}
    for type_, one, other in (
        (counts, {"k": 1, "l": 2.0}, {"l": 2, "k": 1.0}),
        (place, {"n": 1, "m": 2}, {"m": 2, "n": 1}),
    ):
        former, current = ({"name": "a", "type": type_, "default": default} for default in (one, other))
        assert record(former) == record(current)


@pytest.mark.parametrize(
    "ignored",
    [
        {"type": "int", "logicalType": "unheard-of"},
        {"type": "int", "logicalType": "uuid"},
        {"type": "int", "logicalType": 5},
        {"type": "int", "logicalType": "decimal", "precision": 5},
        {"type": "int", "unknown": {"nested": [1]}},
        {"type": "int", "logicalType": "timestamp-micros"},
    ],
)
def test_what_avro_says_to_ignore_is_ignored(ignored: Json) -> None:
    assert AvroSchema.parse(row(ignored)) == AvroSchema.parse(row("int"))


@pytest.mark.parametrize(
    "attributes",
    [
        {"precision": 0},
        {"precision": 5, "scale": 6},
        {"precision": 5, "scale": -1},
        {"precision": "5"},
        {"scale": 2},
    ],
)
def test_a_decimal_that_is_none_is_bytes(attributes: dict[str, Json]) -> None:
    decimal: Json = {"type": "bytes", "logicalType": "decimal", **attributes}
    assert AvroSchema.parse(row(decimal)) == AvroSchema.parse(row("bytes"))


def test_a_decimal_wider_than_its_fixed_is_a_fixed() -> None:
    fixed: dict[str, Json] = {"type": "fixed", "name": "f", "size": 2}
    wide = fixed | {"logicalType": "decimal", "precision": 5}
    narrow = fixed | {"logicalType": "decimal", "precision": 4}
    assert AvroSchema.parse(row(wide)) == AvroSchema.parse(row(fixed))
    assert AvroSchema.parse(row(narrow)) != AvroSchema.parse(row(fixed))


def test_names_are_written_in_full() -> None:
    inner = {"type": "enum", "name": "status", "symbols": ["A"]}
    fields = [{"name": "a", "type": inner}, {"name": "b", "type": "status"}, {"name": "c", "type": "x.y.status"}]
    schema = AvroSchema.parse(json.dumps({"type": "record", "name": "row", "namespace": "x.y", "fields": fields}))
    assert schema.name == "x.y.row"
    assert schema.text.count('"x.y.status"') == 3


def test_a_name_without_namespace_inside_one_is_refused() -> None:
    inner = {"type": "enum", "name": "status", "namespace": "", "symbols": ["A"]}
    document = {"type": "record", "name": "x.row", "fields": [{"name": "a", "type": inner}]}
    assert "no namespace" in refusal(json.dumps(document))


def test_hostile_texts_are_refused_quickly() -> None:
    started = time.perf_counter()
    for text in ("[" * TEXT_BYTES, row(doubling(30)), row(*["int"] * 50_000), row("x" * 900_000)):
        refusal(text)
    assert time.perf_counter() - started < 10


def test_the_arrow_types_are_those_of_the_avro_types() -> None:
    schema = record(
        ("text", "string"),
        ("maybe", ["null", "int"]),
        ("day", {"type": "int", "logicalType": "date"}),
        ("at", {"type": "long", "logicalType": "timestamp-micros"}),
        ("ms", {"type": "long", "logicalType": "timestamp-millis"}),
        ("clock", {"type": "long", "logicalType": "time-micros"}),
        ("kind", {"type": "enum", "name": "kind", "symbols": ["A"]}),
        ("id", {"type": "string", "logicalType": "uuid"}),
        ("sum", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
        ("hash", {"type": "fixed", "name": "hash", "size": 16}),
        ("tags", {"type": "array", "items": ["null", "string"]}),
        ("counts", {"type": "map", "values": "long"}),
    )
    required = {
        "text": pa.string(),
        "day": pa.date32(),
        "at": pa.timestamp("us", "UTC"),
        "ms": pa.timestamp("ms", "UTC"),
        "clock": pa.time64("us"),
        "kind": pa.string(),
        "id": pa.string(),
        "sum": pa.decimal128(10, 2),
        "hash": pa.binary(16),
        "tags": pa.list_(pa.string()),
        "counts": pa.map_(pa.string(), pa.field("value", pa.int64(), nullable=False)),
    }
    derived = arrow_schema(schema)
    assert {field.name: field.type for field in derived if not field.nullable} == required
    assert derived.field("maybe") == pa.field("maybe", pa.int32())
