"""Commands: an inbox as it fills."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from civicbus.cli.context import Context
from civicbus.cli.display import printable, row_json
from civicbus.consumers.inbox import InboxRow, RowReader, follow, partitions_of
from civicbus.consumers.rows import plain
from civicbus.errors import AccessDenied
from civicbus.names import AgreementId, department_id, inbox_topic, valid_name
from civicbus.schemas.registry import Registry
from civicbus.secrets import principal_of
from civicbus.transport.assigned import AssignedReader

app = typer.Typer(no_args_is_help=True, help="Inboxes: what agreements bring to a department.")


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="inbox")


@app.callback()
def inbox() -> None:
    """Inboxes: what agreements bring to a department."""


@app.command()
def tail(
    context: typer.Context,
    department: Annotated[str, typer.Argument(metavar="DEPT", help="The subscriber.")],
    agreement: Annotated[str, typer.Argument(metavar="AGREEMENT", help="An agreement's id.")],
    *,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest row kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    count: Annotated[int | None, typer.Option("-n", min=1, help="End after this many rows.")] = None,
) -> None:
    """Show the rows of an inbox as they come, deletions too, until Ctrl-C."""
    here: Context = context.obj
    subscriber = department_id(department)
    topic = inbox_topic(subscriber, AgreementId(valid_name(agreement)))
    credentials = here.secrets.read(principal_of(subscriber))
    with (
        Registry(here.endpoints.registry_url) as registry,
        AssignedReader(here.endpoints, credentials, group=f"{subscriber}.tail") as reader,
    ):
        partitions = partitions_of(reader, topic)
        if not partitions:
            raise AccessDenied(
                f"{subscriber} has no right to an inbox {agreement}", mend="see `civicbus agreements list`"
            )
        rows = RowReader(registry)
        for record in islice(follow(reader, partitions, from_start=from_start), count):
            typer.echo(_document(rows.read(record)) if as_json else _line(rows.read(record)))


def _document(row: InboxRow) -> str:
    record = row.record
    document = {
        "partition": record.partition,
        "offset": record.offset,
        "time": _time(record.timestamp_ms).isoformat(),
        "key": None if record.key is None else record.key.decode(errors="backslashreplace"),
        "deleted": record.value is None,
        "row": plain(None if row.row is None else dict(row.row)),
    }
    if row.fault is not None:
        document |= {"reason": row.fault.reason, "detail": row.fault.detail}
    return json.dumps(document, ensure_ascii=False)


def _line(row: InboxRow) -> str:
    record = row.record
    time = _time(record.timestamp_ms).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    key = "" if record.key is None else record.key.decode(errors="backslashreplace")
    what = "deleted" if row.row is None else row_json(row.row)
    if row.fault is not None:
        what = f"undecodable: {row.fault}"
    return printable(f"{time}  {record.partition}/{record.offset}  {key}  {what}")


def _time(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
