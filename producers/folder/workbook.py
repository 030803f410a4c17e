"""The rows of an Excel workbook as texts, after its archive was found to be safe to open.

Promise: nothing is opened whose parts unpack to more than the limit, hold entities or leave the archive; a
formula gives the value that Excel kept for it and is never worked out.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from civicbus.producers.folder.faults import Fault, FileRefused

PACKED_BYTES = 64 * 2**20
UNPACKED_BYTES = 512 * 2**20
RATIO = 200
CELLS = 10_000_000
_SMALL_BYTES = 2**20
_PARTS = 2_000
_STEP_BYTES = 2**20
_OVERLAP = 64
_ENCRYPTED = 0x1
_OLE = b"\xd0\xcf\x11\xe0"
_DOCTYPE = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_MARKUP = (".xml", ".rels", ".vml")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")
_REFERENCE = rb"""\br\s*=\s*["']([A-Z]{1,3})?([0-9]{1,7})["']"""
_REFERENCES = re.compile(_REFERENCE)
_ERROR_CELLS = re.compile(rb"""<c\b(?=[^>]*\bt\s*=\s*["']e["'])[^>]*""" + _REFERENCE)
_ERRORS_SHOWN = 10

Cell = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta


def rows_of(content: bytes, names: Sequence[str]) -> list[list[str]]:
    """The rows of the sheet that has one of these names, or of the first one that is shown.

    A row without any text has no cells; every other has as many as the header, or more where it has more texts.
    """
    errors = checked(content)
    try:
        with CalamineWorkbook.from_filelike(io.BytesIO(content)) as workbook:
            sheet, place = _sheet(workbook, names)
            found = [[text_of(cell) for cell in cells] for cells in sheet.iter_rows()] if sheet.height else []
    except PasswordError:
        raise FileRefused(Fault.WORKBOOK_LOCKED) from None
    except (CalamineError, ValueError, OSError) as error:
        raise FileRefused(Fault.WORKBOOK_DAMAGED, detail=type(error).__name__) from None
    if cells := errors.get(place):
        raise FileRefused(Fault.ERROR_CELLS, cells=", ".join(cells))
    return _shaped(found)


def checked(content: bytes) -> dict[str, tuple[str, ...]]:
    """The first cells with an error (#N/A …) of each sheet; raises FileRefused where the archive is unsafe."""
    if content.startswith(_OLE):
        raise FileRefused(Fault.WORKBOOK_LOCKED)
    if len(content) > PACKED_BYTES:
        raise FileRefused(Fault.WORKBOOK_TOO_LARGE, limit=PACKED_BYTES // 2**20)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            _check_directory(parts)
            scans = {part.filename: _scanned(archive, part) for part in parts}
            return {place: tuple(dict.fromkeys(scans[name].errors)) for place, name in _sheet_parts(archive)}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError, ValueError) as error:
        raise FileRefused(Fault.WORKBOOK_DAMAGED, detail=type(error).__name__) from None


def text_of(cell: Cell) -> str:
    """One text for a value: whole numbers without a point, dates and times as ISO 8601 writes them."""
    match cell:
        case str():
            return cell
        case bool():
            return "true" if cell else "false"
        case float():
            return str(int(cell)) if cell.is_integer() else repr(cell)
        case dt.timedelta():
            return _clock(cell)
        case dt.date() | dt.time():
            return _moment(cell)
        case _:
            return str(cell)


def _moment(cell: dt.date | dt.time) -> str:
    """As many digits after the second as there are, three or six."""
    text = cell.isoformat()
    return text.removesuffix("000") if "." in text else text


def _check_directory(parts: Sequence[zipfile.ZipInfo]) -> None:
    """What the archive's own directory says, before a byte of it is unpacked."""
    names = [part.filename for part in parts]
    if len(names) > _PARTS or len(set(names)) != len(names) or any(map(_leaves, names)):
        raise FileRefused(Fault.WORKBOOK_UNSAFE)
    if any(part.flag_bits & _ENCRYPTED for part in parts):
        raise FileRefused(Fault.WORKBOOK_LOCKED)
    if sum(part.file_size for part in parts) > UNPACKED_BYTES:
        raise FileRefused(Fault.WORKBOOK_TOO_LARGE, limit=UNPACKED_BYTES // 2**20)
    if any(part.file_size > max(_SMALL_BYTES, RATIO * part.compress_size) for part in parts):
        raise FileRefused(Fault.WORKBOOK_UNSAFE)


def _leaves(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts


@dataclass(slots=True)
class _Part:
    """What is seen of a part while it is unpacked: cells with an error, and how far its rows and columns reach.

    A sheet is a rectangle in memory, so two cells in its corners are enough to fill that.
    """

    errors: list[str] = field(default_factory=list)
    columns: int = 0
    rows: int = 0

    def take(self, markup: bytes) -> None:
        found = set(_REFERENCES.findall(markup))
        self.columns = max(self.columns, *(_column(letters) for letters, _ in found), 0)
        self.rows = max(self.rows, *(int(number) for _, number in found), 0)
        if len(self.errors) < _ERRORS_SHOWN:
            self.errors += [(letters + number).decode() for letters, number in _ERROR_CELLS.findall(markup)]


def _scanned(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> _Part:
    """Unpack a part to its end, so that its size is no lie; raises FileRefused where it must not be opened."""
    scan, before = _Part(), b""
    with archive.open(part) as unpacked:
        while step := unpacked.read(_STEP_BYTES):
            is_wide = not before and part.filename.lower().endswith(_MARKUP) and step.startswith(_WIDE_MARKS)
            if is_wide or _DOCTYPE.search(before + step):
                raise FileRefused(Fault.WORKBOOK_UNSAFE)
            scan.take(before + step)
            before = step[-_OVERLAP:]
    if scan.columns * scan.rows > CELLS:
        raise FileRefused(Fault.WORKBOOK_CELLS, limit=CELLS)
    return scan


def _column(letters: bytes) -> int:
    """The number of a column: A is 1, AA is 27."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _sheet_parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Each sheet's place among the sheets, and the part that holds its cells."""
    relations = {
        _attribute(element, "Id"): _attribute(element, "Target")
        for element in re.findall(r"<(?:\w+:)?Relationship\b[^>]*>", _markup(archive, "xl/_rels/workbook.xml.rels"))
    }
    for place, element in enumerate(re.findall(r"<(?:\w+:)?sheet\b[^>]*>", _markup(archive, "xl/workbook.xml"))):
        target = relations.get(_attribute(element, r"\w+:id"), "")
        yield str(place), target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def _markup(archive: zipfile.ZipFile, name: str) -> str:
    return archive.read(name).decode("utf-8")


def _attribute(element: str, name: str) -> str:
    found = re.search(rf'\s{name}="([^"]*)"', element)
    return found[1] if found else ""


def _sheet(workbook: CalamineWorkbook, names: Sequence[str]) -> tuple[CalamineSheet, str]:
    """The sheet to read, and its place among the sheets."""
    wanted = {name.casefold() for name in names}
    pages = [
        (place, page.name)
        for place, page in enumerate(workbook.sheets_metadata)
        if page.typ == SheetTypeEnum.WorkSheet and page.visible == SheetVisibleEnum.Visible
    ]
    if not pages:
        raise FileRefused(Fault.WORKBOOK_NO_SHEET)
    place, _ = next((page for page in pages if page[1].casefold() in wanted), pages[0])
    return workbook.get_sheet_by_index(place), str(place)


def _shaped(rows: Iterable[list[str]]) -> list[list[str]]:
    shaped = [_without_end(cells) for cells in rows]
    width = len(shaped[0]) if shaped else 0
    return [cells + [""] * (width - len(cells)) if cells else cells for cells in shaped]


def _without_end(cells: list[str]) -> list[str]:
    """Without the empty cells at the end of a row, which a sheet has wherever another row is longer."""
    length = next((place for place in range(len(cells), 0, -1) if cells[place - 1]), 0)
    return cells[:length]


def _clock(duration: dt.timedelta) -> str:
    seconds = duration // dt.timedelta(seconds=1)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
