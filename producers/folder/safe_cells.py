"""Cells that a spreadsheet program does not take for formulas, and back. Pure, and nothing is lost on the way.

An apostrophe goes before a cell that begins with ``= + - @``, a tab or a carriage return, and before one that
begins with apostrophes and then with one of these.
"""

from __future__ import annotations

import re

_RISKY = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def guarded(cell: str) -> str:
    return f"'{cell}" if _RISKY.match(cell) else cell


def unguarded(cell: str) -> str:
    """What :func:`guarded` was given; a cell that it did not touch stays as it is."""
    return cell[1:] if cell.startswith("'") and _RISKY.match(cell) else cell
