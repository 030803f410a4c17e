"""Which text a CSV file's bytes are: its encoding and its separator, by fixed rules. Pure.

UTF-8 where the bytes are UTF-8, otherwise GB18030 where they are that, otherwise nothing is guessed. The
separator is the one under which most headings are columns of the dataset.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from enum import StrEnum

from civicbus.producers.csv_text import BYTE_ORDER_MARK, CsvText
from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.schemas.datasets import Dataset

SEPARATORS = (",", ";", "\t")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HEADER_CHARACTERS = 65_536


class Encoding(StrEnum):
    """Named as Python names them, so that a copy can be written in the same."""

    UTF_8 = "utf-8"
    UTF_8_MARKED = "utf-8-sig"
    GB18030 = "gb18030"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A file's text and the encoding that it came in."""

    text: CsvText
    encoding: Encoding


def read_text(content: bytes, origin: str, dataset: Dataset) -> Read:
    """Raises FileRefused where the bytes are neither UTF-8 nor GB18030."""
    encoding, text = _decoded(content)
    return Read(
        text=CsvText(origin=origin, content=text, separator=_separator(text, dataset)),
        encoding=encoding,
    )


def _decoded(content: bytes) -> tuple[Encoding, bytes]:
    """The encoding, and the text in UTF-8 without a mark."""
    if content.startswith(BYTE_ORDER_MARK):
        return Encoding.UTF_8_MARKED, _checked(content.removeprefix(BYTE_ORDER_MARK))
    if content.startswith(_WIDE_MARKS):
        raise FileRefused(Fault.ENCODING, line=1)
    try:
        return Encoding.UTF_8, _checked(content)
    except FileRefused as no_utf_8:
        try:
            return Encoding.GB18030, content.decode("gb18030").encode("utf-8")
        except UnicodeError:
            raise no_utf_8 from None


def _checked(content: bytes) -> bytes:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileRefused(Fault.ENCODING, line=content.count(b"\n", 0, error.start) + 1) from None
    return content


def _separator(text: bytes, dataset: Dataset) -> str:
    known = dataset.columns()
    start = text[:_HEADER_CHARACTERS].decode("utf-8", "ignore")

    def columns(separator: str) -> int:
        header = next(csv.reader(io.StringIO(start, newline=""), delimiter=separator), [])
        return sum(cell.strip() in known for cell in header)

    return max(SEPARATORS, key=columns)
