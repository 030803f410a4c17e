"""The cells of a CSV text, read by columns where nothing is in doubt and row by row otherwise.

Promise: both ways give the same cells. Columns are taken only where every quote opens or closes a cell, every
row has as many cells as the header, and no line ends in another way than LF or CR LF; what else stands in a text
is read by the csv module, which names the line of a fault.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from civicbus.errors import ConfigurationError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CELL_CHARACTERS = 8 * 2**20
_BLOCK_BYTES = 4 * 2**20
_QUOTE, _LF, _CR = b'"'[0], b"\n"[0], b"\r"[0]
Marks = npt.NDArray[np.bool_]


class BrokenCsv(ConfigurationError):
    """The text is no CSV from this line on."""

    def __init__(self, message: str, *, mend: str, line: int) -> None:
        super().__init__(message, mend=mend)
        self.line = line


class NotUtf8(BrokenCsv):
    """The bytes are no UTF-8 behind this line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvText:
    """A text in UTF-8 without a byte order mark; ``origin`` is what faults call it."""

    origin: str
    content: bytes
    separator: str = ","

    @contextmanager
    def rows(self) -> Iterator[Iterator[list[str]]]:
        """Every row with its cells, the header first; raises BrokenCsv where they cannot be told apart."""
        limit = csv.field_size_limit(_CELL_CHARACTERS)
        lines = io.TextIOWrapper(io.BytesIO(self.content), encoding="utf-8", newline="")
        reader = csv.reader(lines, strict=True, delimiter=self.separator)
        try:
            yield reader
        except csv.Error as error:
            raise BrokenCsv(
                f"{self.origin}, line {reader.line_num}: {error}",
                mend="correct the quotes there; nothing was published",
                line=reader.line_num,
            ) from None
        except UnicodeDecodeError:
            raise NotUtf8(
                f"{self.origin}, after line {reader.line_num}: this is not UTF-8",
                mend="save the file as UTF-8",
                line=reader.line_num,
            ) from None
        finally:
            csv.field_size_limit(limit)

    def columns(self, fields: Sequence[str | None]) -> pl.DataFrame | None:
        """The texts below the header by their fields, None where anything is in doubt."""
        rows = self._rows_of(len(fields))
        if rows is None:
            return None
        try:
            frame = pl.read_csv(self.content, separator=self.separator, infer_schema=False, raise_if_empty=False)
        except pl.exceptions.PolarsError:
            return None
        if frame.shape != (rows - 1, len(fields)):
            return None
        frame.columns = [field or f"civicbus:column {place}" for place, field in enumerate(fields)]
        return frame.select(field for field in fields if field)

    def _rows_of(self, columns: int) -> int | None:
        """How many rows there are where each has so many cells, the header among them; None where that is in doubt."""
        if columns < 2 or b"\0" in self.content or self.content.count(b"\r") != self.content.count(b"\r\n"):
            return None
        rows = 0
        for block in _blocks(self.content):
            found = _rows_in(block, self.separator.encode()[0], columns)
            if found is None:
                return None
            rows += found
        return rows


def _blocks(content: bytes) -> Iterator[bytes]:
    """The content cut where a line ends outside quotes; the last block gets the end of line that it may lack."""
    start = 0
    while start < len(content):
        end, quotes = start, 0
        while end < len(content) and (end - start < _BLOCK_BYTES or quotes % 2):
            cut = content.find(b"\n", max(end, start + _BLOCK_BYTES)) + 1 or len(content)
            quotes += content.count(b'"', end, cut)
            end = cut
        block = content[start:end]
        yield block if block.endswith(b"\n") else block + b"\n"
        start = end


def _rows_in(block: bytes, separator: int, columns: int) -> int | None:
    codes = np.frombuffer(block, np.uint8)
    quotes = codes == _QUOTE
    if not _is_clean(codes, np.flatnonzero(quotes), separator):
        return None
    outside = ~np.logical_xor.accumulate(quotes)
    ends = np.flatnonzero((codes == _LF) & outside)
    separators = np.cumsum((codes == separator) & outside)
    is_even = bool((np.diff(separators[ends], prepend=0) == columns - 1).all())
    is_short = np.diff(ends, prepend=0).max() < _CELL_CHARACTERS
    return len(ends) if is_even and is_short else None


def _is_clean(codes: npt.NDArray[np.uint8], quotes: npt.NDArray[np.intp], separator: int) -> bool:
    """Whether every quote opens a cell, closes one, or is one of two that stand for one inside a cell."""
    if len(quotes) % 2:
        return False
    framed = np.concatenate(([_LF], codes, [_LF]))
    before, after = framed[quotes[::2]], framed[quotes[1::2] + 2]
    return bool(np.isin(before, (separator, _LF, _QUOTE)).all() and np.isin(after, (separator, _LF, _CR, _QUOTE)).all())
