"""What Debezium says of a table, read as events and as records; and when a snapshot is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.names import DatasetId
from civicbus.producers.capture.converter import ATTEMPTS, first_generation, sequence_at
from civicbus.producers.capture.database import Slot, slot_name
from civicbus.producers.capture.debezium import connector_config
from civicbus.producers.capture.declared import Database, Declared, declare, forget, load
from civicbus.producers.capture.events import UNAVAILABLE, Complete, Emptied, Gone, Seen, Unreadable, event_of
from civicbus.producers.capture.journal import Journal, Kept, Standing, begin_journal
from civicbus.producers.capture.running import Run, Running, next_run
from civicbus.producers.capture.values import RowReader
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Capture
from support.samples import permits

DATASET = DatasetId.parse("gardens.trees")
SECRET = "s3cret/@:"


def told(op: str, *, before=None, after=None, snapshot="false", lsn=77, name="16384-ab") -> bytes:
    source = {"name": name, "snapshot": snapshot, "lsn": lsn, "ts_us": 1_700_000_000_000_001}
    return json.dumps({"op": op, "before": before, "after": after, "source": source}).encode()


def test_a_row_is_seen_with_where_it_comes_from():
    event = event_of(told("u", before={"a": 1}, after={"a": 2}))
    assert isinstance(event, Seen)
    assert (event.before, event.after, event.origin.generation, event.origin.lsn) == ({"a": 1}, {"a": 2}, 16384, 77)
    assert event.origin.at == datetime(2023, 11, 14, 22, 13, 20, 1, UTC)


@pytest.mark.parametrize("marker", ["first", "true", "first_in_data_collection", "last_in_data_collection", "last"])
def test_a_row_of_a_snapshot_stands_below_all_that_is_streamed(marker):
    event = event_of(told("r", after={"a": 1}, snapshot=marker))
    assert isinstance(event, Seen)
    assert event.origin.lsn == 0


def test_deletions_truncations_and_the_end_of_a_snapshot_are_told_apart():
    assert isinstance(event_of(told("d", before={"a": 1})), Gone)
    assert isinstance(event_of(told("t")), Emptied)
    notice = {"aggregate_type": "Initial Snapshot", "additional_data": {"connector_name": "16384-ab"}, "timestamp": 5}
    assert isinstance(event_of(json.dumps(notice | {"type": "COMPLETED"}).encode()), Complete)
    assert event_of(json.dumps(notice | {"type": "STARTED"}).encode()) is None
    assert event_of(b'{"ts_ms": 1}') is None
    assert event_of(told("m")) is None


@pytest.mark.parametrize("value", [b"no json", b"[]", told("d"), told("u"), told("u", after={}, name="x"), told("?")])
def test_what_debezium_never_says_is_unreadable_and_raises_nothing(value):
    assert isinstance(event_of(value), Unreadable)


def test_a_large_value_that_did_not_change_is_taken_from_the_row_before():
    event = event_of(told("u", before={"a": 1, "large": "L"}, after={"a": 2, "large": UNAVAILABLE}))
    assert isinstance(event, Seen)
    assert event.after == {"a": 2, "large": "L"}


def reader(type_: object, columns: dict[str, str] | None = None) -> RowReader:
    schema = {"type": "record", "name": "r", "fields": [{"name": "id", "type": "string"}, {"name": "x", "type": type_}]}
    capture = Capture(table="public.t", columns=columns or {})
    return RowReader(replace(permits(), schemas=(AvroSchema.parse(json.dumps(schema)),), key=("id",), capture=capture))


def logical(carrier: str, name: str, **more: int) -> dict[str, object]:
    return {"type": carrier, "logicalType": name} | more


@pytest.mark.parametrize(
    ("type_", "given_", "expected"),
    [
        ("string", "Ünïcode 银杏 \u202e", "Ünïcode 银杏 \u202e"),
        ("string", ["a", None, "b c"], '["a",null,"b c"]'),
        ("string", 12, "12"),
        ("string", True, "true"),
        ("int", -7, -7),
        ("long", "9007199254740993", 9007199254740993),
        ("double", 1.5, 1.5),
        ("double", "-Infinity", float("-inf")),
        ("boolean", False, False),
        ("bytes", "AQI=", b"\x01\x02"),
        (logical("bytes", "decimal", precision=9, scale=3), "12.30", Decimal("12.300")),
        (logical("int", "date"), 19782, date(2024, 2, 29)),
        (logical("int", "date"), -1, date(1969, 12, 31)),
        (logical("long", "time-micros"), 36_000_500_000, time(10, 0, 0, 500_000)),
        (
            logical("long", "timestamp-micros"),
            "2024-02-29T02:00:00.123456Z",
            datetime(2024, 2, 29, 2, 0, 0, 123456, UTC),
        ),
        (logical("long", "local-timestamp-micros"), 1_709_200_800_123_456, datetime(2024, 2, 29, 10, 0, 0, 123456)),  # noqa: DTZ001
        ({"type": "enum", "name": "mood", "symbols": ["sad", "ok"]}, "ok", "ok"),
    ],
)
def test_a_column_becomes_the_value_of_its_field(type_, given_, expected):
    found = reader(type_).record({"id": "A", "x": given_})["x"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("type_", "given_"),
    [
        ("string", 1.5),
        ("string", UNAVAILABLE),
        ("int", "1.5"),
        ("int", True),
        ("int", "NAN"),
        ("double", "many"),
        ("boolean", 1),
        ("bytes", "not base64!"),
        ("bytes", "X19jaXZpY2J1c192YWx1ZV9pc19ub3RfaW5fdGhlX2xvZw=="),
        (logical("bytes", "decimal", precision=9, scale=1), "12.34"),
        (logical("bytes", "decimal", precision=9, scale=1), "NAN"),
        (logical("int", "date"), -735160),
        (logical("int", "date"), 2147483647),
        (logical("long", "timestamp-micros"), 1_709_200_800_123_456),
        (logical("long", "timestamp-micros"), "-infinity"),
        (logical("long", "local-timestamp-micros"), 9223372036825200000),
    ],
)
def test_a_value_that_its_field_cannot_hold_names_the_field_and_not_the_value(type_, given_):
    with pytest.raises(Unacceptable) as fault:
        reader(type_).record({"id": "A", "x": given_})
    assert (fault.value.reason, fault.value.field) == (Reason.UNREADABLE_ROW, "x")
    assert str(given_) not in str(fault.value)


def test_a_column_is_found_by_the_name_that_the_catalogue_gives_it():
    assert reader("string", {"x": "Their Name"}).record({"id": "A", "Their Name": "v"})["x"] == "v"
    with pytest.raises(Unacceptable, match="Their Name"):
        reader("string", {"x": "Their Name"}).record({"id": "A", "x": "v"})


GENERATIONS = st.integers(64 * ATTEMPTS, 256 * ATTEMPTS - 1)
LSNS = st.integers(0, 2**48 - 1)


@given(GENERATIONS, LSNS, GENERATIONS, LSNS)
def test_sequences_rise_with_the_snapshot_and_then_with_the_log(generation, lsn, other, later):
    smaller, larger = sorted([(generation, lsn), (other, later)])
    assert (sequence_at(*smaller) < sequence_at(*larger)) == (smaller < larger)


FIRST = first_generation(64)
USABLE = Slot(usable=True, active=False, lag_bytes=0)


@pytest.mark.parametrize(
    ("standing", "epoch", "held", "expected"),
    [
        (Standing(), 64, None, Run(generation=FIRST, snapshot=True)),
        (Standing(generation=FIRST, complete=True), 64, USABLE, Run(generation=FIRST, snapshot=False)),
        (Standing(generation=FIRST), 64, USABLE, Run(generation=FIRST + 1, snapshot=True)),
        (Standing(generation=FIRST, complete=True), 64, None, Run(generation=FIRST + 1, snapshot=True)),
        (
            Standing(generation=FIRST, complete=True),
            64,
            replace(USABLE, usable=False),
            Run(generation=FIRST + 1, snapshot=True),
        ),
        (Standing(generation=FIRST, complete=True), 65, USABLE, Run(generation=first_generation(65), snapshot=True)),
    ],
    ids=["new", "streams on", "snapshot cut short", "slot gone", "slot given up", "new epoch"],
)
def test_a_snapshot_is_taken_where_the_slot_does_not_tell_all(standing, epoch, held, expected):
    assert next_run(DATASET, standing, epoch, held) == expected


def test_snapshots_without_end_are_told_with_the_way_out():
    with pytest.raises(ConfigurationError, match=r"civicbus source epoch gardens\.trees"):
        next_run(DATASET, Standing(generation=FIRST + ATTEMPTS - 1), 64, None)


def test_a_snapshot_that_begins_anew_stays_within_its_epoch():
    found = SimpleNamespace(dataset=replace(permits(), id=DATASET))
    journal = SimpleNamespace(standing=Standing(generation=FIRST + ATTEMPTS - 1, complete=True))
    running = Running(found, journal, None)
    with pytest.raises(ConfigurationError, match=r"civicbus source epoch gardens\.trees"):
        running.begin_anew(7)


def test_the_secret_reaches_kafka_connect_only_as_a_file(tmp_path):
    dataset = replace(permits(), capture=Capture(table="public.permits"))
    database = Database.parse(tmp_path, dataset.id, f"host=db.example port=5433 user=u dbname=d password={SECRET}")
    declare(tmp_path, dataset, database)
    found = load(tmp_path, dataset.id)
    assert found.database.password == SECRET
    assert SECRET not in json.dumps(connector_config(found, "16384-a", snapshot=True)) + repr(found)
    holding = [path for path in Path(tmp_path).rglob("*") if path.is_file() and SECRET in path.read_text()]
    assert holding == [database.password_file]
    assert holding[0].stat().st_mode & 0o077 == holding[0].parent.stat().st_mode & 0o077 == 0
    forget(tmp_path, dataset.id)
    assert not holding[0].exists()


@pytest.mark.parametrize("text", ["", "nonsense", "postgresql://u:p@/d", "host=h user=u dbname=d", "host=h=1"])
def test_a_connection_string_that_lacks_something_is_refused_without_being_repeated(tmp_path, text):
    with pytest.raises(ConfigurationError, match="postgresql://user:password@host:port/database") as fault:
        Database.parse(tmp_path, DATASET, text)
    assert "u:p@" not in str(fault.value)


def test_names_in_the_database_are_short_and_differ():
    names = {slot_name(DatasetId.parse(f"{'d' * 60}.{'n' * 59}{end}")) for end in "ab"}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_a_journal_keeps_what_stands_and_forgets_another_platforms(tmp_path):
    path = tmp_path / "journal"
    assert begin_journal(path, "first topic")
    with Journal(path) as journal:
        kept = [
            Kept(b"a", FIRST, 5, stands=True),
            Kept(b"b", FIRST, 9, stands=True),
            Kept(b"c", FIRST, 1, stands=False),
        ]
        journal.settle(replace(journal.standing, generation=FIRST, position=7), kept)
    assert not begin_journal(path, "first topic")
    with Journal(path) as journal:
        assert journal.standing == Standing(topic="first topic", generation=FIRST, position=7)
        assert journal.kept(b"a") == (b"a", FIRST, 5, True)
        assert list(journal.standing_before(FIRST, 9)) == [b"a"]
        assert list(journal.standing_before(FIRST + 1, 0)) == [b"a", b"b"]
    assert begin_journal(path, "second topic")
    with Journal(path) as journal:
        assert journal.kept(b"a") is None


def test_a_declared_capture_reads_as_it_was_written(tmp_path):
    dataset = replace(permits(), capture=Capture(table="works.Permits", columns={"permit_no": "Nr."}))
    database = Database.parse(tmp_path, dataset.id, "postgresql://u:p@h:1/d?sslmode=require")
    declare(tmp_path, dataset, database)
    assert load(tmp_path, dataset.id) == Declared(
        dataset=dataset, capture=Capture(table="works.Permits", columns={"permit_no": "Nr."}), database=database
    )
