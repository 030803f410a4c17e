"""JSON lines as a table: one object a line, its members the fields, numbered as lines are.

A value has the form that a cell of a CSV file has for its type, as a text or as JSON's own number or truth value. A
line that is no object stands apart, and the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from civicbus.errors import ConfigurationError
from civicbus.producers.table import ROW, Misread, Table
from civicbus.schemas.datasets import Dataset


def read_json_lines(path: Path, dataset: Dataset) -> Table:
    """The table in a file; raises ConfigurationError where the file cannot be read."""
    rows: list[dict[str, str | int | None]] = []
    misread: list[Misread] = []
    unknown: dict[str, None] = {}
    names = dataset.columns()
    for number, line in enumerate(_lines(path), 1):
        members = _object(line)
        if members is None:
            misread.append(Misread(row=number, cells={}))
            continue
        unknown |= dict.fromkeys(name for name in members if name not in names)
        fields = {names[name]: _text(value) for name, value in members.items() if name in names}
        rows.append(fields | {ROW: number})
    columns = dict.fromkeys(dataset.schema.field_names, pl.String()) | {ROW: pl.UInt32()}
    return Table(frame=pl.DataFrame(rows, schema=columns), misread=tuple(misread), unknown=tuple(unknown))


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from (line for line in file)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _object(line: bytes) -> Mapping[str, object] | None:
    try:
        found = json.loads(line)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # no JSON, or half a surrogate pair in it
        return None
    return found if isinstance(found, dict) else None


def _text(value: object) -> str | None:
    match value:
        case None | "":
            return None
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
