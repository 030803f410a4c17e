"""What is written as JSON in the form of its type is the same row; everything else is refused with its field."""

from __future__ import annotations

import base64
import decimal
import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from civicbus.errors import Unacceptable
from civicbus.schemas.codec.from_json import NotJson, RowReader, parse_json
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from support.avro import record, rows, schemas


def as_json(value: object) -> object:
    """A row's value in the form that JSON has for it."""
    match value:
        case dict():
            return {name: as_json(one) for name, one in value.items()}
        case list():
            return [as_json(one) for one in value]
        case bytes():
            return base64.b64encode(value).decode()
        case decimal.Decimal():
            return format(value, "f")
        case None | bool() | int() | float() | str():
            return value
    return value.isoformat()


def is_finite(value: object) -> bool:
    if isinstance(value, dict | list):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@given(st.data())
def test_a_row_written_as_json_has_the_bytes_of_the_row(data: st.DataObject) -> None:
    schema: AvroSchema = data.draw(schemas())
    row = data.draw(rows(schema))
    assume(is_finite(row))
    text = json.dumps(as_json(row), ensure_ascii=data.draw(st.booleans())).encode()
    codec = RowCodec(schema)
    assert codec.encode(RowReader(schema)(parse_json(text))) == codec.encode(row)


@given(st.data())
def test_any_json_at_all_is_a_row_or_is_refused(data: st.DataObject) -> None:
    schema: AvroSchema = data.draw(schemas())
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    anything = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
    fields = st.fixed_dictionaries({}, optional=dict.fromkeys(schema.field_names, anything))
    value = parse_json(json.dumps(data.draw(fields | anything)).encode())
    field = _refused_for(schema, value)
    assert field is None or field.split(".")[0] in schema.field_names


def _refused_for(schema: AvroSchema, value: object) -> str | None:
    """The field that a value is refused for; None where it is a row, or no object at all."""
    try:
        RowCodec(schema).encode(RowReader(schema)(value))
    except Unacceptable as refused:
        return refused.field
    return None


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
MOMENT = {"type": "long", "logicalType": "timestamp-millis"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ({"type": "int", "logicalType": "date"}, '"20240229"'),
        ({"type": "int", "logicalType": "date"}, '"2024-02-30"'),
        ({"type": "int", "logicalType": "date"}, "19000"),
        (MOMENT, '"2023-01-28T10:00:01"'),
        (MOMENT, '"2024-02-29T10:00:00.0001Z"'),
        (MOMENT, '"2024-02-29 10:00:00Z"'),
        (MOMENT, '"0001-01-01T00:00:00+14:00"'),
        (LOCAL, '"2024-02-29T10:00:00Z"'),
        ({"type": "int", "logicalType": "time-millis"}, '"24:00:00"'),
        (DECIMAL, '"1.234"'),
        (DECIMAL, '"1e2"'),
        (DECIMAL, '"٣"'),
        (DECIMAL, "1e999999999"),
        (DECIMAL, "1000"),
        ("int", "1.0"),
        ("int", "2147483648"),
        ("long", '"1"'),
        ("double", "1e400"),
        ("double", '"1.5"'),
        ("double", "9007199254740993"),
        ("boolean", "1"),
        ("boolean", '"true"'),
        ("string", "1"),
        ("string", '"\\ud800"'),
        ("bytes", '"YWJ"'),
        ("bytes", '"YQ==\\n"'),
    ],
)
def test_a_value_that_has_not_the_form_of_its_type_is_refused_with_its_field(type_: object, text: str) -> None:
    schema = record(("field", type_))
    with pytest.raises(Unacceptable) as refused:
        RowCodec(schema).encode(RowReader(schema)(parse_json(f'{{"field": {text}}}'.encode())))
    assert refused.value.field == "field"
    assert text.strip('"') not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1',
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
    ],
)
def test_what_readers_of_json_take_differently_is_no_json(text: bytes) -> None:
    with pytest.raises(NotJson):
        parse_json(text)


def test_a_record_is_an_object() -> None:
    with pytest.raises(Unacceptable):
        RowReader(record(("field", "int")))([1])
