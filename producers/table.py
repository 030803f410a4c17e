"""A table as its source wrote it: one column a field, row numbers as a spreadsheet counts them (a header is row 1).

A file is read whole or not at all: where its structure is in doubt, nothing of it is compared with what was
published, since a quote that is not closed would look like the deletion of all rows behind it. Rows with too
few or too many cells are set apart and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.producers.csv_text import BYTE_ORDER_MARK, CsvText
from civicbus.schemas.datasets import Dataset

FIRST_ROW = 2
ROW = "civicbus:row"
_BLOCK_ROWS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Misread:
    """A row whose cells cannot be told apart: their number differs from the header's."""

    row: int
    cells: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns by field name and :data:`ROW`; what stands apart; the columns that no field takes."""

    frame: pl.DataFrame
    misread: tuple[Misread, ...] = ()
    unknown: tuple[str, ...] = ()


def read_csv(path: Path, dataset: Dataset) -> Table:
    """A CSV file in UTF-8 with a header row, every cell a text, an empty one null.

    Raises ConfigurationError naming the line where the file cannot be read, CheckFailed naming its columns.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    return from_text(CsvText(origin=str(path), content=content.removeprefix(BYTE_ORDER_MARK)), dataset)


def from_text(text: CsvText, dataset: Dataset) -> Table:
    """A CSV text that was read already; raises as ``read_csv`` does."""
    with text.rows() as rows:
        header = next(rows, [])
        fields = _fields(text.origin, header, dataset)
        columns = text.columns(fields)
        if columns is None:
            return _table(rows, header, fields)
    return Table(frame=_numbered(_nulls(columns)), unknown=_unknown(header, fields))


def from_rows(rows: Iterator[list[str]], origin: str, dataset: Dataset) -> Table:
    """Rows of texts, the header first, one without cells being none; raises CheckFailed naming its columns."""
    header = next(rows, [])
    return _table(rows, header, _fields(origin, header, dataset))


def from_frame(frame: pl.DataFrame, dataset: Dataset) -> Table:
    """A frame whose columns are named as a file's would be; raises CheckFailed naming its columns."""
    fields = _fields("the frame", frame.columns, dataset)
    named = frame.select(
        pl.col(column).alias(field) for column, field in zip(frame.columns, fields, strict=True) if field
    )
    return Table(frame=_numbered(named), unknown=_unknown(frame.columns, fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What keeps a header from being the dataset's: fields that no column fills, and fields that two fill."""

    lacking: tuple[str, ...]
    doubled: tuple[str, ...]


def gaps(header: Sequence[str], dataset: Dataset) -> Gaps:
    """Columns are found by any name that the catalogue gives their field, spaces around it aside."""
    fields = _named_fields(header, dataset)
    return Gaps(
        lacking=tuple(field for field in dataset.schema.field_names if field not in fields),
        doubled=tuple(sorted({field for field in fields if field is not None and fields.count(field) > 1})),
    )


def _named_fields(header: Sequence[str], dataset: Dataset) -> list[str | None]:
    names = dataset.columns()
    return [names.get(column.strip()) for column in header]


def _fields(origin: str, header: Sequence[str], dataset: Dataset) -> list[str | None]:
    """The field of each column, None where there is none; raises CheckFailed with every fault of the header."""
    fields, found = _named_fields(header, dataset), gaps(header, dataset)
    unknown = ", ".join(repr(column) for column in _unknown(header, fields))
    hint = f"; no field is called {unknown}" if unknown else ""
    findings = [f"{origin}, header: no column fills the field {field}{hint}" for field in found.lacking]
    findings += [f"{origin}, header: two columns fill the field {field}" for field in found.doubled]
    if findings:
        raise CheckFailed(f"the columns are not those of {dataset.id}; nothing was published:", findings)
    return fields


def _unknown(header: Sequence[str], fields: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(column for column, field in zip(header, fields, strict=True) if field is None)


def _table(rows: Iterator[list[str]], header: Sequence[str], fields: Sequence[str | None]) -> Table:
    frames: list[pl.DataFrame] = []
    misread: list[Misread] = []
    number = FIRST_ROW
    while block := list(islice(rows, _BLOCK_ROWS)):
        numbers = range(number, number + len(block))
        whole = [(row, cells) for row, cells in zip(numbers, block, strict=True) if len(cells) == len(header)]
        misread += [
            Misread(row=row, cells=_named(header, fields, cells))
            for row, cells in zip(numbers, block, strict=True)
            if cells and len(cells) != len(header)
        ]
        frames.append(_frame(whole, fields))
        number += len(block)
    empty = _frame([], fields)
    return Table(frame=pl.concat([empty, *frames]), misread=tuple(misread), unknown=_unknown(header, fields))


def _frame(whole: Sequence[tuple[int, list[str]]], fields: Sequence[str | None]) -> pl.DataFrame:
    columns = list(zip(*(cells for _, cells in whole), strict=True)) or [()] * len(fields)
    texts = {field: pl.Series(column, dtype=pl.String) for field, column in zip(fields, columns, strict=True) if field}
    return _nulls(pl.DataFrame(texts)).with_columns(pl.Series(ROW, [row for row, _ in whole], dtype=pl.UInt32))


def _nulls(texts: pl.DataFrame) -> pl.DataFrame:
    return texts.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _named(header: Sequence[str], fields: Sequence[str | None], cells: Sequence[str]) -> dict[str, str | None]:
    """The cells of a row under the names of their columns, those beyond the header under their number."""
    names = [field or column for column, field in zip(header, fields, strict=True)]
    beyond = [f"column {number}" for number in range(len(names) + 1, len(cells) + 1)]
    return {name: cell or None for name, cell in zip([*names, *beyond], cells, strict=False)}


def _numbered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.int_range(FIRST_ROW, FIRST_ROW + pl.len(), dtype=pl.UInt32).alias(ROW))
