"""An inbox becomes a table of the subscriber's PostgreSQL: every value as it was, every fault alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from math import copysign, inf, isnan, nan
from pathlib import Path
from secrets import token_hex

import httpx
import psycopg
import pytest
from confluent_kafka.admin import NewTopic

from civicbus.consumers import positions
from civicbus.consumers.positions import Move
from civicbus.consumers.rows import Decoding
from civicbus.consumers.sinks.postgres import InboxTable, Stage, prepare_session
from civicbus.errors import Fenced
from civicbus.names import AgreementId
from civicbus.observe import observed
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR
from civicbus.transport.assigned import Record
from civicbus.transport.clients import confluent_admin
from support.inboxes import InboxWriter, eventually, schema
from support.tables import Sink, Tables

PERMIT = schema(("status", "string"), ("area", "int"))
Open = Callable[[str, AvroSchema], InboxWriter]


def permit(status: str | None, area: int | None = None) -> dict[str, object]:
    return {"status": status, "area": area}


@pytest.fixture(scope="module")
def member(new_department):
    return new_department("table")


@pytest.fixture(scope="module")
def sink(platform, member, tmp_path_factory) -> Iterator[Sink]:
    with Sink(platform.home, member.id, tmp_path_factory.mktemp("sink") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def tables(platform, member) -> Tables:
    return Tables(platform.endpoints, platform.secrets, member.id)


@pytest.fixture
def inbox(platform, member) -> Iterator[Open]:
    opened: list[InboxWriter] = []

    def make(agreement: str, rows: AvroSchema = PERMIT) -> InboxWriter:
        writer = InboxWriter(
            platform.endpoints, platform.secrets, department=member.id, agreement=AgreementId(agreement), schema=rows
        )
        opened.append(writer)
        return writer

    yield make
    for writer in opened:
        writer.__exit__(None, None, None)


HOSTILE = {
    "empty": "",
    "null": None,
    "quotes": """'; DROP TABLE "x"; -- \\' "" '' """,
    "backslashes": "\\N \\. \\\\ \\x41\n\\.\n",
    "lines": "one\r\ntwo\rthree\nfour\tfive\x0b\x1b[31m",
    "csv": 'a,"b",\n"",NULL',
    "emoji": "👩‍👩‍👧‍👦 🇨🇳 é ü ß ﷽ 𝒳",
    "rtl": "\u202eשלום עולם\u202c مرحبا",
    "chinese": "行政审批，共享协议",
    "controls": "\x01\x7f\u0085\u2028\ufeff\uffff",
    "long": "长" * 300_000,
    "like a null": "NULL",
}


def test_hostile_texts_arrive_as_they_are(sink, tables, inbox) -> None:
    writer = inbox("hostile", schema(("value", "string")))
    writer.write({key: {"value": value} for key, value in HOSTILE.items()})
    tables.become(writer.agreement, {key: {"value": value} for key, value in HOSTILE.items()})


def test_hostile_keys_arrive_as_they_are(sink, tables, inbox) -> None:
    writer = inbox("hostile_keys")
    keys = ["", "a,b", 'q"q', "\\.", "\\N", "长" * 200, '["a","b"]', " ", "\n"]
    writer.write({key: permit(key) for key in keys})
    tables.become(writer.agreement, {key: permit(key) for key in keys})


def test_numbers_dates_and_bytes_arrive_as_they_are(sink, tables, inbox) -> None:
    kinds = {
        "real": "float",
        "number": "double",
        "small": "int",
        "large": "long",
        "truth": "boolean",
        "day": {"type": "int", "logicalType": "date"},
        "moment": {"type": "long", "logicalType": "timestamp-micros"},
        "price": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4},
        "raw": "bytes",
        "tags": {"type": "array", "items": "string"},
    }
    last = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    rows = {
        "none": dict.fromkeys(kinds),
        "low": {
            "real": -inf, "number": -0.0, "small": -(2**31), "large": -(2**63), "truth": False, "day": date(1, 1, 1),
            "moment": datetime(1, 1, 1, tzinfo=UTC), "price": Decimal("-9999999999999999.9999"), "raw": b"", "tags": [],
        },
        "high": {
            "real": inf, "number": 1.7976931348623157e308, "small": 2**31 - 1, "large": 2**63 - 1, "truth": True,
            "day": date(9999, 12, 31), "moment": last, "price": Decimal("0.0001"), "raw": bytes(range(256)),
            "tags": ["", "a\"b", "é"],
        },
        "odd": {
            "real": 0.1, "number": 5e-324, "small": 0, "large": 0, "truth": None, "day": date(2000, 2, 29),
            "moment": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "price": None, "raw": b"\\x00",
            "tags": None,
        },
        "nan": dict.fromkeys(kinds) | {"real": nan, "number": nan},
    }  # fmt: skip
    writer = inbox("numbers", schema(*kinds.items()))
    writer.write(rows)
    eventually(lambda: set(tables.rows(writer.agreement)) == set(rows))
    found = tables.rows(writer.agreement)
    not_numbers = found.pop("nan")
    assert isnan(not_numbers["real"])
    assert isnan(not_numbers["number"])
    assert copysign(1, found["low"]["number"]) == -1
    assert found == {key: row for key, row in rows.items() if key != "nan"}
    writer.write({"low": rows["low"] | {"number": 0.0}})
    eventually(lambda: copysign(1, tables.rows(writer.agreement)["low"]["number"]) == 1)


def test_names_that_postgresql_reserves_are_columns_all_the_same(sink, tables, inbox) -> None:
    names = ["select", "xmin", "Status", "status", "record_key", "a" * 80, "b" * 63]
    writer = inbox("user", schema(*((name, "string") for name in names)))
    writer.write({"k": {name: f"value of {name[:6]}" for name in names}})
    eventually(lambda: tables.value('SELECT "record_key_" FROM inbox."user"') == "k")
    row = tables.session.execute('SELECT "select", xmin_, "Status", status, record_key FROM inbox."user"').fetchone()
    assert row == ("value of select", "value of xmin", "value of Status", "value of status", "value of record")


def test_an_inbox_without_rows_has_an_empty_table(sink, tables, inbox) -> None:
    writer = inbox("empty")
    eventually(lambda: tables.value("SELECT count(*) FROM inbox.empty") == 0)
    assert writer.agreement


def test_what_was_aborted_never_shows(sink, tables, inbox) -> None:
    writer = inbox("aborted")
    writer.write({"a": permit("1")})
    writer.write({"a": permit("2"), "b": permit("1")}, commit=False)
    writer.write({"c": permit("1")})
    tables.become(writer.agreement, {"a": permit("1"), "c": permit("1")})
    writer.write({"a": None}, commit=False)
    writer.write({"c": None})
    tables.become(writer.agreement, {"a": permit("1")})


def test_a_row_that_postgresql_cannot_take_stops_only_itself(sink, tables, inbox) -> None:
    writer = inbox("refusing")
    many = {f"k{n}": permit("bad\0" if n % 97 == 0 else "good", n) for n in range(1000)}
    writer.write({key: permit("old") for key in many})
    writer.write(many)
    good = {key: row for key, row in many.items() if row["status"] == "good"}
    tables.become(writer.agreement, good)
    refused = tables.session.execute(
        "SELECT convert_from(record_key, 'UTF8'), reason, detail FROM civicbus.refused WHERE topic = %s",
        (writer.topic,),
    ).fetchall()
    assert {key for key, _, _ in refused} == many.keys() - good.keys()
    assert {(reason, detail) for _, reason, detail in refused} == {("unstorable", "22021 CharacterNotInRepertoire")}
    writer.write({"k0": permit("mended"), "k97": None})
    tables.become(writer.agreement, good | {"k0": permit("mended")})
    left = tables.value("SELECT count(*) FROM civicbus.refused WHERE topic = %s", writer.topic)
    assert left == len(refused) - 2


def test_bytes_that_are_no_row_stop_only_themselves(sink, tables, inbox) -> None:
    writer = inbox("garbled")
    good = writer.value(permit("good"))
    writer.write_raw([(b"a", good), (b"b", b"\x01garbage"), (b"c", b""), (b"d", good + b"x")])
    writer.write_raw([(b"e", b"\0\x7f\xff\xff\xffx"), (b"\xff\xfe", good), (b"n\0l", good)])
    writer.write_raw([(token_hex(5000).encode(), good), (b"z", good)])
    tables.become(writer.agreement, {"a": permit("good"), "z": permit("good")})
    reasons = tables.session.execute(
        "SELECT reason, count(*) FROM civicbus.refused WHERE topic = %s GROUP BY reason", (writer.topic,)
    ).fetchall()
    assert dict(reasons) == {"frame": 2, "bytes": 1, "schema_unknown": 1, "unstorable": 3}


def test_a_rule_of_the_departments_own_refuses_rows_alone(sink, tables, inbox) -> None:
    writer = inbox("own_rule")
    writer.write({"a": permit("x", 1)})
    tables.become(writer.agreement, {"a": permit("x", 1)})
    tables.session.execute("ALTER TABLE inbox.own_rule ADD CHECK (area > 0)")
    writer.write({"a": permit("x", 2), "b": permit("secret", -1), "c": permit("x", 3)})
    tables.become(writer.agreement, {"a": permit("x", 2), "c": permit("x", 3)})
    assert tables.value("SELECT detail FROM civicbus.refused WHERE topic = %s", writer.topic) == (
        "23514 CheckViolation own_rule_area_check"
    )
    assert "secret" not in sink.log.read_text()


def test_a_new_field_becomes_a_column_and_a_wider_number_widens_one(sink, tables, inbox) -> None:
    writer = inbox("growing")
    writer.write({"a": permit("x", 1), "b": permit("y", 2)})
    tables.become(writer.agreement, {"a": permit("x", 1), "b": permit("y", 2)})
    tables.session.execute("ALTER TABLE inbox.growing ADD COLUMN note text")
    tables.session.execute("UPDATE inbox.growing SET note = 'ours' WHERE record_key = 'a'")
    tables.session.execute("CREATE VIEW growing_notes AS SELECT record_key, note FROM inbox.growing")
    writer.use(schema(("status", "string"), ("area", "long"), ("since", {"type": "int", "logicalType": "date"})))
    writer.write({"a": {"status": "x", "area": 2**40, "since": date(2020, 1, 1)}})
    tables.become(
        writer.agreement,
        {
            "a": {"status": "x", "area": 2**40, "since": date(2020, 1, 1), "note": "ours"},
            "b": {"status": "y", "area": 2, "since": None, "note": None},
        },
    )
    assert tables.value("SELECT note FROM growing_notes WHERE record_key = 'a'") == "ours"


def test_a_field_that_is_gone_is_emptied_as_rows_come(sink, tables, inbox) -> None:
    writer = inbox("shrinking")
    writer.write({"a": permit("x", 1), "b": permit("y", 2)})
    tables.become(writer.agreement, {"a": permit("x", 1), "b": permit("y", 2)})
    writer.use(schema(("status", "string")))
    writer.write({"a": {"status": "x"}, "c": {"status": "z"}})
    tables.become(writer.agreement, {"a": permit("x"), "b": permit("y", 2), "c": permit("z")})


def remake(platform, writer: InboxWriter, partitions: int = 2) -> None:
    admin = confluent_admin(platform.endpoints, platform.secrets.read(OPERATOR))
    admin.delete_topics([writer.topic])[writer.topic].result(30)
    eventually(lambda: writer.topic not in admin.list_topics(timeout=10).topics)
    topic = NewTopic(writer.topic, partitions, config={"cleanup.policy": "compact"})
    admin.create_topics([topic])[writer.topic].result(30)


def test_a_topic_that_is_made_again_replaces_the_rows(platform, sink, tables, inbox) -> None:
    writer = inbox("remade")
    writer.write({f"k{n}": permit("first", n) for n in range(50)})
    tables.become(writer.agreement, {f"k{n}": permit("first", n) for n in range(50)})
    remake(platform, writer, partitions=3)
    second = {f"k{n}": permit("second", n) for n in range(25, 125)}
    with InboxWriter(
        platform.endpoints,
        platform.secrets,
        department=writer.department,
        agreement=writer.agreement,
        schema=PERMIT,
        partitions=3,
    ) as again:
        again.write(second)
        tables.become(writer.agreement, second)


def test_a_type_that_changed_gives_the_table_a_new_shape_in_one_step(platform, sink, tables, inbox) -> None:
    writer = inbox("reshaped", schema(("status", "string"), ("area", "string")))
    writer.write({"a": permit("x", "12"), "b": permit("y", "many")})
    tables.become(writer.agreement, {"a": permit("x", "12"), "b": permit("y", "many")})
    tables.session.execute("CREATE VIEW reshaped_view AS SELECT area FROM inbox.reshaped")
    writer.force(PERMIT)
    writer.write({"c": permit("z", 3)})
    tables.become(writer.agreement, {"a": permit("x", 12), "c": permit("z", 3)})
    assert tables.value("SELECT count(*) FROM civicbus.refused WHERE topic = %s", writer.topic) == 1
    writer.write({"b": permit("y", 7)})
    tables.become(writer.agreement, {"a": permit("x", 12), "b": permit("y", 7), "c": permit("z", 3)})
    assert tables.value("SELECT count(*) FROM reshaped_view") == 2


def test_a_rebuild_removes_what_the_inbox_has_not_and_readers_see_one_step(sink, tables, inbox) -> None:
    writer = inbox("rebuilt")
    for version in range(20):
        writer.write({f"k{n}": permit(f"version {version}", n) for n in range(300)})
    expected = {f"k{n}": permit("version 19", n) for n in range(300)}
    tables.become(writer.agreement, expected)
    tables.session.execute("INSERT INTO inbox.rebuilt VALUES ('stray', 'version 19', 0)")
    tables.session.execute("DELETE FROM inbox.rebuilt WHERE record_key = 'k7'")
    tables.session.execute("UPDATE inbox.rebuilt SET area = 0 WHERE record_key = 'k8'")
    seen: set[tuple[object, ...]] = set()
    stop = threading.Event()

    def watch() -> None:
        with psycopg.connect(tables.session.info.dsn, password=tables.session.info.password) as watching:
            watching.autocommit = True
            while not stop.is_set():
                seen.add(watching.execute("SELECT count(*), min(status), max(status) FROM inbox.rebuilt").fetchone())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        sink.process.send_signal(signal.SIGTERM)
        sink.process.wait(30)
        tables.session.execute(
            "UPDATE civicbus.inboxes SET caught_up_at = now() - interval '16 days' WHERE topic = %s", (writer.topic,)
        )
        sink.again()
        tables.become(writer.agreement, expected)
    finally:
        stop.set()
        watcher.join()
    assert seen == {(300, "version 19", "version 19")}
    assert tables.value("SELECT generation FROM civicbus.inboxes WHERE topic = %s", writer.topic) == 2
    assert tables.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'inbox_next'") == 0


def test_a_table_that_was_dropped_or_lost_a_column_or_its_positions_is_filled_again(sink, tables, inbox) -> None:
    writer = inbox("dropped")
    expected = {f"k{n}": permit("x", n) for n in range(20)}
    writer.write(expected)
    tables.become(writer.agreement, expected)
    tables.session.execute("ALTER TABLE inbox.dropped DROP COLUMN area")
    writer.write({"k0": permit("y", 0)})
    expected["k0"] = permit("y", 0)
    tables.become(writer.agreement, expected)
    tables.session.execute("DELETE FROM civicbus.positions WHERE topic = %s", (writer.topic,))
    writer.write({"k2": permit("y", 0)})
    expected["k2"] = permit("y", 0)
    tables.become(writer.agreement, expected)
    tables.session.execute("DROP TABLE inbox.dropped")
    writer.write({"k1": permit("z", 0)})
    expected["k1"] = permit("z", 0)
    tables.become(writer.agreement, expected)


def test_one_inbox_that_cannot_go_on_does_not_stop_the_others(sink, tables, inbox) -> None:
    broken, well = inbox("broken"), inbox("well")
    for writer in (broken, well):
        writer.write({"a": permit("x")})
        tables.become(writer.agreement, {"a": permit("x")})
    tables.session.execute('ALTER TABLE inbox.broken DROP CONSTRAINT "~1~broken"')
    broken.write({"b": permit("x")})
    well.write({"b": permit("x")})
    tables.become(well.agreement, {"a": permit("x"), "b": permit("x")})
    tables.session.execute("ALTER TABLE inbox.broken ADD PRIMARY KEY (record_key)")
    tables.become(broken.agreement, {"a": permit("x"), "b": permit("x")})


def test_a_session_that_the_database_ends_is_opened_again(sink, tables, inbox) -> None:
    writer = inbox("ended")
    expected: dict[str, object] = {}
    for round_ in range(5):
        rows = {f"k{round_}.{n}": permit("x", n) for n in range(200)}
        writer.write(rows)
        expected |= rows
        tables.session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    tables.become(writer.agreement, expected)


def test_a_batch_from_where_somebody_else_went_on_is_fenced_and_writes_nothing(platform, sink, tables, inbox) -> None:
    writer = inbox("fenced")
    writer.write({"a": permit("x")})
    tables.become(writer.agreement, {"a": permit("x")})
    sink.process.send_signal(signal.SIGTERM)
    assert sink.process.wait(30) == 0
    prepare_session(tables.session)
    stored = positions.load(tables.session, writer.topic)
    assert stored is not None
    one, other = (InboxTable(tables.session, Stage(tables.session), writer.agreement, stored) for _ in range(2))
    with Registry(platform.endpoints.registry_url) as registry:
        decoding = Decoding(registry)
    partition, at = next(iter(stored.positions.items()))
    move = Move(partition, at, at + 1)
    late = decoding.prepare([Record(partition, at, 0, b"late", None, [])])
    one.write(late, [move])
    with pytest.raises(Fenced):
        other.write(late, [move])
    tables.session.execute("UPDATE civicbus.positions SET position = %s WHERE topic = %s AND partition = %s",
        (at, writer.topic, partition))  # fmt: skip
    sink.again()
    writer.write({"b": permit("y")})
    tables.become(writer.agreement, {"a": permit("x"), "b": permit("y")})


def observed_metrics(home: Path, process: str) -> str:
    (found,) = [each for each in observed(home) if each.process == process]
    return httpx.get(f"{found.url}/metrics").text


def test_metrics_are_served(platform, member, sink, tables, inbox) -> None:
    writer = inbox("measured")
    writer.write({"a": permit("x"), "b": permit("z\0")})
    tables.become(writer.agreement, {"a": permit("x")})

    def shown_when_current() -> bool:
        writer.write({"a": permit("y")})
        shown = observed_metrics(platform.home, f"table-{member.id}")
        assert 'civicbus_undelivered_total{agreement="measured",reason="unstorable"} 1.0' in shown
        assert 'civicbus_delivered_total{agreement="measured",kind="upsert"}' in shown
        return 'civicbus_end_to_end_seconds_count{agreement="measured",stage="table"}' in shown

    eventually(shown_when_current)


def test_nothing_but_names_and_codes_is_logged(sink) -> None:
    text = sink.log.read_text()
    assert "row_refused" in text
    for value in ("mended", "version 19", "DROP TABLE"):
        assert value not in text
