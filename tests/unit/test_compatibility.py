"""Which changes of a schema read older rows rightly, by Avro's rules and by what Avro ignores."""

import json
from datetime import UTC, datetime

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import given
from hypothesis import strategies as st

from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.compatibility import breaks, renames, transitive_breaks, type_text


def field(name: str, type_: object, **attributes: object) -> dict[str, object]:
    return {"name": name, "type": type_} | attributes


def optional(name: str, type_: object, **attributes: object) -> dict[str, object]:
    return field(name, ["null", type_], default=None, **attributes)


def logical(carrier: str, name: str, **attributes: object) -> dict[str, object]:
    return {"type": carrier, "logicalType": name} | attributes


def enum(*symbols: str, **attributes: object) -> dict[str, object]:
    return {"type": "enum", "name": "colour", "symbols": symbols} | attributes


def schema(*fields: dict[str, object], name: str = "trees") -> AvroSchema:
    record = {"type": "record", "name": name, "namespace": "civicbus.parks", "fields": [field("id", "string"), *fields]}
    return AvroSchema.parse(json.dumps(record))


NOTHING = schema()
DATE = logical("int", "date")
MICROS, MILLIS = logical("long", "timestamp-micros"), logical("long", "timestamp-millis")


@pytest.mark.parametrize(
    ("former", "current"),
    [
        (NOTHING, NOTHING),
        (NOTHING, schema(optional("height", "double"))),
        (NOTHING, schema(field("height", "int", default=0))),
        (schema(optional("height", "double")), NOTHING),
        (schema(field("height", "int")), schema(field("height", "long"))),
        (schema(field("height", "int")), schema(field("height", "double"))),
        (schema(field("height", "int")), schema(optional("height", "int"))),
        (schema(field("tall", "int")), schema(field("height", "int", aliases=["tall"]))),
        (schema(field("colour", enum("red"))), schema(field("colour", enum("red", "green")))),
        (schema(field("colour", enum("red", "green"))), schema(field("colour", enum("red", default="red")))),
    ],
)
def test_a_change_that_reads_older_rows_has_no_break(former: AvroSchema, current: AvroSchema) -> None:
    assert transitive_breaks([former, current]) == []


@pytest.mark.parametrize(
    ("former", "current", "name", "said"),
    [
        (NOTHING, schema(field("height", "int")), "height", "is new and has no default"),
        (schema(field("height", "long")), schema(field("height", "int")), "height", "keep the type"),
        (schema(optional("height", "int")), schema(field("height", "int")), "height", "keep"),
        (
            schema(field("colour", enum("red", "green"))),
            schema(field("colour", enum("red"))),
            "colour",
            "keep the symbols",
        ),
        (NOTHING, schema(name="shrubs"), "", "keep the name"),
        (schema(field("day", "int")), schema(field("day", DATE)), "day", "changed from int to date"),
        (schema(field("day", DATE)), schema(field("day", "int")), "day", "changed from date to int"),
        (schema(optional("day", DATE)), schema(optional("day", "int")), "day", "changed from date to int"),
        (schema(field("at", MILLIS)), schema(field("at", MICROS)), "at", "from timestamp-millis to timestamp-micros"),
        (schema(field("day", DATE)), schema(field("day", MICROS)), "day", "changed from date to timestamp-micros"),
        (
            schema(field("fee", logical("bytes", "decimal", precision=10, scale=2))),
            schema(field("fee", logical("bytes", "decimal", precision=10, scale=3))),
            "fee",
            "from decimal(10, 2) to decimal(10, 3)",
        ),
        (
            schema(field("fee", logical("bytes", "decimal", precision=10, scale=2))),
            schema(field("fee", logical("bytes", "decimal", precision=12, scale=2))),
            "fee",
            "from decimal(10, 2) to decimal(12, 2)",
        ),
        (schema(field("note", "string")), schema(field("note", "bytes")), "note", "changed from string to bytes"),
        (schema(field("note", "bytes")), schema(field("note", "string")), "note", "changed from bytes to string"),
        (schema(field("note", "string")), schema(field("note", logical("string", "uuid"))), "note", "string to uuid"),
        (
            schema(field("days", {"type": "array", "items": DATE})),
            schema(field("days", {"type": "array", "items": "int"})),
            "days",
            "changed from date to int",
        ),
        (schema(field("day", DATE)), schema(field("on", "int", aliases=["day"])), "on", "changed from date to int"),
    ],
)
def test_a_break_names_the_field_and_the_mend(former: AvroSchema, current: AvroSchema, name: str, said: str) -> None:
    found = breaks(former, current)
    assert [one for one in found if one.field == name and said in str(one)], found


