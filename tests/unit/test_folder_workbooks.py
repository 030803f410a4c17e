"""An Excel workbook gives the texts that it shows, and one that is not safe to open is not opened."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import date, datetime, time, timedelta

import pytest
import xlsxwriter

from civicbus.producers.folder import workbook
from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.producers.folder.workbook import rows_of

NAMES = ("permits", "许可", "Permits")


def book(fill: Callable[[xlsxwriter.Workbook], object]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as opened:
        fill(opened)
    return content.getvalue()


def rows(*rows: list[object], sheet: str | None = None) -> Callable[[xlsxwriter.Workbook], None]:
    def fill(opened: xlsxwriter.Workbook) -> None:
        page = opened.add_worksheet(sheet)
        for number, cells in enumerate(rows):
            for place, cell in enumerate(cells):
                if isinstance(cell, str):
                    page.write_string(number, place, cell)
                elif cell is not None:
                    page.write(number, place, cell)

    return fill


def spoilt(content: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """The same archive with other parts."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return packed.getvalue()


def refused(content: bytes) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        rows_of(content, NAMES)
    return caught.value


SMALL = book(rows(["permit_no", "status"], ["0007", "new"]))
SHEET = "xl/worksheets/sheet1.xml"


def test_cells_are_the_texts_that_they_stand_for():
    def fill(opened: xlsxwriter.Workbook) -> None:
        page = opened.add_worksheet()
        day, moment, clock, length = (
            opened.add_format({"num_format": form}) for form in ("yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "hh:mm", "[h]:mm")
        )
        page.write_row(0, 0, ["a", "b", "c", "d", "e", "f", "g", "h"])
        page.write_string(1, 0, "0007")
        page.write_number(1, 1, 12)
        page.write_number(1, 2, 1.5)
        page.write_boolean(1, 3, True)
        page.write_datetime(1, 4, date(2024, 2, 29), day)
        page.write_datetime(1, 5, datetime.fromisoformat("2024-02-29T10:00:01"), moment)
        page.write_datetime(1, 6, time(10, 30), clock)
        page.write_datetime(1, 7, timedelta(hours=30), length)

    _, cells = rows_of(book(fill), NAMES)
    assert cells == ["0007", "12", "1.5", "true", "2024-02-29", "2024-02-29T10:00:01", "10:30:00", "30:00:00"]


def test_rows_without_texts_have_no_cells_and_what_stands_beyond_the_header_stays():
    content = book(rows(["a", "b"], [None, None], ["1"], ["2", "3", None, "beyond"]))
    assert rows_of(content, NAMES) == [["a", "b"], [], ["1", ""], ["2", "3", "", "beyond"]]


def test_the_first_row_of_the_sheet_is_the_header_even_where_it_is_empty():
    assert rows_of(book(rows([None], ["a"])), NAMES) == [[], ["a"]]


def test_a_formula_gives_the_value_that_was_kept_and_a_text_that_looks_like_one_stays():
    def fill(opened: xlsxwriter.Workbook) -> None:
        page = opened.add_worksheet()
        page.write_formula(0, 0, "=1+1", None, 2)
        page.write_string(0, 1, "=1+1")

    assert rows_of(book(fill), NAMES) == [["2", "=1+1"]]


def test_the_error_of_a_formula_is_named_with_its_cell_but_not_in_a_sheet_that_is_not_read():
    def fill(opened: xlsxwriter.Workbook, name: str) -> None:
        rows(["a", "b"], ["1", "2"], sheet="other" if name == "permits" else "permits")(opened)
        page = opened.add_worksheet(name)
        page.write_row(0, 0, ["a", "b"])
        page.write_formula(1, 1, "=1/0", None, "#DIV/0!")

    found = refused(book(lambda opened: fill(opened, "permits")))
    assert (found.fault, found.values_shown) == (Fault.ERROR_CELLS, {"cells": "B2"})
    assert rows_of(book(lambda opened: fill(opened, "lookup")), NAMES) == [["a", "b"], ["1", "2"]]


@pytest.mark.parametrize("name", ["permits", "许可", "PERMITS"])
def test_the_sheet_that_is_named_as_the_dataset_is_read_and_otherwise_the_first_that_is_shown(name):
    def fill(opened: xlsxwriter.Workbook, second: str) -> None:
        hidden = opened.add_worksheet("hidden")
        opened.add_worksheet("notes").write_string(0, 0, "first")
        opened.add_worksheet(second).write_string(0, 0, "second")
        opened.worksheets()[1].activate()
        hidden.hide()

    assert rows_of(book(lambda opened: fill(opened, name)), NAMES) == [["second"]]
    assert rows_of(book(lambda opened: fill(opened, "others")), NAMES) == [["first"]]


def test_an_archive_whose_directory_says_that_it_unpacks_to_too_much_is_not_opened(monkeypatch):
    monkeypatch.setattr(workbook, "UNPACKED_BYTES", 1000)
    assert refused(SMALL).fault is Fault.WORKBOOK_TOO_LARGE


def test_a_part_that_is_packed_too_densely_is_not_unpacked():
    bomb = spoilt(SMALL, lambda parts: parts.update({"xl/media/bomb.bin": bytes(20 * 2**20)}))
    assert refused(bomb).fault is Fault.WORKBOOK_UNSAFE


def test_a_part_that_is_larger_than_its_directory_says_is_refused():
    bomb = bytearray(spoilt(SMALL, lambda parts: parts.update({"xl/media/bomb.bin": bytes(2 * 2**20)})))
    for place in range(len(bomb) - 4):
        if bomb[place : place + 4] == (2 * 2**20).to_bytes(4, "little"):
            bomb[place : place + 4] = (2**10).to_bytes(4, "little")
    assert refused(bytes(bomb)).fault is Fault.WORKBOOK_DAMAGED


def test_two_cells_in_far_corners_do_not_fill_the_memory():
    def fill(opened: xlsxwriter.Workbook) -> None:
        page = opened.add_worksheet()
        page.write_string(0, 0, "permit_no")
        page.write_string(2**20 - 1, 2**14 - 1, "far")

    assert refused(book(fill)).fault is Fault.WORKBOOK_CELLS


@pytest.mark.parametrize("name", ["../../outside.xml", "/etc/passwd", "xl\\..\\outside.xml", "C:/outside.xml"])
def test_a_part_that_leads_out_of_the_archive_is_refused(name):
    assert refused(spoilt(SMALL, lambda parts: parts.update({name: b"<x/>"}))).fault is Fault.WORKBOOK_UNSAFE


@pytest.mark.parametrize(
    "prolog",
    [
        b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>',
        b"<!--" + b"x" * (2**20 - 60) + b'--><!DOCTYPE x SYSTEM "file:///etc/passwd">',
    ],
)
def test_entities_are_refused_wherever_they_stand(prolog):
    def change(parts: dict[str, bytes]) -> None:
        mark, _, rest = parts[SHEET].partition(b"?>")
        parts[SHEET] = mark + b"?>" + prolog + rest

    assert refused(spoilt(SMALL, change)).fault is Fault.WORKBOOK_UNSAFE


def test_markup_in_an_encoding_that_hides_entities_is_refused():
    hidden = spoilt(SMALL, lambda parts: parts.update({SHEET: parts[SHEET].decode().encode("utf-16")}))
    assert refused(hidden).fault is Fault.WORKBOOK_UNSAFE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        SMALL[: len(SMALL) // 2],
        spoilt(SMALL, lambda parts: parts.pop("xl/workbook.xml")),
        spoilt(SMALL, lambda parts: parts.update({SHEET: b"<worksheet><sheetData><row"})),
        spoilt(SMALL, lambda parts: parts.pop(SHEET)),
    ],
)
def test_what_is_no_workbook_is_refused(content):
    assert refused(content).fault is Fault.WORKBOOK_DAMAGED


def test_a_workbook_with_a_password_is_refused():
    assert refused(b"\xd0\xcf\x11\xe0" + bytes(100)).fault is Fault.WORKBOOK_LOCKED
