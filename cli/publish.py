"""Commands: publishing a department's records."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from civicbus.cli.context import Context
from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId
from civicbus.producers import table_source
from civicbus.producers.journal import Journal, journal_path
from civicbus.producers.publisher import Publisher
from civicbus.producers.table_source import Outcome, RefusedRow, TableSource
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Dataset

INTERRUPTED = 130
_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("publish")(publish)


def publish(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEPT.DATASET", help="The dataset that the file holds.")],
    file: Annotated[Path, typer.Argument(help="A CSV file in UTF-8 with a header row.")],
    *,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="The file holds only some records: delete none that it lacks.")
    ] = False,
    catalogue: Annotated[Path | None, typer.Option(help="The catalogue's folder; default: the shipped one.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="What was published before; default: <home>/sources/DEPT.DATASET.sqlite.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Publish what changed in a CSV file since it was last published; safe to stop and to run again."""
    here: Context = context.obj
    dataset = dataset_named(name, catalogue)
    place = journal or journal_path(here.home, dataset.id)
    with (
        Journal(place, dataset.id) as opened,
        _progress(shown=not as_json) as progress,
        _stopping() as stop,
        Publisher.at(here.home, dataset) as publisher,
    ):
        source = TableSource(dataset, publisher.schema_id, opened, publisher, progress=progress, stop=stop)
        outcome = source.publish_csv(file, full=not incremental)
    typer.echo(_document(dataset, outcome) if as_json else "\n".join(_report(dataset, outcome)))
    if outcome.waiting:
        raise typer.Exit(INTERRUPTED)


def dataset_named(name: str, catalogue: Path | None) -> Dataset:
    """A dataset of the catalogue in a folder, or of the shipped one; raises ConfigurationError naming the others."""
    datasets = load_catalogue(catalogue or shipped_catalogue()).datasets
    try:
        return datasets[DatasetId.parse(name)]
    except KeyError:
        known = ", ".join(sorted(map(str, datasets)))
        raise ConfigurationError(f"the catalogue has no dataset {name}", mend=f"choose one of {known}") from None


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[table_source.Progress], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("publishing", total=None)
        yield lambda progress: bar.update(task, completed=progress.acknowledged, total=progress.changes)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks the run to end where the journal is true; the next one ends it at once."""
    asked = Event()

    def ask(number: int, _: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])
        typer.echo("stopping: waiting for what is on its way …", err=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _document(dataset: Dataset, outcome: Outcome) -> str:
    document = {
        "dataset": str(dataset.id),
        "rows": outcome.rows,
        "upserts": outcome.upserts,
        "deletions": outcome.deletions,
        "deletions_withheld": outcome.withheld,
        "unchanged": outcome.unchanged,
        "refused": {reason.value: count for reason, count in outcome.refused.items()},
        "refused_rows": [{"row": one.row, "reason": one.reason, "field": one.field} for one in outcome.refused_rows],
        "repeated_keys": len(outcome.repeated),
        "repeated_rows": outcome.repeated,
        "unknown_columns": outcome.unknown_columns,
        "resent": outcome.resent,
        "waiting": outcome.waiting,
        "anew": outcome.anew,
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _report(dataset: Dataset, outcome: Outcome) -> Iterator[str]:
    if outcome.anew:
        yield "the topic is not the one that was published to before: every row was sent to it"
    if outcome.resent:
        yield f"sent again what an earlier run had left: {outcome.resent} changes"
    yield (
        f"{dataset.id}: {outcome.rows} rows: {outcome.upserts} new or changed, {outcome.deletions} deleted,"
        f" {outcome.unchanged} unchanged, {len(outcome.refused_rows)} refused"
    )
    yield from _some("refused", [_refused(one) for one in outcome.refused_rows])
    if outcome.withheld:
        yield (
            f"{outcome.withheld} records that the file lacks were not deleted: of {outcome.untold} refused rows nobody"
            " can tell which records they are; correct them and publish the file again"
        )
    repeated = [f"rows {', '.join(map(str, rows))}" for rows in outcome.repeated]
    if repeated:
        yield f"{len(repeated)} records stand in the file more than once; the last row of each was used:"
    yield from _some("repeated", repeated)
    if outcome.unknown_columns:
        yield f"columns that the catalogue does not have, not published: {', '.join(outcome.unknown_columns)}"
    if outcome.waiting:
        yield f"stopped: {outcome.waiting} changes wait; run the same command again and it goes on"


def _refused(row: RefusedRow) -> str:
    return f"row {row.row}: {row.reason.value}{f' ({row.field})' if row.field else ''}"


def _some(word: str, lines: list[str]) -> Iterator[str]:
    yield from (f"  {word} {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} more (all of them with --json)"
