"""Commands: the ingress, which takes changes over HTTP."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from civicbus.cli.context import Context
from civicbus.errors import Unavailable
from civicbus.infra.desired import set_ingress
from civicbus.infra.health import is_healthy
from civicbus.names import department_id
from civicbus.producers.http.keys import KeyFile
from civicbus.producers.http.listening import ingress_folder, known_url
from civicbus.secrets import principal_of

app = typer.Typer(no_args_is_help=True, help="The ingress: changes over HTTP.")

_READY_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.2


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="ingress")


@app.command("key")
def key(
    context: typer.Context,
    department: Annotated[str, typer.Argument(metavar="DEPT", help="Whose datasets the key may publish.")],
    *,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the department's key no longer.")] = False,
) -> None:
    """Make a department's API key and print it, this once; an earlier key of the department is no longer taken."""
    here: Context = context.obj
    holder, keys = department_id(department), KeyFile(ingress_folder(here.home))
    if revoke:
        had = keys.revoke(holder)
        set_ingress(here.home, wanted=bool(keys.departments()))
        typer.echo(f"{holder}: {'its key is no longer taken' if had else 'it had no key'}")
        return
    here.secrets.read(principal_of(holder))
    typer.echo(keys.make(holder))
    set_ingress(here.home, wanted=True)


@app.command("url")
def url(context: typer.Context) -> None:
    """Print where the ingress listens, once it is ready."""
    here: Context = context.obj
    deadline = time.monotonic() + _READY_WITHIN_S
    while not is_healthy(here.home, "ingress"):
        if time.monotonic() > deadline:
            raise Unavailable(
                "the ingress is not ready", mend="make a key (`civicbus ingress key DEPT`) and see `civicbus status`"
            )
        time.sleep(_LOOK_EVERY_S)
    typer.echo(known_url(here.home))
