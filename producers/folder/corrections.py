"""The copy of the rows to correct: the file's own header and cells, each row with its number and its reasons. Pure."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable

from civicbus.producers.folder.place import Language
from civicbus.producers.folder.result import reason_text
from civicbus.producers.folder.safe_cells import guarded
from civicbus.producers.folder.sheet import REASON_COLUMN, ROW_COLUMN, Sheet
from civicbus.producers.table_source import RefusedRow
from civicbus.schemas.datasets import Dataset


def corrections_of(language: Language, dataset: Dataset, sheet: Sheet, refused: Iterable[RefusedRow]) -> bytes:
    """A CSV in the file's encoding and with its separator, whose cells no spreadsheet program takes for formulas."""
    reasons: defaultdict[int, list[str]] = defaultdict(list)
    for row in refused:
        reasons[row.row].append(reason_text(language, dataset, row))
    copy = io.StringIO()
    writer = csv.writer(copy, delimiter=sheet.separator, lineterminator="\r\n")
    writer.writerow([ROW_COLUMN, REASON_COLUMN, *map(guarded, sheet.header)])
    for number, cells in sheet.rows(reasons.keys()):
        writer.writerow([number, "; ".join(reasons[number]), *map(guarded, cells)])
    return copy.getvalue().encode(sheet.encoding.value)
