"""The commands that show a department its inboxes and tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from civicbus.cli.main import app
from civicbus.errors import AccessDenied, ConfigurationError
from civicbus.names import AgreementId
from support.inboxes import InboxWriter, eventually, schema
from support.tables import Sink, Tables

ROW = schema(("name", "string"), ("born", {"type": "int", "logicalType": "date"}))
AGREEMENT = AgreementId("residents")
COMMAND = "from civicbus.cli.main import main; main()"


@pytest.fixture(scope="module")
def member(new_department):
    return new_department("commands")


@pytest.fixture(scope="module")
def writer(platform, member) -> Iterator[InboxWriter]:
    with InboxWriter(
        platform.endpoints, platform.secrets, department=member.id, agreement=AGREEMENT, schema=ROW
    ) as opened:
        opened.write({"a": {"name": "张三", "born": None}, "b": {"name": "e\x1b[31mvil\u202e", "born": None}})
        opened.write({"a": None})
        yield opened


@pytest.fixture(scope="module")
def tables(platform, member, writer, tmp_path_factory) -> Iterator[Tables]:
    with Sink(platform.home, member.id, tmp_path_factory.mktemp("sink") / "log"):
        found = Tables(platform.endpoints, platform.secrets, member.id)
        eventually(lambda: set(found.rows(AGREEMENT)) == {"b"})
        eventually(lambda: found.value("SELECT state FROM civicbus.inboxes") == "current")
        yield found


@pytest.fixture(scope="module")
def command(platform) -> Callable[..., Result]:
    def run(*words: object) -> Result:
        return CliRunner().invoke(app, ["--home", str(platform.home), *map(str, words)])

    return run


def test_tail_shows_rows_and_deletions_with_their_places(member, writer, command) -> None:
    result = command("inbox", "tail", member.id, AGREEMENT, "--from-start", "--json", "-n", 3)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted((row["key"], row["deleted"]) for row in rows) == [("a", False), ("a", True), ("b", False)]
    assert {"name": "张三", "born": None} in [row["row"] for row in rows]
    assert all(isinstance(row["offset"], int) and row["time"].endswith("+00:00") for row in rows)


def test_tail_lets_no_value_steer_the_terminal(member, writer, command) -> None:
    shown = command("inbox", "tail", member.id, AGREEMENT, "--from-start", "-n", 3).stdout
    assert "张三" in shown
    assert "deleted" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_tail_of_an_inbox_without_a_right_to_it_is_refused(member, command) -> None:
    assert isinstance(command("inbox", "tail", member.id, "another").exception, AccessDenied)


def test_tail_shows_what_cannot_be_decoded_with_the_reason(member, writer, command, platform) -> None:
    with InboxWriter(
        platform.endpoints, platform.secrets, department=member.id, agreement=AgreementId("garbled"), schema=ROW
    ) as garbled:
        garbled.write_raw([(b"k", b"nonsense")])
    row = json.loads(command("inbox", "tail", member.id, "garbled", "--from-start", "--json", "-n", 1).stdout)
    assert (row["row"], row["reason"]) == (None, "frame")


def test_sql_prints_rows_as_json_and_as_a_table(member, tables, command) -> None:
    query = "SELECT record_key, name FROM inbox.residents"
    assert json.loads(command("sql", member.id, "-c", query, "--json").stdout)["record_key"] == "b"
    shown = command("sql", member.id, "-c", query).stdout
    assert "(1 rows)" in shown
    assert "\x1b" not in shown


def test_sql_runs_several_statements_and_says_what_is_wrong(member, tables, command) -> None:
    shown = command("sql", member.id, "-c", "CREATE TABLE notes (n int); INSERT INTO notes VALUES (1); SELECT 2 AS two")
    assert "CREATE TABLE" in shown.stdout
    assert "two" in shown.stdout
    wrong = command("sql", member.id, "-c", "SELECT nonsense")
    assert isinstance(wrong.exception, ConfigurationError)


def test_sql_without_a_command_is_psql_and_the_password_is_nowhere_to_be_seen(platform, member, tables) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, "--home", str(platform.home), "sql", member.id],
        input="SELECT 'user ' || current_user;\n\\! tr '\\0' ' ' < /proc/$PPID/cmdline; env\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"user {member.id}" in ran.stdout
    assert member.credentials.password not in ran.stdout + ran.stderr


def test_list_shows_each_table(member, tables, command) -> None:
    rows = json.loads(command("table", "list", member.id, "--json").stdout)
    (found,) = [row for row in rows if row["table"] == "inbox.residents"]
    assert (found["rows"], found["refused"], found["state"]) == (1, 0, "current")
    assert "inbox.residents" in command("table", "list", member.id).stdout


def test_rebuild_waits_until_the_table_is_equal_again(member, tables, command) -> None:
    tables.session.execute("INSERT INTO inbox.residents (record_key) VALUES ('stray')")
    result = command("table", "rebuild", member.id, AGREEMENT)
    assert result.exit_code == 0, result.output
    assert "inbox.residents: 1 rows" in result.stdout
    assert set(tables.rows(AGREEMENT)) == {"b"}


def test_rebuild_of_a_table_that_is_not_there_is_refused(member, tables, command) -> None:
    assert isinstance(command("table", "rebuild", member.id, "another").exception, ConfigurationError)
