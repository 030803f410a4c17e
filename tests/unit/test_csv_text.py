"""The columns of a CSV text are what the csv module reads, and are taken wherever nothing is in doubt."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from civicbus.errors import CivicbusError
from civicbus.producers import csv_text
from civicbus.producers.csv_text import CsvText

SEPARATORS = st.sampled_from([",", ";", "\t"])
FIELDS = ["a", None, "c"]


def by_rows(text: CsvText) -> list[list[str]] | None:
    """Every row below the header as the csv module reads it; None where it reads none."""
    try:
        with text.rows() as rows:
            return list(rows)[1:]
    except CivicbusError:
        return None


def by_columns(text: CsvText) -> list[list[str]] | None:
    frame = text.columns(FIELDS)
    if frame is None:
        return None
    assert frame.columns == ["a", "c"]
    return [[cell or "" for cell in row] for row in frame.rows()]


def outer(rows: list[list[str]] | None) -> list[list[str]] | None:
    return None if rows is None else [[row[0], row[2]] if len(row) == 3 else row for row in rows]


@settings(deadline=None, max_examples=800)
@given(st.text('a1é,;\t"\r\n \0\ufeff', max_size=40), SEPARATORS)
@example('a"b,c,"d"\n', ",")
@example('"","""",""""""\n', ",")
@example("a,b\n\n\nc,d,e", ",")
@example('a,"b\r\nc",d\r\n', ",")
def test_what_is_read_by_columns_is_what_the_csv_module_reads(body, separator):
    text = CsvText(origin="file", content=f"x{separator}y{separator}z\n{body}".encode(), separator=separator)
    found = by_columns(text)
    assert found is None or found == outer(by_rows(text))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.lists(st.text('aé1, ;"\n\t', max_size=6), min_size=3, max_size=3), max_size=12),
    SEPARATORS,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_program_wrote_is_read_by_columns(rows, separator, end, quoting):
    written = io.StringIO()
    csv.writer(written, delimiter=separator, lineterminator=end, quoting=quoting).writerows([["x", "y", "z"], *rows])
    text = CsvText(origin="file", content=written.getvalue().encode(), separator=separator)
    assert by_columns(text) == outer(rows)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text('a,"\n', max_size=8), min_size=1, max_size=30), st.integers(1, 9))
def test_where_the_text_is_cut_for_counting_makes_no_difference(cells, block_bytes):
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([[cell, "y", "z"] for cell in cells])
    text = CsvText(origin="file", content=written.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_text, "_BLOCK_BYTES", block_bytes)
        found = by_columns(text)
    assert found == [[cell, "z"] for cell in cells[1:]]


@pytest.mark.parametrize(
    "body",
    [
        "a,b\n",
        "a,b,c,d\n",
        "\n",
        "a,b,c\n\nd,e,f\n",
        'a,b,c"\n',
        'a,"b"x,c\n',
        'a,"b,c\n',
        "a,b,c\rd,e,f\n",
        "a,\0,c\n",
    ],
)
def test_what_is_in_doubt_is_not_read_by_columns(body):
    assert CsvText(origin="file", content=f"x,y,z\n{body}".encode()).columns(FIELDS) is None


def test_bytes_that_are_no_utf_8_are_not_read_by_columns():
    assert CsvText(origin="file", content=b"x,y,z\na,\xff,c\n").columns(FIELDS) is None
