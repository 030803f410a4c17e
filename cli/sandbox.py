"""Commands: trying a connection before there are real records."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from typer.core import TyperGroup

from civicbus.cli.context import Context
from civicbus.cli.publish import dataset_named
from civicbus.cli.schemas import datasets_of
from civicbus.errors import CivicbusError, ConfigurationError
from civicbus.events import ChangeEvent, upserted
from civicbus.infra.provision import provision_department
from civicbus.names import DepartmentId, department_id, source_of
from civicbus.producers.changes import event_ids
from civicbus.producers.difference import KEY
from civicbus.producers.json_lines import read_json_lines
from civicbus.producers.judging import judge
from civicbus.producers.table import ROW, Table, read_csv
from civicbus.reasons import MEANINGS, MENDS, Reason
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import header
from civicbus.schemas.datasets import Dataset, Quality, SequenceRule
from civicbus.schemas.generated import generated_rows
from civicbus.secrets import principal_of
from civicbus.stream_apps.admission.trial import Trial, Tried


class _MakeByDefault(TyperGroup):
    """A department in a command's place has its sandbox made."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_MakeByDefault,
    no_args_is_help=True,
    help="Try a connection: generated records, and what admission would say. `civicbus sandbox DEPT` makes them.",
)

_SHOWN = 10
_JSON_LINES = {".jsonl", ".ndjson"}

