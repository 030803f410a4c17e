"""Rows written with former schemas are read with the current one: by rows, by columns and by fastavro alike."""

import io
import json
from datetime import date
from decimal import Decimal

import fastavro
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Attributes, Json
from support.avro import float32, record, rows, schemas

generated = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
DATE: Json = {"type": "int", "logicalType": "date"}
WIDER: dict[str, list[Json]] = {
    "int": ["long", "float", "double"],
    "long": ["float", "double"],
    "float": ["double"],
    "string": ["bytes"],
}
DEFAULTS: list[tuple[Json, Json]] = [
    ("string", "none"),
    (["null", "long"], None),
    ("double", 1),
    ({"type": "array", "items": "int"}, [1, 2]),
    ({"type": "map", "values": "string"}, {"k": "v"}),
    ({"type": "record", "name": "added", "fields": [{"name": "n", "type": "int"}]}, {"n": 1}),
]


@st.composite
def evolutions(draw: st.DrawFn) -> tuple[AvroSchema, AvroSchema]:
    """A schema and a later one: fields moved, dropped, renamed, added, widened and made optional, at any depth."""
    writer = draw(schemas())
    later = _Evolving(draw).type(json.loads(writer.text))
    try:
        return writer, AvroSchema.parse(json.dumps(later))
    except Unacceptable:  # a type is now used before it is defined
        return reject()


class _Evolving:
    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._added = 0

    def type(self, document: Json) -> Json:  # noqa: PLR0911 - one a kind
        match document:
            case str() if document in WIDER:
                return self._draw(st.sampled_from([document, *WIDER[document]]))
            case {"type": "record", "fields": list() as fields}:
                return {**document, "fields": self._fields([self._field(one) for one in fields])}
            case {"type": "enum", "symbols": list() as symbols}:
                return {**document, "symbols": [*symbols, "NEW"], "default": symbols[0]}
            case {"type": "array", "items": items}:
                return {**document, "items": self.type(items)}
            case {"type": "map", "values": values}:
                return {**document, "values": self.type(values)}
            case [one, other]:
                return [self.type(one), self.type(other)]
        return document

    def _field(self, field: Attributes) -> Attributes:
        evolved: Attributes = {**field, "type": self.type(field["type"])}
        match self._draw(st.sampled_from(["keep", "keep", "rename", "optional"])):
            case "rename":
                self._added += 1
                return evolved | {"name": f"renamed_{self._added}", "aliases": [field["name"]]}
            case "optional" if not isinstance(evolved["type"], list):
                return evolved | {"type": ["null", evolved["type"]]}
        return evolved

    def _fields(self, fields: list[Json]) -> list[Json]:
        kept = self._draw(st.lists(st.sampled_from(fields), min_size=1, unique_by=json.dumps))
        chosen = self._draw(st.sampled_from([fields, kept]))
        return [*chosen, *(self._new(*one) for one in self._draw(st.lists(st.sampled_from(DEFAULTS), max_size=2)))]

    def _new(self, type_: Json, default: Json) -> Json:
        self._added += 1
        if isinstance(type_, dict) and type_["type"] == "record":
            type_ = {**type_, "name": f"added_{self._added}"}
        return {"name": f"added_{self._added}", "type": type_, "default": default}


@st.composite
def evolved_rows(draw: st.DrawFn) -> tuple[AvroSchema, AvroSchema, list[bytes]]:
    writer, reader = draw(evolutions())
    codec = RowCodec(writer)
    return writer, reader, [codec.encode(row) for row in draw(st.lists(rows(writer), min_size=1, max_size=5))]


def by_fastavro(writer: AvroSchema, reader: AvroSchema, bodies: list[bytes]) -> list[object]:
    old, new = (
        fastavro.parse_schema(json.loads(one.text.replace(',"logicalType":"uuid"', ""))) for one in (writer, reader)
    )
    return [fastavro.schemaless_reader(io.BytesIO(body), old, new) for body in bodies]


