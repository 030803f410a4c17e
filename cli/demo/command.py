"""The `civicbus demo` command."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from civicbus.cli.context import Context
from civicbus.cli.demo.play import Play, city_sources, file_sources
from civicbus.schemas.agreement import load_agreements
from civicbus.schemas.catalogue_files import load_catalogue, shipped_agreements, shipped_catalogue

CITY_RATE = 100.0
NOT_EQUAL = 1


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("demo")(demo)


def demo(
    context: typer.Context,
    *,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="CSV files named DEPT.DATASET.csv, in place of the city."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long generated changes flow after the tables are loaded; Ctrl-C ends it.")
    ] = 120,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Generated changes a second; default: 100, and 0 with --data.")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A catalogue's folder; default: the shipped one.")
    ] = None,
    agreements: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of agreements; default: the shipped.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Start everything, move records between departments, and prove every subscriber's table.

    Exits with 0 only where every table equals its agreement's SELECT, run in DuckDB over the records.
    """
    here: Context = context.obj
    console = Console(stderr=as_json)
    entries = load_catalogue(catalogue or shipped_catalogue())
    with _stop_asked() as stop:
        play = Play(
            here=here,
            console=console,
            catalogue=entries,
            agreements=load_agreements(sorted((agreements or shipped_agreements()).rglob("*.yaml"))),
            seconds=seconds,
            rate=rate if rate is not None else (CITY_RATE if data is None else 0.0),
            stop=stop,
        )
        summary = play.run(city_sources(entries) if data is None else file_sources(data, entries, console))
    summary.show(console)
    if as_json:
        typer.echo(json.dumps(summary.document(), ensure_ascii=False, indent=2))
    if not summary.holds:
        raise typer.Exit(NOT_EQUAL)


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """The first Ctrl-C or SIGTERM ends the flow and goes on to the proof; the second ends at once."""
    stop = threading.Event()

    def asked(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt(signal.Signals(number).name)
        stop.set()

    former = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
