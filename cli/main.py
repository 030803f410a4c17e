"""The `civicbus` command: one group of commands a module, faults printed in one place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from civicbus import __version__
from civicbus.cli.context import Context
from civicbus.errors import CivicbusError

# The module of each command, in the order of the help. It is imported when its command is named: all of them together
# take a second and a half.
MODULES = {
    "up": "platform",
    "status": "platform",
    "down": "platform",
    "doctor": "platform",
    "demo": "demo",
    "department": "departments",
    "credentials": "departments",
    "catalogue": "catalogue",
    "schemas": "schemas",
    "sandbox": "sandbox",
    "publish": "publish",
    "folder": "folders",
    "outbox": "outbox",
    "capture": "capture",
    "ingress": "ingress",
    "source": "sources",
    "agreements": "agreements",
    "inbox": "inbox",
    "sql": "tables",
    "table": "tables",
    "quarantine": "quarantine",
}


class Commands(TyperGroup):
    """The commands of :data:`MODULES`."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's name for its own
        del ctx
        return list(MODULES)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override]
        del ctx
        found = _commands_of(MODULES[cmd_name]).get(cmd_name) if cmd_name in MODULES else None
        return found if isinstance(found, TyperCommand | TyperGroup) else None


@cache
def _commands_of(module: str) -> Mapping[str, object]:
    commands = typer.Typer()
    import_module(f"civicbus.cli.{module}").register(commands)
    return typer.main.get_group(commands).commands


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"civicbus {__version__}")
        raise typer.Exit


@app.callback()
def civicbus(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="The folder of state, secrets and logs; default: CIVICBUS_HOME or .civicbus.")
    ] = None,
    version: Annotated[  # noqa: ARG001 - typer calls _print_version for it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Publish each change once; keep every entitled department in step."""
    context.obj = Context.from_environment(home)


def main() -> None:
    """Run the command; a civicbus fault is one message on standard error and exit status 1."""
    try:
        app()
    except CivicbusError as fault:
        typer.secho(f"civicbus: {fault}", fg="red", err=True)
        sys.exit(1)
