"""Commands: the quarantine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from civicbus.cli.context import Context
from civicbus.cli.display import cell, printable, row_json
from civicbus.consumers import quarantine
from civicbus.consumers.inbox import RowReader
from civicbus.consumers.quarantine import Kept, Redriven
from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.names import DatasetId, DepartmentId, Stage, department_id, valid_name
from civicbus.quarantine import Parked, Position
from civicbus.reasons import MENDS, Reason
from civicbus.schemas.registry import Registry
from civicbus.secrets import Credentials, principal_of
from civicbus.transport.assigned import AssignedReader
from civicbus.transport.resending import send_again

app = typer.Typer(no_args_is_help=True, help="Quarantine: refused records, why, and the way back.")

_SHOWN_BYTES = 1024

Row = Mapping[str, object]

Department = Annotated[str, typer.Argument(metavar="DEPT", help="The department that published the records.")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name, without the department.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class _Desk:
    """What these commands work with: the department's own credentials."""

    context: Context
    department: DepartmentId
    credentials: Credentials
    reader: AssignedReader


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="quarantine")


@app.command("list")
def list_parked(
    context: typer.Context,
    department: Department,
    dataset: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="Show each record of this dataset.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what is parked, why, and what mends it."""
    with _desk(context, department) as desk:
        if dataset is None:
            _print_counts(desk, as_json=as_json)
        else:
            _print_records(list(_kept(desk, dataset)), as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    department: Department,
    dataset: Dataset,
    position: Annotated[str, typer.Argument(metavar="POSITION", help="PARTITION/OFFSET on the changes topic.")],
) -> None:
    """Show one parked record: why, its headers, its bytes, and the row where it can be decoded."""
    with _desk(context, department) as desk, Registry(desk.context.endpoints.registry_url) as registry:
        (parked,) = _chosen(desk, dataset, [position])
        for line in _shown(parked, RowReader(registry)):
            typer.echo(line)


@app.command()
def redrive(
    context: typer.Context,
    department: Department,
    dataset: Dataset,
    positions: Annotated[
        list[str] | None, typer.Argument(metavar="[POSITION]...", help="PARTITION/OFFSET on the changes topic.")
    ] = None,
    *,
    reason: Annotated[Reason | None, typer.Option(help="All records parked for this reason.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All records.")] = False,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to watch for new refusals.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Send parked records on again as they were, and say which are refused again. Exits with 1 where one is."""
    if sum((bool(positions), reason is not None, everything)) != 1:
        raise ConfigurationError("what is to be redriven?", mend="name positions, or --reason, or --all")
    with _desk(context, department) as desk:
        wanted = DatasetId(desk.department, valid_name(dataset))
        if positions:
            parked = _chosen(desk, dataset, positions)
        else:
            parked = [each for each in _readable(_kept(desk, dataset)) if reason in {None, each.reason}]
        stay = {each.position: why for each in parked if (why := quarantine.why_not(each, wanted)) is not None}
        outcomes = quarantine.outcomes(
            desk.reader,
            wanted.quarantine,
            [each for each in parked if each.position not in stay],
            lambda records: send_again(desk.context.endpoints, desk.credentials, wanted.changes, records),
            wait_s,
        )
    _print_outcomes(outcomes, stay, wait_s, as_json=as_json)
    if stay or any(each.refused for each in outcomes):
        raise typer.Exit(1)


@contextmanager
def _desk(context: typer.Context, department: str) -> Iterator[_Desk]:
    here: Context = context.obj
    owner = department_id(department)
    credentials = here.secrets.read(principal_of(owner))
    with AssignedReader(here.endpoints, credentials, group=f"{owner}.quarantine") as reader:
        yield _Desk(here, owner, credentials, reader)


def _kept(desk: _Desk, dataset: str) -> list[Kept]:
    wanted = DatasetId(desk.department, valid_name(dataset))
    known = quarantine.datasets(desk.reader, desk.department)
    if wanted not in known:
        names = ", ".join(each.name for each in known) or "none"
        raise ConfigurationError(f"{desk.department} has no quarantine of {dataset}", mend=f"there are: {names}")
    return sorted(quarantine.kept(desk.reader, wanted), key=lambda each: each.record.timestamp_ms)


def _readable(kept: Sequence[Kept]) -> list[Parked]:
    return [each.parked for each in kept if each.parked is not None]


def _chosen(desk: _Desk, dataset: str, positions: Sequence[str]) -> list[Parked]:
    """The parked records at these positions, written in full or as PARTITION/OFFSET."""
    wanted = DatasetId(desk.department, valid_name(dataset))
    found = {each.position: each for each in _readable(_kept(desk, dataset))}
    full = [each if each.count("/") == 2 else f"{wanted.changes}/{each}" for each in positions]
    if missing := [each for each in full if each not in found]:
        raise ConfigurationError(
            f"not parked: {', '.join(missing)}", mend=f"see `civicbus quarantine list {desk.department} {dataset}`"
        )
    return [parked for position, parked in found.items() if position in full]


def _print_counts(desk: _Desk, *, as_json: bool) -> None:
    counts: Counter[tuple[str, Reason, str]] = Counter()
    for dataset in quarantine.datasets(desk.reader, desk.department):
        for parked in _readable(list(quarantine.kept(desk.reader, dataset))):
            counts[dataset.name, parked.reason, parked.field or ""] += 1
    rows: list[Row] = [
        {"dataset": dataset, "reason": reason.value, "field": field, "records": count, "mend": MENDS[reason]}
        for (dataset, reason, field), count in sorted(counts.items())
    ]
    _print(rows, ["dataset", "reason", "field", "records", "mend"], as_json=as_json)


def _print_records(kept: Sequence[Kept], *, as_json: bool) -> None:
    rows: list[Row] = [
        {
            "position": _short(parked),
            "parked_at": _time(each.record.timestamp_ms),
            "reason": parked.reason.value,
            "field": parked.field or "",
            "detail": parked.detail,
            "bytes": 0 if parked.value is None else len(parked.value),
        }
        for each in kept
        if (parked := each.parked) is not None
    ]
    _print(rows, ["position", "parked_at", "reason", "field", "detail", "bytes"], as_json=as_json)
    reasons = {parked.reason for parked in _readable(kept)}
    for reason in sorted(reasons if not as_json else ()):
        typer.echo(f"{reason.value}: {MENDS[reason]}")


def _short(parked: Parked) -> str:
    """PARTITION/OFFSET on the changes topic; in full where it stood on another topic."""
    changes = parked.topic.startswith(f"{Stage.CHANGES}.")
    return f"{parked.partition}/{parked.offset}" if changes else parked.position


def _print_outcomes(
    outcomes: Sequence[Redriven], stay: Mapping[Position, str], wait_s: float, *, as_json: bool
) -> None:
    rows: list[Row] = [
        {
            "position": each.parked.position,
            "sent_to": f"{each.sent.partition}/{each.sent.offset}",
            "outcome": f"not refused within {wait_s:g} s"
            if each.refused is None
            else f"refused again: {each.refused.reason} {each.refused.field or ''}".strip(),
        }
        for each in outcomes
    ]
    rows += [{"position": position, "sent_to": "", "outcome": f"not sent: {why}"} for position, why in stay.items()]
    _print(rows, ["position", "sent_to", "outcome"], as_json=as_json)


def _print(rows: Sequence[Row], names: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    shown = Table(*(name.replace("_", " ") for name in names))
    for row in rows:
        shown.add_row(*(cell(row[name]) for name in names))
    Console().print(shown)


def _shown(parked: Parked, rows: RowReader) -> Iterator[str]:
    yield f"position  {parked.position}"
    yield f"time      {_time(parked.timestamp_ms)}"
    yield printable(f"reason    {parked.reason.value} {parked.field or ''} {parked.detail}")
    yield f"mend      {MENDS[parked.reason]}"
    yield f"key       {_text(parked.original_key)}"
    for name, value in parked.original_headers:
        yield f"header    {printable(name)}: {_text(value)}"
    if parked.value is None:
        yield "value     none: a deletion"
        return
    yield f"row       {_row(parked.value, rows)}"
    yield f"value     {len(parked.value)} bytes"
    yield from _hex_dump(parked.value[:_SHOWN_BYTES])
    if len(parked.value) > _SHOWN_BYTES:
        yield f"          … {len(parked.value) - _SHOWN_BYTES} more"


def _row(value: bytes, rows: RowReader) -> str:
    """The row, or the JSON of a row that could not be sent, or why there is neither."""
    try:
        return printable(row_json(rows.row(value)))
    except Unacceptable as fault:
        return printable(value.decode()) if value[:1] == b"{" and _is_text(value) else f"not decodable: {fault}"


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(value: bytes | None) -> str:
    return "none" if value is None else printable(value.decode(errors="backslashreplace"))


def _hex_dump(value: bytes) -> Iterator[str]:
    for start in range(0, len(value), 16):
        part = value[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"  {start:08x}  {part.hex(' '):<47}  {text}"


def _time(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