Catalogue = Annotated[Path | None, typer.Option(help="The catalogue's folder; default: the shipped one.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A row that would not be admitted: where it stands, why, the catalogue's rule, and its mend."""

    row: int
    reason: Reason
    field: str | None
    meaning: str
    rule: str
    mend: str


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="sandbox")


@app.command()
def make(
    context: typer.Context,
    department: Annotated[str, typer.Argument(metavar="DEPT", help="The department that is to publish.")],
    *,
    into: Annotated[Path, typer.Option(help="The folder for the records.")] = Path("sandbox"),
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="How many records of each dataset.")] = 20,
    catalogue: Catalogue = None,
) -> None:
    """Give a department its credentials if it has none, and write generated records that keep the catalogue's rules."""
    here: Context = context.obj
    owner = department_id(department)
    datasets = datasets_of(owner, catalogue)
    typer.echo(_credentials(here, owner))
    into.mkdir(parents=True, exist_ok=True)
    option = f" --catalogue {catalogue}" if catalogue else ""
    for dataset in datasets:
        path = into / f"generated.{dataset.id}.csv"
        try:
            count = _write(path, dataset, generated_rows(dataset, rows))
        except ConfigurationError as fault:
            typer.echo(str(fault), err=True)
            continue
        typer.echo(f"{path}: {count} generated records")
        typer.echo(f"  try them:     civicbus sandbox check {dataset.id} {path}{option}")
        typer.echo(f"  publish them: civicbus publish {dataset.id} {path}{option}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="DEPT.DATASET", help="The dataset that the file holds.")],
    file: Annotated[Path, typer.Argument(help="A CSV file with a header row, or JSON lines (.jsonl), in UTF-8.")],
    *,
    catalogue: Catalogue = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which rows of a file admission would refuse, and what mends them; sends nothing. Exits with 1 on any."""
    dataset = dataset_named(name, catalogue)
    table = read_json_lines(file, dataset) if file.suffix in _JSON_LINES else read_csv(file, dataset)
    refusals = refusals_of(table, dataset)
    count = table.frame.height + len(table.misread)
    if as_json:
        document = {
            "dataset": str(dataset.id),
            "rows": count,
            "admitted": count - len(refusals),
            "refused": [asdict(one) for one in refusals],
            "unknown_columns": table.unknown,
        }
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(_report(dataset, count, refusals, table.unknown)))
    if refusals:
        raise typer.Exit(1)


def refusals_of(table: Table, dataset: Dataset) -> list[Refusal]:
    """The rows that a producer could not send, and those that admission would refuse, in order."""
    judged = judge(table, dataset)
    unsendable = [_refusal(dataset, one.row, one.refusal.reason, one.refusal.field) for one in judged.unsendable]
    trial = Trial([dataset], lambda: datetime.now(UTC))
    numbers = judged.sendable[ROW].to_list()
    parked = trial.decide(dataset.id, list(_tried(judged.sendable, dataset, trial.schema_id(dataset.id)))).parked
    refused = [_refusal(dataset, numbers[one.offset], one.reason, one.field) for one in parked]
    return sorted(unsendable + refused, key=lambda one: one.row)


def _tried(rows: pl.DataFrame, dataset: Dataset, schema_id: int) -> Iterator[Tried]:
    """The rows as the changes that they would be."""
    columns = rows.select(dataset.schema.field_names).to_arrow().cast(arrow_schema(dataset.schema))
    codec, ids, now = ColumnCodec(dataset.schema), event_ids(), datetime.now(UTC)
    bodies = [body for batch in columns.to_batches() for body in codec.encode(batch)]
    sequenced = dataset.sequence is SequenceRule.REQUIRED
    for number, (key, body) in enumerate(zip(rows[KEY].to_list(), bodies, strict=True)):
        event = ChangeEvent(
            id=next(ids),
            source=source_of(dataset.id.department),
            type=upserted(dataset.id),
            time=now,
            sequence=number if sequenced else None,
        )
        yield Tried(key=key, value=header(schema_id) + body, headers=event.headers())


def _refusal(dataset: Dataset, row: int, reason: Reason, field: str | None) -> Refusal:
    quality = next((one.quality for one in dataset.fields if one.name == field), Quality())
    return Refusal(
        row=row, reason=reason, field=field, meaning=MEANINGS[reason], rule=_rule(reason, quality), mend=MENDS[reason]
    )


def _rule(reason: Reason, quality: Quality) -> str:
    """What the catalogue says of the field, where that is why."""
    match reason:
        case Reason.QUALITY_PATTERN:
            return f"pattern {quality.pattern}"
        case Reason.QUALITY_ALLOWED:
            return f"allowed {', '.join(quality.allowed or ())}"
        case Reason.QUALITY_RANGE:
            return f"minimum {_or_none(quality.minimum)}, maximum {_or_none(quality.maximum)}"
        case Reason.QUALITY_LENGTH:
            return f"min_length {_or_none(quality.min_length)}, max_length {_or_none(quality.max_length)}"
        case _:
            return ""


def _or_none(bound: float | None) -> str:
    return "none" if bound is None else f"{bound:g}"


def _report(dataset: Dataset, count: int, refusals: Sequence[Refusal], unknown: Sequence[str]) -> Iterator[str]:
    yield f"{dataset.id}: {count} rows: {count - len(refusals)} would be admitted, {len(refusals)} refused"
    for one in refusals[:_SHOWN]:
        yield f"row {one.row}: {one.reason.value}{f' ({one.field})' if one.field else ''}: {one.meaning}"
        if one.rule:
            yield f"  the catalogue says: {one.rule}"
        yield f"  {one.mend}"
    if len(refusals) > _SHOWN:
        yield f"and {len(refusals) - _SHOWN} more (all of them with --json)"
    if unknown:
        yield f"columns that the catalogue does not have, not published: {', '.join(unknown)}"


def _credentials(here: Context, owner: DepartmentId) -> str:
    place = here.secrets.location(principal_of(owner))
    if place.exists():
        return f"{owner}: its secret is in {place}"
    try:
        provision_department(here.endpoints, here.secrets, owner)
    except CivicbusError as fault:
        return f"{owner}: no credentials were made: {fault}"
    return f"{owner}: user, rights and database are made; its secret is in {place}"


def _write(path: Path, dataset: Dataset, rows: Sequence[dict[str, object]]) -> int:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(dataset.schema.field_names)
        for row in rows:
            writer.writerow([_cell(row[name]) for name in dataset.schema.field_names])
    return len(rows)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat()
        case _:
            return str(value)
