"""Commands: departments and credentials."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from civicbus.cli.context import Context
from civicbus.errors import ConfigurationError
from civicbus.infra.provision import DepartmentStatus, departments, entitle_department, provision_department
from civicbus.infra.rotation import rotate
from civicbus.names import department_id
from civicbus.schemas.datasets import Title
from civicbus.secrets import ADMISSION, BROKER, INGRESS, OPERATOR, VIEWS, Principal, SecretStore, principal_of

department = typer.Typer(no_args_is_help=True, help="Departments: their users, rights and databases.")
credentials = typer.Typer(no_args_is_help=True, help="The secrets of departments and of the platform.")

_PLATFORM = (OPERATOR, BROKER, ADMISSION, VIEWS, INGRESS)
_RESTARTS = {
    OPERATOR: "The supervisor holds the old one: restart the platform (`civicbus down`, then `civicbus up`).",
    BROKER: "The broker holds the old one: restart the platform now (`civicbus down`, then `civicbus up`).",
    ADMISSION: "Admission holds the old one: restart the platform (`civicbus down`, then `civicbus up`).",
    INGRESS: "The ingress reads the new one by itself.",
    VIEWS: "The views hold the old one: restart the platform (`civicbus down`, then `civicbus up`).",
}


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(department, name="department")
    app.add_typer(credentials, name="credentials")


@department.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEPT", help="[a-z][a-z0-9_]*, at most 60 characters.")],
    title_zh: Annotated[str, typer.Option(help="The department's name in Chinese.")] = "",
    title_en: Annotated[str, typer.Option(help="The department's name in English.")] = "",
) -> None:
    """Give a department a user, its rights and a database; run again, it mends what is missing."""
    here: Context = context.obj
    new, title = department_id(name), _title(title_zh, title_en)
    provision_department(here.endpoints, here.secrets, new)
    if title is not None:
        entitle_department(here.endpoints, here.secrets, new, title)
    typer.echo(
        f"{new}: user, rights and database are there; its secret is in {_place(here.secrets, principal_of(new))}"
    )


@department.command("list")
def list_departments(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every department and whether its secret, its user and its database are there."""
    here: Context = context.obj
    found = departments(here.endpoints, here.secrets)
    if as_json:
        typer.echo(json.dumps([asdict(status) for status in found], ensure_ascii=False, indent=2))
    else:
        Console().print(_table(found))


@credentials.command("rotate")
def rotate_credentials(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="A department, or one of platform-….")],
) -> None:
    """Replace a principal's secret; cut short, it is finished by running it again."""
    here: Context = context.obj
    principal = _principal(name)
    rotate(here.endpoints, here.secrets, principal)
    typer.echo(
        f"{principal} has a new secret, in {_place(here.secrets, principal)}; the old one is refused from now on."
    )
    typer.echo("Connections that are open last until the broker asks for proof again, within the hour.")
    typer.echo(_RESTARTS.get(principal, f"Restart what {principal} runs: its publishers, readers and table."))


def _principal(name: str) -> Principal:
    if name in _PLATFORM:
        return Principal(name)
    if name.startswith("platform-"):
        raise ConfigurationError(f"there is no principal {name}", mend=f"choose one of {', '.join(_PLATFORM)}")
    return principal_of(department_id(name))


def _title(zh: str, en: str) -> Title | None:
    if not zh and not en:
        return None
    return Title(zh=zh or en, en=en or zh)


def _place(secrets: SecretStore, principal: Principal) -> str:
    return str(secrets.location(principal))


def _table(found: list[DepartmentStatus]) -> Table:
    table = Table("department", "名称", "name", "secret", "user", "database")
    for status in found:
        title = ("", "") if status.title is None else (status.title.zh, status.title.en)
        states = (status.has_secret, status.on_broker, status.has_database)
        table.add_row(status.department, *title, *("yes" if there else "missing" for there in states))
    return table
