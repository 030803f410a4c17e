"""Commands: a department's tables, and its database."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from psycopg.sql import SQL, Identifier
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from civicbus.cli.context import Context
from civicbus.cli.display import cell, printable, row_json
from civicbus.consumers import rebuild
from civicbus.consumers.database import connect
from civicbus.consumers.positions import Overview, State, overview
from civicbus.errors import ConfigurationError
from civicbus.infra.postgres import packaged_programs
from civicbus.names import AgreementId, DepartmentId, department_id, inbox_topic, valid_name
from civicbus.postgres import Session, translated
from civicbus.secrets import Credentials, principal_of
from civicbus.settings import Endpoints
from civicbus.transport.assigned import AssignedReader

table = typer.Typer(no_args_is_help=True, help="Tables: what a department's inboxes are in its database.")

_LOOK_EVERY_S = 0.3
_PATIENCE_S = 20.0

Department = Annotated[str, typer.Argument(metavar="DEPT", help="The department whose database it is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("sql")(sql)
    app.add_typer(table, name="table")


def sql(
    context: typer.Context,
    department: Department,
    *,
    command: Annotated[str | None, typer.Option("-c", help="SQL to run; without it psql starts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Run SQL in a department's database with its own credentials; its inboxes are tables in the schema inbox."""
    here: Context = context.obj
    credentials = here.secrets.read(principal_of(department_id(department)))
    if command is None:
        raise typer.Exit(_psql(here.endpoints, credentials))
    with connect(here.endpoints, credentials) as session:
        try:
            cursor = session.execute(command.encode())
        except psycopg.Error as error:
            raise ConfigurationError(str(error).strip()) from None
        for result in cursor.results():
            _print_result(result, as_json=as_json)


@table.command("list")
def list_tables(context: typer.Context, department: Department, *, as_json: AsJson = False) -> None:
    """Show a department's tables: rows, rows refused, state, and when each was last complete."""
    here: Context = context.obj
    name = department_id(department)
    with connect(here.endpoints, here.secrets.read(principal_of(name))) as session, translated():
        rows = [_listed(session, name, each) for each in overview(session)]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    shown = Table("table", "rows", "refused", "state", "complete at", "reason")
    for row in rows:
        shown.add_row(*(cell(value) for value in row.values()))
    Console().print(shown)


@table.command("rebuild")
def rebuild_table(
    context: typer.Context,
    department: Department,
    agreement: Annotated[str, typer.Argument(metavar="AGREEMENT", help="An agreement's id.")],
) -> None:
    """Fill a table again from the start of its inbox; readers see the old rows until the new ones are complete."""
    here: Context = context.obj
    name = department_id(department)
    credentials = here.secrets.read(principal_of(name))
    with (
        connect(here.endpoints, credentials) as session,
        AssignedReader(here.endpoints, credentials, group=f"{name}.rebuild") as reader,
    ):
        topic = rebuild.ask(session, reader, name, AgreementId(valid_name(agreement)))
        began_s = time.monotonic()
        _show(rebuild.progress(session, reader, topic), agreement, name)
        rows = _count(session, agreement)
    typer.echo(f"inbox.{agreement}: {rows} rows, complete after {time.monotonic() - began_s:.1f} s")


def _psql(endpoints: Endpoints, credentials: Credentials) -> int:
    """psql with the password in a file of its own, which libpq demands to be private."""
    program = shutil.which("psql") or str(packaged_programs() / "psql")
    with tempfile.TemporaryDirectory() as folder:
        passwords = Path(folder) / "pgpass"
        passwords.touch(0o600)
        secret = credentials.password.replace("\\", "\\\\").replace(":", "\\:")
        passwords.write_text(f"*:*:*:*:{secret}\n")
        place = psycopg.conninfo.make_conninfo(
            host=endpoints.database_host,
            port=endpoints.database_port,
            user=credentials.principal,
            dbname=credentials.principal,
            passfile=str(passwords),
        )
        return subprocess.run([program, place], check=False).returncode


def _print_result(result: psycopg.Cursor[tuple[object, ...]], *, as_json: bool) -> None:
    if result.description is None:
        typer.echo(result.statusmessage, err=as_json)
        return
    names = [column.name for column in result.description]
    if as_json:
        for row in result:
            typer.echo(row_json(dict(zip(names, row, strict=True))))
        return
    shown = Table(*map(printable, names))
    for row in result:
        shown.add_row(*map(cell, row))
    console = Console()
    console.print(shown)
    console.print(f"({result.rowcount} rows)", highlight=False)


def _listed(session: Session, department: DepartmentId, inbox: Overview) -> dict[str, object]:
    agreement = inbox.topic.removeprefix(inbox_topic(department, AgreementId("")))
    return {
        "table": f"inbox.{agreement}",
        "rows": _count(session, agreement),
        "refused": inbox.refused,
        "state": inbox.state,
        "complete_at": inbox.caught_up_at.isoformat(timespec="seconds") if inbox.state is State.CURRENT else None,
        "reason": inbox.reason,
    }


def _count(session: Session, agreement: str) -> int | None:
    """The rows of a table; None where there is none yet."""
    try:
        found = session.execute(SQL("SELECT count(*) FROM inbox.{}").format(Identifier(agreement))).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if found is None else int(str(found[0]))


def _show(states: Iterator[rebuild.Progress], agreement: str, department: DepartmentId) -> None:
    """A bar until the table is complete; raises where nothing moves."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"inbox.{agreement}", total=None)
        moved_s, done = time.monotonic(), -1
        for state in states:
            bar.update(task, completed=state.done, total=state.total)
            if state.ready:
                return
            if state.done != done:
                moved_s, done = time.monotonic(), state.done
            elif time.monotonic() - moved_s > _PATIENCE_S:
                raise ConfigurationError(
                    f"the rebuild of inbox.{agreement} is asked for, but nothing moves",
                    mend=f"look whether table-{department} runs: `civicbus status`; it goes on by itself",
                )
            time.sleep(_LOOK_EVERY_S)
