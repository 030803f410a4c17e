"""What the triggers write into an outbox, in a real PostgreSQL, and which tables the script refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from civicbus.infra import databases
from civicbus.names import DatasetId
from civicbus.postgres import Session
from civicbus.producers.outbox.script import script
from civicbus.schemas.datasets import Dataset
from civicbus.secrets import OPERATOR
from support.outbox import town
from support.platform import Platform
from support.samples import permits

TABLE = """
DROP TABLE IF EXISTS permits;
DELETE FROM civicbus_outbox_tables;
TRUNCATE civicbus_outbox;
CREATE TABLE permits (permit_no text PRIMARY KEY, "状态" text, score int, secret text);
INSERT INTO permits VALUES ('old', 'new', 1, 'private');
"""


def dataset() -> Dataset:
    """Permits whose status stands in a column of another name."""
    plain = permits()
    fields = tuple(replace(field, headers=("状态",)) if field.name == "status" else field for field in plain.fields)
    own_titles = tuple(replace(f, title=replace(f.title, zh=f"{f.name} 标题", en=f"{f.name} title")) for f in fields)
    return replace(plain, fields=own_titles)


def run(session: Session, text: str) -> None:
    session.execute(text.encode())


@pytest.fixture(scope="module")
def database(platform: Platform) -> Iterator[Session]:
    with town(platform) as made, made.connect() as session:
        run(session, "CREATE TABLE first (permit_no text PRIMARY KEY)")
        run(session, script(dataset(), "first"))
        yield session


@pytest.fixture
def session(database: Session) -> Session:
    run(database, "ROLLBACK")
    run(database, TABLE)
    run(database, script(dataset(), "permits"))
    return database


def outbox(session: Session) -> list[tuple[str, dict[str, str | None]]]:
    """What stands there, and stands there no longer."""
    rows = session.execute("SELECT operation, row FROM civicbus_outbox ORDER BY id").fetchall()
    run(session, "DELETE FROM civicbus_outbox")
    return rows


def full(number: str, status: str | None = None, score: str | None = None) -> dict[str, str | None]:
    return {"permit_no": number, "status": status, "score": score}


def test_the_rows_that_are_there_come_first_and_once_with_published_columns_alone(session):
    run(session, script(dataset(), "permits"))
    assert outbox(session) == [("upsert", full("old", "new", "1"))]


def test_inserts_updates_and_deletions_are_written_and_what_changes_nothing_is_not(session):
    outbox(session)
    run(session, "INSERT INTO permits VALUES ('a', 'new', NULL, 'x')")
    run(session, "UPDATE permits SET score = 2 WHERE permit_no = 'a'")
    run(session, "UPDATE permits SET secret = 'y'")
    run(session, "DELETE FROM permits WHERE permit_no = 'a'")
    run(session, "BEGIN; DELETE FROM permits; ROLLBACK")
    assert outbox(session) == [
        ("upsert", full("a", "new")),
        ("upsert", full("a", "new", "2")),
        ("delete", {"permit_no": "a"}),
    ]


def test_another_key_is_a_deletion_and_an_upsert(session):
    outbox(session)
    run(session, "UPDATE permits SET permit_no = 'young'")
    assert outbox(session) == [("delete", {"permit_no": "old"}), ("upsert", full("young", "new", "1"))]


def test_truncate_deletes_every_record(session):
    outbox(session)
    run(session, "INSERT INTO permits VALUES ('a')")
    run(session, "TRUNCATE permits")
    assert outbox(session)[1:] == [("delete", {"permit_no": "old"}), ("delete", {"permit_no": "a"})]


def test_truncate_is_refused_where_it_might_not_see_every_row_that_goes(session):
    outbox(session)
    run(session, "BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(psycopg.errors.RaiseException, match="TRUNCATE in a transaction that is REPEATABLE READ"):
        run(session, "TRUNCATE permits")
    run(session, "ROLLBACK")
    assert outbox(session) == []


def test_a_program_writes_through_the_trigger_without_a_right_on_the_outbox(platform, session):
    outbox(session)
    run(session, "GRANT INSERT ON permits TO pg_monitor")
    operator = platform.secrets.read(OPERATOR)
    with databases.session(platform.endpoints, operator, session.info.dbname) as program:
        run(program, "SET ROLE pg_monitor")
        run(program, "INSERT INTO permits VALUES ('a')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(program, "TABLE civicbus_outbox")
    assert outbox(session) == [("upsert", full("a"))]


def test_a_field_without_a_column_is_named_and_nothing_is_changed(session):
    run(session, 'CREATE TABLE nameless ("状态" text)')
    with pytest.raises(psycopg.errors.RaiseException, match="nameless fills the field permit_no"):
        run(session, script(replace(dataset(), id=DatasetId.parse("construction.others")), "nameless"))
    run(session, "ROLLBACK; DROP TABLE nameless")
    assert session.execute("SELECT count(*) FROM civicbus_outbox_tables").fetchone()[0] == 1


@pytest.mark.parametrize(
    "table",
    [
        "(permit_no text)",
        "(permit_no text UNIQUE DEFERRABLE)",
        "(permit_no text, score int, UNIQUE (permit_no, score))",
    ],
)
def test_a_table_whose_writers_of_one_record_have_no_order_is_refused(session, table):
    run(session, f"CREATE TABLE loose {table}")
    with pytest.raises(psycopg.errors.RaiseException, match="no unique index"):
        run(session, script(replace(dataset(), id=DatasetId.parse("construction.others")), "loose"))
    run(session, "ROLLBACK; DROP TABLE loose")


def test_a_dataset_has_one_table(session):
    run(session, "CREATE TABLE second (permit_no text PRIMARY KEY)")
    with pytest.raises(psycopg.errors.RaiseException, match=r"from the table .*permits already"):
        run(session, script(dataset(), "second"))
    run(session, "ROLLBACK; DROP TABLE second")


def test_texts_do_not_depend_on_the_settings_of_the_program_that_writes(session):
    run(session, "DROP TABLE permits; DELETE FROM civicbus_outbox_tables")
    run(session, 'CREATE TABLE permits (permit_no text PRIMARY KEY, "状态" timestamptz, score float8)')
    run(session, script(dataset(), "permits"))
    outbox(session)
    with session.transaction():
        run(session, "SET LOCAL TimeZone = 'Asia/Shanghai'; SET LOCAL extra_float_digits = -15")
        run(session, "INSERT INTO permits VALUES ('a', '1900-01-01 00:00:00+08:05:43', 0.1)")
    assert outbox(session) == [("upsert", full("a", "1899-12-31T15:54:17+00:00", "0.1"))]
