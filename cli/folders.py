"""Commands: the folders into which departments drop Excel and CSV files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from civicbus.cli.context import Context
from civicbus.cli.display import cell
from civicbus.errors import ConfigurationError, Unavailable
from civicbus.infra.desired import Role, add_processes, departments_with, remove_processes
from civicbus.infra.health import ask, living
from civicbus.names import DepartmentId, department_id
from civicbus.producers.folder.desk import Desk, End
from civicbus.producers.folder.place import Language, Place, read_place, remove_place, write_place
from civicbus.secrets import principal_of

app = typer.Typer(no_args_is_help=True, help="Drop folders: Excel and CSV files become a department's changes.")

Department = Annotated[str, typer.Argument(metavar="DEPT", help="The department whose folder it is.")]


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="folder")


@app.command("add")
def add(
    context: typer.Context,
    department: Department,
    *,
    folder: Annotated[Path, typer.Option(help="The folder to watch; it is made where it is not there.")],
    language: Annotated[Language, typer.Option(help="The language of the result files.")] = Language.ZH,
    catalogue: Annotated[Path | None, typer.Option(help="The catalogue's folder; default: the shipped one.")] = None,
) -> None:
    """Have a folder watched for a department, by a process of its own; run again, it changes the folder."""
    here: Context = context.obj
    name = department_id(department)
    here.secrets.read(principal_of(name))
    place = Place(folder=folder.resolve(), language=language, catalogue=catalogue and catalogue.resolve())
    datasets = sorted(str(one.id) for one in place.load_catalogue().datasets.values() if one.id.department == name)
    if not datasets:
        raise ConfigurationError(f"the catalogue has no dataset of {name}", mend="name its catalogue with --catalogue")
    place.folder.mkdir(parents=True, exist_ok=True)
    Desk(place.folder).prepare()
    write_place(here.home, name, place)
    add_processes(here.home, Role.FOLDER, [name])
    typer.echo(f"{place.folder} is watched for {name}: {', '.join(datasets)}")


@app.command("remove")
def remove(context: typer.Context, department: Department) -> None:
    """Have a department's folder watched no longer; the files in it stay."""
    here: Context = context.obj
    name = department_id(department)
    place = read_place(here.home, name)
    remove_processes(here.home, Role.FOLDER, [name])
    remove_place(here.home, name)
    typer.echo(f"{place.folder} is watched no longer")


@app.command("status")
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every watched folder: its process, what waits in it, and how many files were done or refused."""
    here: Context = context.obj
    rows = list(_statuses(here.home))
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    shown = Table("department", "folder", "process", "dropped", "working", "done", "refused")
    for row in rows:
        shown.add_row(*(cell(value) for value in row.values()))
    Console().print(shown)


def _statuses(home: Path) -> Iterator[dict[str, object]]:
    for department in departments_with(home, Role.FOLDER):
        place = read_place(home, department)
        process = {"department": department, "folder": str(place.folder), "process": _process(home, department)}
        yield process | _counts(Desk(place.folder))


def _process(home: Path, department: DepartmentId) -> str:
    """What the folder's process says of itself."""
    answers = [ask(one) for one in living(home) if one.process == f"folder-{department}"]
    return answers[0].detail if answers else "not running"


def _counts(desk: Desk) -> dict[str, object]:
    """How many files lie where; nothing where the folder is away."""
    try:
        return {
            "dropped": len(desk.dropped()),
            "working": len(desk.jobs()),
            "done": desk.count(End.DONE),
            "refused": desk.count(End.REFUSED),
        }
    except Unavailable:
        return dict.fromkeys(("dropped", "working", "done", "refused"))
