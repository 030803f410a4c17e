"""Rows of an outbox as records: every type from PostgreSQL's text, and what is no record with its reason."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.errors import ConfigurationError
from civicbus.postgres import connect_to
from civicbus.producers.changes import Refusal
from civicbus.producers.outbox.rows import OutboxRow, read_rows
from civicbus.producers.outbox.script import script
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Classification, Dataset, Field, SequenceRule
from support.samples import TITLE, permits

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TYPES: dict[str, object] = {
    "count": "long",
    "fee": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
    "weight": "double",
    "open": "boolean",
    "since": {"type": "int", "logicalType": "date"},
    "seen_at": {"type": "long", "logicalType": "timestamp-micros"},
    "note": "string",
}


def dataset(**types: object) -> Dataset:
    """A dataset with the key ``key`` and these nullable fields."""
    fields = [{"name": "key", "type": "string"}]
    fields += [{"name": name, "type": ["null", type_]} for name, type_ in types.items()]
    schema = AvroSchema.parse(json.dumps({"type": "record", "name": "thing", "fields": fields}))
    entries = tuple(Field(name=name, title=TITLE, classification=Classification.PUBLIC) for name in schema.field_names)
    return replace(permits(), key=("key",), fields=entries, schemas=(schema,))


def row(number: int, *, deletion: bool = False, **cells: str | None) -> OutboxRow:
    return OutboxRow(id=number, dataset=permits().id, deletion=deletion, cells=cells, created_at=NOW)


def test_every_type_is_read_from_the_text_that_postgresql_gives():
    texts = {
        "count": "-9223372036854775808",
        "fee": "12345678.90",
        "weight": "1e-300",
        "open": "true",
        "since": "0001-01-01",
        "seen_at": "2024-02-29T23:59:59.999999+00:00",
        "note": "",
    }
    (record,) = read_rows([row(7, key="a", **texts)], dataset(**TYPES)).values()
    assert record == {
        "key": "a",
        "count": -(2**63),
        "fee": Decimal("12345678.90"),
        "weight": 1e-300,
        "open": True,
        "since": date(1, 1, 1),
        "seen_at": datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
        "note": "",
    }


def test_null_and_an_absent_cell_are_null():
    readings = read_rows([row(1, key="a", note=None), row(2, key="b")], dataset(note="string"))
    assert readings == {1: {"key": "a", "note": None}, 2: {"key": "b", "note": None}}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("count", "1.0"),
        ("count", "9223372036854775808"),
        ("fee", "1.001"),
        ("weight", "NaN"),
        ("weight", "Infinity"),
        ("open", "t"),
        ("since", "infinity"),
        ("since", "0044-03-15 BC"),
        ("seen_at", "2024-02-29T10:00:00"),
        ("seen_at", "2024-02-29"),
    ],
)
def test_what_is_no_value_of_its_field_is_refused_and_the_rows_around_it_are_read(field, text):
    readings = read_rows([row(1, key="a"), row(2, key="b", **{field: text}), row(3, key="c")], dataset(**TYPES))
    assert readings[2] == Refusal(reason=Reason.UNREADABLE_ROW, field=field)
    assert [isinstance(readings[number], dict) for number in (1, 3)] == [True, True]


def test_a_deletion_needs_the_key_alone_and_needs_all_of_it():
    readings = read_rows([row(1, deletion=True, key="a"), row(2, deletion=True)], dataset(**TYPES))
    assert readings == {1: {"key": "a"}, 2: Refusal(reason=Reason.KEY_MISSING, field="key")}


@pytest.mark.parametrize("type_", ["bytes", {"type": "array", "items": "long"}, {"type": "map", "values": "long"}])
def test_a_field_that_no_column_can_fill_is_named_before_anything_is_installed(type_):
    with pytest.raises(ConfigurationError, match="the field strange is"):
        script(dataset(strange=type_), "things")


def test_a_dataset_without_sequences_cannot_have_an_outbox():
    with pytest.raises(ConfigurationError, match="sequence: required"):
        script(permits(sequence=SequenceRule.UNUSED), "permits")


def test_a_table_s_name_cannot_leave_its_quotes():
    assert "civicbus_outbox_follow('x''); DROP TABLE y; --'," in script(permits(), "x'); DROP TABLE y; --")


@pytest.mark.parametrize("text", ["hunter2 hunter2", "postgresql://user:hunter2@host:port/x?what=hunter2"])
def test_what_is_no_connection_string_is_not_repeated(text):
    with pytest.raises(ConfigurationError) as raised:
        connect_to(text)
    assert "hunter2" not in str(raised.value)


def test_a_connection_string_in_a_file_that_others_read_is_refused(tmp_path):
    file = tmp_path / "connection"
    file.write_text("postgresql://user:hunter2@host/x")
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        CliRunner().invoke(
            app, ["--home", str(tmp_path), "outbox", "add", "parks", "--database", str(file)], catch_exceptions=False
        )