def as_rows(batch: pa.RecordBatch) -> list[dict[str, object]]:
    return batch.to_pylist(maps_as_pydicts="strict")


@generated
@given(evolved_rows())
def test_rows_and_columns_read_former_rows_alike(evolved: tuple[AvroSchema, AvroSchema, list[bytes]]) -> None:
    writer, reader, bodies = evolved
    decoded = ColumnCodec(writer, reader).decode(bodies)
    assert decoded.bad == ()
    assert decoded.batch.schema.equals(arrow_schema(reader))
    decoded.batch.validate(full=True)
    assert as_rows(decoded.batch) == [RowCodec(writer, reader).decode(body) for body in bodies]


@generated
@given(evolved_rows())
def test_fastavro_resolves_the_same(evolved: tuple[AvroSchema, AvroSchema, list[bytes]]) -> None:
    writer, reader, bodies = evolved
    ours: list[object] = [RowCodec(writer, reader).decode(body) for body in bodies]
    assert [rounded(row) for row in by_fastavro(writer, reader, bodies)] == [rounded(row) for row in ours]


@generated
@given(evolved_rows())
def test_what_was_read_from_former_rows_can_be_written_as_current_ones(
    evolved: tuple[AvroSchema, AvroSchema, list[bytes]],
) -> None:
    writer, reader, bodies = evolved
    batch = ColumnCodec(writer, reader).decode(bodies).batch
    assert as_rows(ColumnCodec(reader).decode(ColumnCodec(reader).encode(batch)).batch) == as_rows(batch)


def rounded(value: object) -> object:
    """fastavro leaves an int that became a float unrounded; a float of ours always has 24 bits."""
    match value:
        case float():
            return float32(value) if abs(value) < 3e38 else value
        case list():
            return [rounded(one) for one in value]
        case dict():
            return {key: rounded(one) for key, one in value.items()}
    return value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"name": "at", "type": DATE, "default": 365}, date(1971, 1, 1)),
        ({"name": "at", "type": "bytes", "default": "\u00ff"}, b"\xff"),
        ({"name": "at", "type": ["int", "null"], "default": 5}, 5),
        (
            {
                "name": "at",
                "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
                "default": "\u0001\u0000",
            },
            Decimal("2.56"),
        ),
        ({"name": "at", "type": {"type": "enum", "name": "e", "symbols": ["A", "B"]}, "default": "B"}, "B"),
        (
            {
                "name": "at",
                "type": {
                    "type": "record",
                    "name": "r",
                    "fields": [{"name": "n", "type": "int"}, {"name": "d", "type": DATE, "default": 0}],
                },
                "default": {"n": 1},
            },
            {"n": 1, "d": date(1970, 1, 1)},
        ),
    ],
)
def test_a_default_is_read_as_a_value_of_its_type(field: Attributes, value: object) -> None:
    writer, reader = record(("a", "int")), record(("a", "int"), field)
    assert RowCodec(writer, reader).decode(b"\x02") == {"a": 1, "at": value}
    assert as_rows(ColumnCodec(writer, reader).decode([b"\x02"] * 2).batch) == [{"a": 1, "at": value}] * 2


def test_a_default_list_is_nobody_elses() -> None:
    reader = record(("a", "int"), {"name": "tags", "type": {"type": "array", "items": "int"}, "default": []})
    codec = RowCodec(record(("a", "int")), reader)
    first = codec.decode(b"\x02")
    assert isinstance(first["tags"], list)
    first["tags"].append(1)
    assert codec.decode(b"\x02")["tags"] == []


