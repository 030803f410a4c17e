"""Commands: by which way each dataset is published."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from civicbus.cli.applying import known_dataset, published_catalogue
from civicbus.cli.context import Context
from civicbus.names import DatasetId
from civicbus.producers.sources import claims, raise_epoch, release
from civicbus.secrets import OPERATOR

app = typer.Typer(no_args_is_help=True, help="Sources: by which way each dataset is published, one at a time.")

Name = Annotated[str, typer.Argument(metavar="DEPT.DATASET", help="The dataset.")]


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="source")


@app.command("list")
def list_sources(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the datasets that a way has claimed, and the epoch of their sequences."""
    here: Context = context.obj
    found = sorted(claims(here.endpoints, here.secrets.read(OPERATOR)).items())
    if as_json:
        rows = [{"dataset": str(dataset), "way": held.way, "epoch": held.epoch} for dataset, held in found]
        typer.echo(json.dumps(rows, indent=2))
        return
    shown = Table("dataset", "way", "epoch")
    for dataset, held in found:
        shown.add_row(str(dataset), held.way, str(held.epoch))
    Console().print(shown)


@app.command("epoch")
def raise_source_epoch(context: typer.Context, name: Name) -> None:
    """Put all later changes above all earlier ones; needed once after a department's database was restored."""
    here: Context = context.obj
    held = raise_epoch(here.endpoints, here.secrets.read(OPERATOR), DatasetId.parse(name))
    typer.echo(f"{name}: changes of its {held.way} are in epoch {held.epoch} from now on")


@app.command("release")
def release_source(context: typer.Context, name: Name) -> None:
    """End the claim of an outbox or a capture, so that the dataset may be published by another way."""
    here: Context = context.obj
    held = release(here.endpoints, here.secrets.read(OPERATOR), DatasetId.parse(name))
    if held is None:
        known_dataset(published_catalogue(here.endpoints, here.secrets), DatasetId.parse(name))
    epoch = 0 if held is None else held.epoch
    typer.echo(f"{name}: no log holds it (epoch {epoch}); start its next way with that way's own command")
