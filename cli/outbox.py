"""Commands: an outbox in a department's PostgreSQL, and the relay that publishes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from civicbus.cli.applying import known_dataset, published_catalogue
from civicbus.cli.connection_strings import connection_string
from civicbus.cli.context import Context
from civicbus.cli.display import cell
from civicbus.errors import CivicbusError, ConfigurationError
from civicbus.infra.desired import Role, add_processes, departments_with, remove_processes
from civicbus.names import CATALOGUE_TOPIC, DatasetId, DepartmentId, department_id
from civicbus.postgres import connect_to
from civicbus.producers.outbox.database import Waiting, open_outbox, place_of
from civicbus.producers.outbox.script import refuse_unfit, script
from civicbus.producers.sources import Way, claim, claims, datasets_of, release
from civicbus.schemas.published import catalogue_of
from civicbus.secrets import OPERATOR, Credentials, principal_of
from civicbus.transport.compacted import read_all

app = typer.Typer(no_args_is_help=True, help="Outboxes: tables of a department's PostgreSQL, published by triggers.")


DepartmentName = Annotated[str, typer.Argument(metavar="DEPT", help="The department whose database it is.")]


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="outbox")


@app.command("sql")
def print_sql(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEPT.DATASET", help="The dataset that the table fills.")],
    *,
    table: Annotated[str, typer.Option(help="The table, with its schema where it is not in the search path.")],
) -> None:
    """Print the SQL that makes a table a dataset's source; run it in the department's database, again if you like."""
    here: Context = context.obj
    wanted = DatasetId.parse(name)
    own = here.secrets.read(principal_of(wanted.department))
    catalogue = catalogue_of(read_all(here.endpoints, own, CATALOGUE_TOPIC, f"{wanted.department}.outbox"))
    typer.echo(script(known_dataset(catalogue, wanted), table), nl=False)


@app.command("add")
def add(
    context: typer.Context,
    department: DepartmentName,
    *,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file of mode 0600 with the database's connection string, or - for standard input; default: the"
            " department's own database on this platform.",
        ),
    ] = None,
) -> None:
    """Have a relay publish a department's outbox; run it again after SQL for another dataset."""
    here: Context = context.obj
    owner = department_id(department)
    if database is not None:
        place = connection_string(database)
        connect_to(place).close()
        here.secrets.write(Credentials(place_of(owner), place))
    with open_outbox(here.home, owner) as outbox:
        outbox.origin()
        datasets = outbox.datasets()
    if not datasets:
        raise ConfigurationError(
            f"no table of the database fills a dataset of {owner}",
            mend="run what `civicbus outbox sql DEPT.DATASET --table TABLE` prints there",
        )
    operator = here.secrets.read(OPERATOR)
    catalogue = published_catalogue(here.endpoints, here.secrets)
    for dataset in datasets:
        refuse_unfit(known_dataset(catalogue, dataset))
    for dataset in datasets:
        held = claim(here.endpoints, operator, dataset, Way.OUTBOX)
        typer.echo(f"{dataset}: published by its outbox, epoch {held.epoch}")
    add_processes(here.home, Role.OUTBOX, [owner])


@app.command("remove")
def remove(context: typer.Context, department: DepartmentName) -> None:
    """End a department's relay, forget its connection string, and let its datasets be published another way."""
    here: Context = context.obj
    owner = department_id(department)
    endpoints, operator = here.endpoints, here.secrets.read(OPERATOR)
    remove_processes(here.home, Role.OUTBOX, [owner])
    here.secrets.location(place_of(owner)).unlink(missing_ok=True)
    for dataset in datasets_of(claims(endpoints, operator), owner, Way.OUTBOX):
        release(endpoints, operator, dataset)
        typer.echo(f"{dataset}: released")
    typer.echo("The triggers still write to the outbox. To end that too, run in the database:")
    functions = ", ".join(f"public.civicbus_outbox_{name}" for name in ("take", "truncate", "fill", "follow", "row"))
    typer.echo(f"DROP FUNCTION {functions} CASCADE;")
    typer.echo(
        "DROP TABLE public.civicbus_outbox, public.civicbus_outbox_tables, public.civicbus_outbox_positions CASCADE;"
    )


@app.command("status")
def status(
    context: typer.Context,
    department: Annotated[str | None, typer.Argument(metavar="[DEPT]", help="One department; default: all.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what each outbox publishes, how many rows wait there, and since when."""
    here: Context = context.obj
    held = claims(here.endpoints, here.secrets.read(OPERATOR))
    published = sorted(departments_with(here.home, Role.OUTBOX))
    if department is not None and department not in published:
        mend = f"write one of {', '.join(published)}" if published else "add one with `civicbus outbox add`"
        raise ConfigurationError(f"{department} has no outbox here", mend=mend)
    found = [
        state
        for owner in published
        if department in {None, owner}
        for state in _states(here, owner, datasets_of(held, owner, Way.OUTBOX))
    ]
    if as_json:
        typer.echo(json.dumps([asdict(state) for state in found], ensure_ascii=False, indent=2))
        return
    shown = Table("dataset", "epoch", "rows waiting", "oldest", "problem")
    for state in found:
        shown.add_row(*map(cell, (state.dataset, state.epoch, state.rows_waiting, state.oldest_s or "", state.problem)))
    Console().print(shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """How the outbox of a dataset stands; with a problem, nothing else is known."""

    dataset: str
    epoch: int | None = None
    rows_waiting: int | None = None
    oldest_s: float | None = None
    problem: str = ""


def _states(here: Context, department: DepartmentId, epochs: Mapping[DatasetId, int]) -> list[_State]:
    """The datasets that the outbox holds, and those that only have rows in it."""
    try:
        with open_outbox(here.home, department) as outbox:
            waiting = {one.dataset: one for one in outbox.waiting()}
    except CivicbusError as fault:
        return [_State(dataset=f"{department}.*", problem=str(fault))]
    return [_state(name, waiting.get(name), epochs) for name in sorted(waiting.keys() | set(map(str, epochs)))]


def _state(name: str, waiting: Waiting | None, epochs: Mapping[DatasetId, int]) -> _State:
    epoch = epochs.get(DatasetId.parse(name))
    return _State(
        dataset=name,
        epoch=epoch,
        rows_waiting=0 if waiting is None else waiting.rows,
        oldest_s=None if waiting is None else round(waiting.oldest_s, 1),
        problem="" if epoch is not None else f"nobody publishes it: run `civicbus outbox add {name.partition('.')[0]}`",
    )