def test_a_rename_without_an_alias_is_found() -> None:
    found = renames(schema(optional("tall", "int")), schema(optional("height", "int")))
    assert [(one.field, 'add "aliases": ["tall"]' in one.mend) for one in found] == [("height", True)]


def test_another_type_is_no_rename() -> None:
    assert renames(schema(optional("tall", "int")), schema(optional("height", "double"))) == []


def test_removing_and_adding_in_two_versions_is_no_rename() -> None:
    versions = [schema(optional("tall", "int")), NOTHING, schema(optional("height", "int"))]
    assert transitive_breaks(versions) == []


def test_an_alias_that_is_dropped_later_is_found() -> None:
    versions = [
        schema(optional("tall", "int")),
        schema(optional("height", "int", aliases=["tall"])),
        schema(optional("height", "int")),
    ]
    assert [(later, one.wrong) for later, one in transitive_breaks(versions)] == [(2, "lost its alias tall")]


def test_what_rows_that_stand_already_are_read_with_stays() -> None:
    versions = [
        NOTHING,
        schema(optional("height", "int"), field("hazards", "int", default=0)),
        schema(optional("height", "int", aliases=["tall"]), field("hazards", "int", default=9)),
    ]
    assert [(later, one.field, one.wrong) for later, one in transitive_breaks(versions)] == [
        (2, "height", "has a new alias tall"),
        (2, "hazards", "has another default"),
    ]


def test_a_break_with_any_former_schema_is_found() -> None:
    versions = [schema(field("height", "string")), NOTHING, schema(optional("height", "int"))]
    assert [(later, one.field) for later, one in transitive_breaks(versions)] == [(2, "height")]


PLAIN = st.sampled_from(["int", "long", "float", "double", "boolean", "string", "bytes", DATE, MICROS, MILLIS])


@st.composite
def schemas(draw: st.DrawFn) -> AvroSchema:
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3))
    fields = [
        optional(name, draw(PLAIN)) if draw(st.booleans()) else field(name, draw(PLAIN))  # both forms of each type
        for name in names
    ]
    return schema(*fields)


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VALUES: dict[str, object] = {
    "int": 7,
    "long": 7,
    "float": 1.5,
    "double": 1.5,
    "boolean": True,
    "string": "x",
    "bytes": b"x",
    "date": NOON.date(),
    "timestamp-micros": NOON,
    "timestamp-millis": NOON,
}


def row(of: AvroSchema) -> dict[str, object]:
    return {one.name: VALUES.get(type_text(one.type)) for one in of.record.fields}


@given(schemas(), schemas())
def test_without_a_break_avro_agrees_and_the_codec_reads_every_older_row(
    former: AvroSchema, current: AvroSchema
) -> None:
    agreed = ReaderWriterCompatibilityChecker().get_compatibility(
        avro.schema.parse(current.text), avro.schema.parse(former.text)
    )
    found = breaks(former, current)
    if agreed.compatibility is SchemaCompatibilityType.incompatible:
        assert found
    if not found:
        body = RowCodec(former).encode(row(former))
        assert RowCodec(former, current).decode(body).keys() == set(current.field_names)


@given(schemas())
def test_every_schema_reads_itself(one: AvroSchema) -> None:
    assert transitive_breaks([one, one]) == []
