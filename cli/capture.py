"""Commands: tables of departments' own PostgreSQL whose changes are captured."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from civicbus.cli.activation import published
from civicbus.cli.applying import known_dataset
from civicbus.cli.connection_strings import connection_string
from civicbus.cli.context import Context
from civicbus.cli.display import cell
from civicbus.errors import AccessDenied, ConfigurationError, Unavailable
from civicbus.infra import connect
from civicbus.infra.desired import Role, add_processes, departments_with, remove_processes
from civicbus.infra.health import ask, living
from civicbus.infra.provision import provision_capture
from civicbus.names import DatasetId, capture_topic
from civicbus.postgres import Session
from civicbus.producers.capture import database, declared
from civicbus.producers.capture.declared import Database, Declared
from civicbus.producers.capture.journal import Journal, begin_journal, journal_path
from civicbus.producers.sources import Way, claim, claim_of, raise_epoch, release
from civicbus.secrets import OPERATOR, principal_of
from civicbus.transport.assigned import AssignedReader

app = typer.Typer(no_args_is_help=True, help="Captures: tables of a department's PostgreSQL, published as they change.")

_ENDS_WITHIN_S = 30.0
_LOOK_S = 0.2

Name = Annotated[str, typer.Argument(metavar="DEPT.DATASET", help="The dataset; its catalogue entry names the table.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a capture stands. ``behind_bytes``: what the database keeps of its log for it."""

    dataset: str
    table: str
    state: str
    epoch: int
    snapshot: int
    behind_bytes: int | None
    detail: str


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="capture")


@app.command("add")
def add(
    context: typer.Context,
    name: Name,
    database_from: Annotated[
        str,
        typer.Option(
            "--database",
            metavar="FILE|-",
            help="A file of mode 0600 with postgresql://user:password@host:port/database, or - for standard input.",
        ),
    ],
) -> None:
    """Capture the table of a dataset: all of its rows, then each change; run it again for a new password."""
    here: Context = context.obj
    dataset = known_dataset(published(here.endpoints, here.secrets).catalogue, DatasetId.parse(name))
    capture = declared.capture_of(dataset)
    place = Database.parse(here.home, dataset.id, connection_string(database_from))
    with place.connect() as session:
        database.require_ready(session, Declared(dataset=dataset, capture=capture, database=place))
    connect.fetch(here.settings.cache_folder)
    _take(here, dataset.id)
    declared.declare(here.home, dataset, place)
    add_processes(here.home, Role.CAPTURE, [dataset.id.department])
    typer.echo(f"{dataset.id}: {capture.table} is captured from now on; see `civicbus capture status {dataset.id}`")


@app.command("list")
def list_captures(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every capture of this home."""
    here: Context = context.obj
    departments = departments_with(here.home, Role.CAPTURE)
    datasets = [dataset for department in departments for dataset in declared.declared(here.home, department)]
    _show([_status(here, dataset) for dataset in datasets], as_json=as_json)


@app.command("status")
def status(context: typer.Context, name: Name, *, as_json: AsJson = False) -> None:
    """Show how one capture stands: waiting, snapshot or streaming, and what the database keeps of its log for it."""
    here: Context = context.obj
    _show([_status(here, DatasetId.parse(name))], as_json=as_json)


@app.command("remove")
def remove(context: typer.Context, name: Name) -> None:
    """End a capture: its slot and publication go from the database, its secret from here; what was published stays."""
    here: Context = context.obj
    dataset = DatasetId.parse(name)
    found = declared.load(here.home, dataset)
    declared.withdraw(here.home, dataset)
    left = "".join(f"\n  {line}" for line in _undone(found))
    release(here.endpoints, here.secrets.read(OPERATOR), dataset)
    if not declared.declared(here.home, dataset.department):
        remove_processes(here.home, Role.CAPTURE, [dataset.department])
    declared.forget(here.home, dataset)
    typer.echo(f"{dataset}: captured no more; {found.capture.table} itself was not touched")
    if left:
        raise ConfigurationError("some of it is left in the database", mend=f"have its administrator run:{left}")


def _take(here: Context, dataset: DatasetId) -> None:
    """Claim the dataset, with a journal; where that was lost, in a new epoch, since what it had sent is unknown."""
    operator = here.secrets.read(OPERATOR)
    held = claim_of(here.endpoints, operator, dataset)
    claim(here.endpoints, operator, dataset, Way.CAPTURE)
    provision_capture(here.endpoints, here.secrets, dataset)
    topic = capture_topic(dataset)
    credentials = here.secrets.read(principal_of(dataset.department))
    with AssignedReader(here.endpoints, credentials, group=f"{dataset.department}.capture") as reader:
        topic_id = str(reader.describe([topic])[topic].id)
    new = begin_journal(journal_path(here.home, dataset), topic_id)
    if new and held is not None and held.way is Way.CAPTURE:
        raise_epoch(here.endpoints, operator, dataset)


def _undone(found: Declared) -> Iterator[str]:
    """Take slot and publication away; what is not ours to take is told as SQL."""
    name = database.slot_name(found.dataset.id)
    try:
        with found.database.connect() as session:
            _end_slot(session, found.dataset.id)
            database.drop_publication(session, found.dataset.id)
    except (AccessDenied, Unavailable, ConfigurationError):
        yield f"SELECT pg_drop_replication_slot('{name}') FROM pg_replication_slots WHERE slot_name = '{name}';"
        yield f"DROP PUBLICATION IF EXISTS {name};"


def _end_slot(session: Session, dataset: DatasetId) -> None:
    """Wait until the connector has let the slot go, then drop it."""
    deadline_s = time.monotonic() + _ENDS_WITHIN_S
    while (held := database.slot(session, dataset)) is not None and held.active and time.monotonic() < deadline_s:
        time.sleep(_LOOK_S)
    database.release_slot(session, dataset)
    database.drop_slot(session, dataset)


def _status(here: Context, dataset: DatasetId) -> Status:
    found = declared.load(here.home, dataset)
    with Journal(journal_path(here.home, dataset)) as journal:
        standing = journal.standing
    epoch, snapshot = divmod(standing.generation, 256)
    held, detail = None, _detail(here.home, dataset)
    try:
        with found.database.connect() as session:
            held = database.slot(session, dataset)
    except (AccessDenied, Unavailable) as fault:
        detail = str(fault)
    active = held is not None and held.active
    return Status(
        dataset=str(dataset),
        table=found.capture.table,
        state=("streaming" if standing.complete else "snapshot") if active else "waiting",
        epoch=epoch,
        snapshot=snapshot,
        behind_bytes=None if held is None else held.lag_bytes,
        detail=detail,
    )


def _detail(home: Path, dataset: DatasetId) -> str:
    """What the department's capture process says."""
    name = f"{Role.CAPTURE}-{dataset.department}"
    told = [ask(process).detail for process in living(home) if process.process == name]
    return told[0] if told else "its process does not run; start the platform with `civicbus up`"


def _show(found: list[Status], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2))
        return
    shown = Table("dataset", "table", "state", "epoch", "snapshot", "behind, bytes", "detail")
    for one in found:
        shown.add_row(*(cell(value) for value in asdict(one).values()))
    Console().print(shown)
