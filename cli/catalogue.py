"""Commands: the catalogue of shared datasets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Column, Table

from civicbus.cli.applying import apply_catalogue, published_catalogue
from civicbus.cli.context import Context
from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId
from civicbus.schemas.catalogue_changes import Changes
from civicbus.schemas.catalogue_files import DEPARTMENT_FILE, load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Catalogue
from civicbus.schemas.directory import directory_entry
from civicbus.schemas.infer import Draft, draft

app = typer.Typer(no_args_is_help=True, help="The catalogue: departments, datasets, their rules and schemas.")

Folder = Annotated[Path | None, typer.Argument(help="A catalogue's folder; default: the one that comes with civicbus.")]


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="catalogue")


@app.command()
def check(folder: Folder = None) -> None:
    """Check entries and schemas; every finding has its file, its line and its mend."""
    catalogue = load_catalogue(folder or shipped_catalogue())
    typer.echo(f"{len(catalogue.datasets)} datasets of {len(catalogue.departments)} departments pass their check")


@app.command("apply")
def apply_folder(context: typer.Context, folder: Folder = None) -> None:
    """Check a catalogue, make its topics, register its schemas and publish its entries; says what changed."""
    here: Context = context.obj
    found = apply_catalogue(here.endpoints, here.secrets, load_catalogue(folder or shipped_catalogue()))
    for line in _told(found):
        typer.echo(line)


@app.command("list")
def list_datasets(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="A folder; default: what the platform runs on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print whole entries, and the directory's fields.")] = False,
) -> None:
    """Show the datasets, their owners and their terms of sharing."""
    here: Context = context.obj
    catalogue = published_catalogue(here.endpoints, here.secrets) if folder is None else load_catalogue(folder)
    if as_json:
        typer.echo(json.dumps(list(_entries(catalogue)), ensure_ascii=False, indent=2))
    else:
        Console().print(_table(catalogue))


@app.command()
def infer(
    file: Annotated[Path, typer.Argument(help="A CSV file in UTF-8 with a heading row.")],
    department: Annotated[str, typer.Option(help="The owner; default: from the name <department>.<dataset>.csv.")] = "",
    dataset: Annotated[str, typer.Option(help="The dataset's name; default: from the file's name.")] = "",
    key: Annotated[list[str] | None, typer.Option(help="A column of the key; again for each further one.")] = None,
    into: Annotated[Path | None, typer.Option(help="Write the files into this catalogue's folder.")] = None,
) -> None:
    """Draft an entry and its schema from a CSV file; says on standard error what was assumed."""
    frame, uneven = _read(file)
    drafted = draft(frame, _dataset_id(file, department, dataset), key or ())
    if into is None:
        typer.echo(f"# {drafted.dataset.department}/{drafted.dataset.name}.yaml\n{drafted.entry}")
        typer.echo(f"# {drafted.dataset.department}/{drafted.dataset.name}.avsc\n{drafted.schema}")
    else:
        for path in _write(drafted, into):
            typer.echo(f"wrote {path}")
    for assumption in drafted.assumptions:
        typer.echo(f"assumed: {assumption}", err=True)
    if uneven:
        typer.echo(f"rows left out, having more or fewer cells than headings: {uneven:,}", err=True)


def _told(found: Changes) -> Iterator[str]:
    yield from (f"department {name}: published" for name in found.departments)
    yield from (f"{name}: new" for name in found.new)
    yield from (f"{name}: changed {', '.join(parts)}" for name, parts in found.changed)
    yield from (f"{name}: published, and not in this catalogue; left as it is" for name in found.absent)
    yield f"{len(found.unchanged)} datasets unchanged"


def _entries(catalogue: Catalogue) -> Iterator[dict[str, object]]:
    for dataset in catalogue.datasets.values():
        department = catalogue.departments[dataset.id.department]
        yield json.loads(dataset.to_json()) | {"directory": directory_entry(department, dataset)}


def _table(catalogue: Catalogue) -> Table:
    headings = (
        Column("dataset\n  its key", no_wrap=True),
        "信息资源\nname",
        Column("sharing\nupdate cycle", no_wrap=True),
    )
    table = Table(*headings, box=None, pad_edge=False)
    for dataset in catalogue.datasets.values():
        key, title = ", ".join(dataset.key), dataset.title
        table.add_row(f"{dataset.id}\n  {key}", f"{title.zh}\n{title.en}", f"{dataset.sharing}\n{dataset.update_cycle}")
    return table


def _dataset_id(file: Path, department: str, dataset: str) -> DatasetId:
    named_department, _, named_dataset = file.name.removesuffix(".csv").partition(".")
    owner, name = department or named_department, dataset or named_dataset
    if not owner or not name:
        raise ConfigurationError(
            f"{file.name} does not say whose dataset it is", mend="give --department and --dataset"
        )
    return DatasetId.parse(f"{owner}.{name}")


def _read(file: Path) -> tuple[pl.DataFrame, int]:
    """The file as texts, read as the table source reads it, and how many rows have another number of cells."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines, strict=True)
            headings = [heading.strip() for heading in next(rows, [])]
            _refuse_repeated(headings)
            body = [row for row in rows if row]
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        what = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"is no CSV: {error}"
        raise ConfigurationError(f"{file} {what}", mend="save it as CSV in UTF-8") from None
    even = [row for row in body if len(row) == len(headings)]
    columns = dict(zip(headings, zip(*even, strict=True), strict=True)) if even else dict.fromkeys(headings, ())
    frame = pl.DataFrame({heading: pl.Series(column, dtype=pl.String) for heading, column in columns.items()})
    return frame, len(body) - len(even)


def _refuse_repeated(headings: Iterable[str]) -> None:
    seen: set[str] = set()
    for heading in headings:
        if heading in seen:
            raise ConfigurationError(f"two columns have the heading {heading!r}", mend="rename one of them")
        seen.add(heading)


def _write(drafted: Draft, into: Path) -> Iterator[Path]:
    """Write the draft's files; raises ConfigurationError where one is there already."""
    folder = into / drafted.dataset.department
    files = {
        folder / f"{drafted.dataset.name}.yaml": drafted.entry,
        folder / f"{drafted.dataset.name}.avsc": drafted.schema,
    }
    for path in files:
        if path.exists():
            raise ConfigurationError(f"{path} is there already", mend="remove it first, or choose another --dataset")
    if not (folder / DEPARTMENT_FILE).exists():
        files[folder / DEPARTMENT_FILE] = drafted.department
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        yield path