def test_a_symbol_that_the_reader_lost_is_its_default() -> None:
    former: Json = {"type": "enum", "name": "e", "symbols": ["A", "B"]}
    current: Json = {"type": "enum", "name": "e", "symbols": ["A", "OTHER"], "default": "OTHER"}
    writer, reader = record(("at", former)), record(("at", current))
    assert [row["at"] for row in as_rows(ColumnCodec(writer, reader).decode([b"\x00", b"\x02"]).batch)] == [
        "A",
        "OTHER",
    ]
    assert RowCodec(writer, reader).decode(b"\x02") == {"at": "OTHER"}


def test_great_numbers_are_rounded_alike() -> None:
    for reader_type in ("float", "double"):
        writer, reader = record(("at", "long")), record(("at", reader_type))
        numbers = [2**53 + 1, 2**63 - 1, -(2**63), 16777217, 2**60 + 2**36 + 1, 0]
        bodies = [RowCodec(writer).encode({"at": number}) for number in numbers]
        rows_ = [RowCodec(writer, reader).decode(body) for body in bodies]
        assert as_rows(ColumnCodec(writer, reader).decode(bodies).batch) == rows_


PLACE: Json = {"type": "record", "name": "place", "fields": [{"name": "n", "type": "int"}]}


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("long", "int"),
        ("double", "float"),
        ("string", "int"),
        ("bytes", "string"),
        ("boolean", "int"),
        ("int", DATE),
        (DATE, "int"),
        (DATE, "long"),
        ({"type": "long", "logicalType": "timestamp-millis"}, {"type": "long", "logicalType": "timestamp-micros"}),
        ("string", {"type": "string", "logicalType": "uuid"}),
        (["null", "string"], "string"),
        ({"type": "array", "items": ["null", "int"]}, {"type": "array", "items": "int"}),
        ({"type": "array", "items": "int"}, {"type": "map", "values": "int"}),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, {"type": "enum", "name": "e", "symbols": ["A"]}),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, {"type": "enum", "name": "f", "symbols": ["A"]}),
        ({"type": "fixed", "name": "f", "size": 2}, {"type": "fixed", "name": "f", "size": 3}),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 1},
            {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 1},
        ),
        (PLACE, {"type": "record", "name": "place", "fields": [{"name": "m", "type": "int"}]}),
        (PLACE, {"type": "record", "name": "spot", "fields": [{"name": "n", "type": "int"}]}),
    ],
)
def test_a_pair_where_some_row_has_no_reading_is_refused_at_once(former: Json, current: Json) -> None:
    writer, reader = record(("at", former)), record(("at", current))
    for codec in (RowCodec, ColumnCodec):
        with pytest.raises(ConfigurationError, match="at"):
            codec(writer, reader)


def test_rows_of_another_record_have_no_reading() -> None:
    for codec in (RowCodec, ColumnCodec):
        with pytest.raises(ConfigurationError):
            codec(record(("at", "int"), name="permit"), record(("at", "int"), name="enterprise"))


def test_a_type_is_found_under_its_alias() -> None:
    current: Json = {"type": "record", "name": "spot", "aliases": ["place"], "fields": [{"name": "n", "type": "long"}]}
    writer, reader = record(("at", PLACE)), record(("at", current))
    assert as_rows(ColumnCodec(writer, reader).decode([b"\x02"]).batch) == [{"at": {"n": 1}}]


def test_columns_alone_do_the_common_changes() -> None:
    """Ten thousand rows whose reader moved, dropped, added and widened fields come out whole and in order."""
    writer = record(("a", "int"), ("b", "string"), ("c", ["null", "long"]))
    added: Attributes = {"name": "e", "type": ["null", "string"], "default": None}
    reader = record(("c", ["null", "double"]), ("a", "long"), added)
    codec = RowCodec(writer)
    bodies = [codec.encode({"a": n, "b": "x", "c": None if n % 2 else n}) for n in range(10_000)]
    batch = ColumnCodec(writer, reader).decode(bodies).batch
    assert batch.to_pydict() == {
        "c": [None if n % 2 else float(n) for n in range(10_000)],
        "a": [*range(10_000)],
        "e": [None] * 10_000,
    }
