"""The record key as text: one injective encoding per type, defined here and nowhere else.

One key field: its canonical text. Several: a JSON array of the canonical texts, without spaces. The
canonical texts: a string is itself; an integer is its decimal digits; a boolean is ``true`` or ``false``;
a date is YYYY-MM-DD; a timestamp is UTC ``YYYY-MM-DDTHH:MM:SS.ffffffZ``; a UUID is its lower-case form.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

KEY_BYTES = 16 * 1024
"""The longest record key; with it, a row of the largest size still fits the topics."""

KeyValue = str | int | bool | date | datetime | UUID


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can say it: half a surrogate pair stands for nothing."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def canonical_text(value: KeyValue) -> str:
    """The canonical text of one key field; injective among values of one type."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case date():
            return value.isoformat()
        case UUID():
            return str(value)


def record_key(values: Sequence[KeyValue]) -> bytes:
    """The Kafka key of the record whose key fields have these values, in the catalogue's order."""
    if len(values) == 1:
        return canonical_text(values[0]).encode()
    return joined_key([canonical_text(value) for value in values])


def joined_key(texts: Sequence[str]) -> bytes:
    """The Kafka key of a record with several key fields, from their canonical texts."""
    return json.dumps(list(texts), ensure_ascii=False, separators=(",", ":")).encode()
