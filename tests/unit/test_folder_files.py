"""What a dropped file's name and bytes say is read by fixed rules, and what is in doubt is refused with its reason."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.producers.csv_text import CsvText
from civicbus.producers.folder.desk import Seen
from civicbus.producers.folder.encoding import Encoding, read_text
from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.producers.folder.filenames import Named, Part, date_in, is_passed_over, read_name
from civicbus.producers.folder.looking import settled
from civicbus.producers.folder.messages import catalogue
from civicbus.producers.folder.place import Language
from civicbus.producers.folder.result import Arrival, reason_text, refusal_text, shown
from civicbus.producers.folder.safe_cells import guarded, unguarded
from civicbus.producers.folder.sheet import Sheet, read_sheet
from civicbus.producers.folder.workbook import text_of
from civicbus.producers.table import ROW
from civicbus.producers.table_source import RefusedRow
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Title
from support.project import sources
from support.samples import permits

DATASET = replace(permits(), title=Title(zh="许可", en="Permits"))
HEADER = "permit_no,status,score,phone\n"
PERMITS = Named(dataset=DATASET, part=Part.FULL, is_workbook=False)


def sheet(content: str | bytes, named: Named = PERMITS) -> Sheet:
    return read_sheet(content.encode() if isinstance(content, str) else content, "permits.csv", named)


def refused(content: str | bytes) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        sheet(content)
    return caught.value


@pytest.mark.parametrize(
    ("name", "part", "is_workbook"),
    [
        ("permits.csv", Part.FULL, False),
        ("PERMITS.CSV", Part.FULL, False),
        ("construction.permits.tsv", Part.FULL, False),
        ("许可.xlsx", Part.FULL, True),
        ("permits_20261125.csv", Part.FULL, False),
        ("permits-2026-11-25.incremental.csv", Part.INCREMENTAL, False),
        ("permits.incremental.xlsx", Part.INCREMENTAL, True),
        ("permits.corrections.csv", Part.CORRECTIONS, False),
    ],
)
def test_a_name_says_dataset_part_and_format(name, part, is_workbook):
    assert read_name(name, [DATASET]) == Named(dataset=DATASET, part=part, is_workbook=is_workbook)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("permits", Fault.MISNAMED),
        ("permits.pdf", Fault.MISNAMED),
        ("..\\permits.csv", Fault.UNKNOWN_DATASET),
        ("health.permits.csv", Fault.UNKNOWN_DATASET),
        ("permits_2026.csv", Fault.UNKNOWN_DATASET),
        ("permits.full.csv", Fault.UNKNOWN_DATASET),
        ("permits.xls", Fault.OLD_WORKBOOK),
        ("permits.xlsm", Fault.OLD_WORKBOOK),
    ],
)
def test_any_other_name_is_refused_with_its_reason(name, fault):
    with pytest.raises(FileRefused) as caught:
        read_name(name, [DATASET])
    assert caught.value.fault is fault


@pytest.mark.parametrize("name", [".permits.csv", "~$permits.xlsx", "permits.csv.part", "permits.csv.TMP", "a.csv~"])
def test_hidden_and_unfinished_files_are_passed_over(name):
    assert is_passed_over(name)
    seen = Seen(inode=1, size=1, changed_ns=1)
    assert settled({name: seen}, {name: seen}) == ()


def test_a_file_is_whole_when_two_looks_see_the_same_and_the_earlier_date_comes_first():
    before = {
        "grows.csv": Seen(inode=1, size=1, changed_ns=1),
        "is_replaced.csv": Seen(inode=2, size=1, changed_ns=1),
        "t_20261126.csv": Seen(inode=3, size=1, changed_ns=1),
        "t_20261125.csv": Seen(inode=4, size=1, changed_ns=2),
        "a.csv": Seen(inode=5, size=1, changed_ns=9),
    }
    now = before | {
        "grows.csv": Seen(inode=1, size=2, changed_ns=1),
        "is_replaced.csv": Seen(inode=8, size=1, changed_ns=1),
        "new.csv": Seen(inode=6, size=1, changed_ns=1),
    }
    assert settled(before, now) == ("a.csv", "t_20261125.csv", "t_20261126.csv")
    assert date_in("t_2026-11-25.incremental.csv") == "20261125"


@given(st.text("'=+-@\t\ra1", max_size=6), st.text("'=+-@\t\ra1", max_size=6))
def test_a_guarded_cell_runs_nothing_and_says_what_it_stood_for(cell, other):
    assert not re.match(r"[=+\-@\t\r]", guarded(cell))
    assert unguarded(guarded(cell)) == cell
    assert (guarded(cell) == guarded(other)) == (cell == other)


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encoding_and_separator_are_found(encoding, separator):
    text = f"permit_no{separator}status{separator}score{separator}phone\n0007{separator}审批{separator}1{separator}\n"
    read = read_text(text.encode(encoding.value), "permits.csv", DATASET)
    assert (read.encoding, read.text.separator) == (encoding, separator)
    assert sheet(text.encode(encoding.value)).table.frame.drop(ROW).rows() == [("0007", "审批", "1", None)]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (HEADER.encode() + b"a,\xff,1,\n", 2),
        (b"\xef\xbb\xbf" + HEADER.encode() + b"a,b,1,\n\xd6\xd0,,,\n", 3),
        (HEADER.encode("utf-16"), 1),
    ],
)
def test_bytes_that_are_neither_utf_8_nor_gb18030_are_refused_with_the_line(content, line):
    found = refused(content)
    assert (found.fault, found.values_shown) == (Fault.ENCODING, {"line": line})


def test_quotes_that_do_not_match_are_refused_with_the_line():
    found = refused(HEADER + 'a,new,1,\nb,"new"x,1,\n')
    assert (found.fault, found.values_shown) == (Fault.QUOTES, {"line": 3})


def test_a_header_that_is_not_the_datasets_is_refused_with_what_is_missing_doubled_and_unknown():
    found = refused("permit_no,permit_no,state,score\n")
    assert found.fault is Fault.HEADER
    assert found.values_shown == {"lacking": "status, phone", "doubled": "permit_no", "unknown": "state"}


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_is_refused(content):
    assert refused(content).fault is Fault.HEADER


def test_rows_are_found_again_by_their_numbers():
    read = sheet(HEADER + 'a,"n\new",1,\n\nb,old,2,\nc,,3,\n')
    assert list(read.rows({2, 4})) == [(2, ["a", "n\new", "1", ""]), (4, ["b", "old", "2", ""])]


def test_a_corrected_copy_gives_the_rows_without_what_was_added():
    copy = "civicbus_row,civicbus_reason,permit_no,status,score,phone\n5,why,'=a,new,1,'+86\n6,why,b,'quoted',2\n"
    read = sheet(copy, replace(PERMITS, part=Part.CORRECTIONS))
    assert read.table.frame.drop(ROW).rows() == [("=a", "new", "1", "+86")]
    assert read.table.unknown == ()
    assert [row.cells["status"] for row in read.table.misread] == ["'quoted'"]


def test_a_text_of_somebody_else_moves_no_cursor():
    assert shown("a\x1b[2J\u202eb\n树") == "a\\u001b[2J\\u202eb\\u000a树"
    assert len(shown("x" * 1000)) == 301


def test_every_message_is_there_in_both_languages_with_the_same_values():
    for section in catalogue().values():
        for key, texts in section.items():
            assert texts.keys() == set(Language), key
            zh, en = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in texts.values())
            assert zh == en, key


def test_every_fault_and_every_reason_that_a_row_may_have_has_its_message():
    texts = catalogue()
    assert texts["faults"].keys() == texts["mends"].keys() == set(Fault)
    admissions = {Reason.KEY_MISSING, Reason.UNREADABLE_ROW, Reason.TOO_LARGE}
    assert {reason for reason in Reason if reason.name.startswith("QUALITY_")} | admissions <= texts["reasons"].keys()
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources() if path.parent.name == "folder")
    assert [key for key in texts["result"] if f'"{key}"' not in code] == []


def test_a_value_that_does_not_fit_is_told_the_form_of_its_field():
    dates = {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None}
    moments = {"name": "at", "type": {"type": "long", "logicalType": "local-timestamp-millis"}}
    money = {"name": "fee", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}
    fields = [dates, moments, money, {"name": "no", "type": "long"}, {"name": "raw", "type": "bytes"}]
    schema = AvroSchema.parse(json.dumps({"type": "record", "name": "x", "fields": fields}))
    title = permits().title
    described = tuple(replace(permits().fields[0], name=field["name"], title=title) for field in fields)
    dataset = replace(permits(), fields=described, schemas=(schema,), key=("no",))
    rows = [RefusedRow(row=2, reason=Reason.UNREADABLE_ROW, field=field["name"]) for field in fields]
    told = [reason_text(Language.EN, dataset, row) for row in rows]
    wanted = ["2024-02-29", "2024-02-29T10:00:00", "1.50", "-12", "cannot stand in a file"]
    assert [form in text for form, text in zip(wanted, told, strict=True)] == [True] * 5
    assert "应为日期，例如 2024-02-29" in reason_text(Language.ZH, dataset, rows[0])


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("fault", Fault)
def test_a_refused_file_has_a_result_in_either_language(language, fault):
    values = {"name": "x", "known": "y", "ending": "xls", "limit": 1, "line": 2, "lacking": "a", "doubled": "-"}
    found = FileRefused(fault, **values, unknown="\x1b", detail="ZipError", cells="A1")
    text = refusal_text(language, Arrival(file="a\n.csv", time=datetime.fromisoformat("2026-11-25T10:00Z")), found)
    assert len(text.splitlines()) == 5
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "value", [date(2024, 2, 29), datetime.fromisoformat("2024-02-29T10:00:01"), time(10), timedelta(hours=30)]
)
def test_moments_are_written_as_iso_8601_does(value):
    assert text_of(value) in {"2024-02-29", "2024-02-29T10:00:01", "10:00:00", "30:00:00"}
    assert text_of(datetime.fromisoformat("2024-02-29T10:00:01.120")) == "2024-02-29T10:00:01.120"
    assert text_of(datetime.fromisoformat("2024-02-29T10:00:01.000120")) == "2024-02-29T10:00:01.000120"


def test_a_csv_text_that_is_read_twice_is_the_same():
    written = io.StringIO()
    csv.writer(written).writerow(["a", "b"])
    text = CsvText(origin="a.csv", content=written.getvalue().encode())
    for _ in range(2):
        with text.rows() as rows:
            assert list(rows) == [["a", "b"]]
