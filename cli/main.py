"""The `civicbus` command: one group of commands a module, faults printed in one place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from civicbus import __version__
from civicbus.cli import (
    agreements,
    capture,
    catalogue,
    demo,
    departments,
    folders,
    inbox,
    ingress,
    outbox,
    platform,
    publish,
    quarantine,
    sandbox,
    schemas,
    sources,
    tables,
)
from civicbus.cli.context import Context
from civicbus.errors import CivicbusError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
platform.register(app)
demo.register(app)
publish.register(app)
tables.register(app)
departments.register(app)
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(schemas.app, name="schemas")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(agreements.app, name="agreements")
app.add_typer(folders.app, name="folder")
app.add_typer(inbox.app, name="inbox")
app.add_typer(ingress.app, name="ingress")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(sources.app, name="source")
app.add_typer(outbox.app, name="outbox")
app.add_typer(capture.app, name="capture")


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
