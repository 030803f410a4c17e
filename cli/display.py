"""Text from records and databases as a terminal may show it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.text import Text

from civicbus.consumers.rows import plain


def printable(text: str) -> str:
    """``text`` with everything that steers a terminal or turns its direction written as an escape."""
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def row_json(row: Mapping[str, object]) -> str:
    """A row as one line of JSON."""
    return json.dumps(plain(dict(row)), ensure_ascii=False)


def cell(value: object) -> Text:
    """A value as a cell of a table: no mark-up, nothing hidden."""
    if value is None:
        return Text("NULL", style="dim")
    return Text(printable(value if isinstance(value, str) else str(value)))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
