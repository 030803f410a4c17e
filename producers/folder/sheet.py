"""A dropped file's cells: the table that is compared with what was published, and the rows as they stand in the file.

A formula counts as its value and a guarded cell of a corrected copy as what it stood for. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from civicbus.errors import CheckFailed
from civicbus.producers.csv_text import BrokenCsv, CsvText
from civicbus.producers.folder.encoding import Encoding, read_text
from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.producers.folder.filenames import Named, Part
from civicbus.producers.folder.safe_cells import unguarded
from civicbus.producers.folder.workbook import rows_of
from civicbus.producers.table import FIRST_ROW, Table, from_rows, from_text, gaps
from civicbus.schemas.datasets import Dataset

ROW_COLUMN, REASON_COLUMN = "civicbus_row", "civicbus_reason"
"""The columns that a copy to correct has before those of its file."""
_ADDED = (ROW_COLUMN, REASON_COLUMN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A file that was read. ``encoding`` and ``separator`` are those that a copy is written in."""

    table: Table
    header: tuple[str, ...]
    cells: CsvText | tuple[list[str], ...]
    encoding: Encoding
    separator: str
    is_workbook: bool

    def rows(self, numbers: Set[int]) -> Iterator[tuple[int, list[str]]]:
        """The rows that have these numbers."""
        with _opened(self.cells) as rows:
            yield from ((number, cells) for number, cells in enumerate(rows, FIRST_ROW - 1) if number in numbers)


def read_sheet(content: bytes, origin: str, named: Named) -> Sheet:
    """Raises FileRefused where the file cannot be read as the dataset's."""
    dataset = named.dataset
    if named.is_workbook:
        titles = (dataset.id.name, dataset.title.zh, dataset.title.en)
        cells: CsvText | tuple[list[str], ...] = tuple(rows_of(content, titles))
        encoding, separator = Encoding.UTF_8_MARKED, ","
    else:
        read = read_text(content, origin, dataset)
        cells, encoding, separator = read.text, read.encoding, read.text.separator
    if named.part is Part.CORRECTIONS:
        cells = _corrected(cells)
    header, table = _table(cells, origin, dataset)
    return Sheet(
        table=table,
        header=header,
        cells=cells,
        encoding=encoding,
        separator=separator,
        is_workbook=named.is_workbook,
    )


def _table(cells: CsvText | tuple[list[str], ...], origin: str, dataset: Dataset) -> tuple[tuple[str, ...], Table]:
    with _opened(cells) as rows:
        header = tuple(next(rows, []))
    try:
        if isinstance(cells, CsvText):
            return header, from_text(cells, dataset)
        return header, from_rows(iter(cells), origin, dataset)
    except BrokenCsv as broken:
        raise FileRefused(Fault.QUOTES, line=broken.line) from None
    except CheckFailed:
        raise _header_refused(header, dataset) from None


@contextmanager
def _opened(cells: CsvText | tuple[list[str], ...]) -> Iterator[Iterator[list[str]]]:
    if not isinstance(cells, CsvText):
        yield iter(cells)
        return
    try:
        with cells.rows() as rows:
            yield rows
    except BrokenCsv as broken:
        raise FileRefused(Fault.QUOTES, line=broken.line) from None


def _corrected(cells: CsvText | tuple[list[str], ...]) -> tuple[list[str], ...]:
    """The rows of a corrected copy without what was added to them."""
    with _opened(cells) as opened:
        rows = list(opened)
    header = rows[0] if rows else []
    kept = [place for place, column in enumerate(header) if column not in _ADDED]
    beyond = len(header)
    return tuple(
        [unguarded(row[place]) for place in kept if place < len(row)] + [unguarded(cell) for cell in row[beyond:]]
        for row in rows
    )


def _header_refused(header: Iterable[str], dataset: Dataset) -> FileRefused:
    found = gaps(tuple(header), dataset)
    known = dataset.columns()
    return FileRefused(
        Fault.HEADER,
        lacking=", ".join(found.lacking) or "-",
        doubled=", ".join(found.doubled) or "-",
        unknown=", ".join(column for column in header if column.strip() not in known) or "-",
    )
