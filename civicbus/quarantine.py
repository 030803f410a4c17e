"""A parked record as it stands on a quarantine topic: why it was refused, where it stood, and its bytes.

``parse(parked.value, parked.headers())`` gives the same ``Parked`` again. The value is the
refused record's, byte for byte; what civicbus adds are names, positions and codes, never values of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

from civicbus.errors import Unacceptable
from civicbus.names import Topic
from civicbus.reasons import Reason

Position = NewType("Position", str)
"""Where a record stood before it was parked: ``<topic>/<partition>/<offset>``."""

OriginalHeaders = tuple[tuple[str, bytes | None], ...]

REASON = "reason"
FIELD = "field"
DETAIL = "detail"
SOURCE_TOPIC = "source_topic"
SOURCE_PARTITION = "source_partition"
SOURCE_OFFSET = "source_offset"
SOURCE_TIMESTAMP = "source_timestamp"
ORIGINAL_KEY = "original_key"
ORIGINAL = "original."


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """One refused record. ``timestamp_ms`` is the refused record's own Kafka timestamp."""

    reason: Reason
    field: str | None = None
    detail: str = ""
    topic: Topic
    partition: int
    offset: int
    timestamp_ms: int
    original_key: bytes | None
    original_headers: OriginalHeaders = ()
    value: bytes | None

    @property
    def position(self) -> Position:
        return Position(f"{self.topic}/{self.partition}/{self.offset}")

    def key(self) -> bytes:
        """The Kafka key on the quarantine topic."""
        return self.position.encode()

    def headers(self) -> list[tuple[str, bytes | None]]:
        """The Kafka headers on the quarantine topic, the refused record's own ones behind a prefix."""
        headers: list[tuple[str, bytes | None]] = [(REASON, self.reason.value.encode())]
        if self.field is not None:
            headers.append((FIELD, self.field.encode()))
        if self.detail:
            headers.append((DETAIL, self.detail.encode()))
        headers += [
            (SOURCE_TOPIC, self.topic.encode()),
            (SOURCE_PARTITION, str(self.partition).encode()),
            (SOURCE_OFFSET, str(self.offset).encode()),
            (SOURCE_TIMESTAMP, str(self.timestamp_ms).encode()),
        ]
        if self.original_key is not None:
            headers.append((ORIGINAL_KEY, self.original_key))
        return headers + [(ORIGINAL + name, value) for name, value in self.original_headers]


def parse(value: bytes | None, headers: Iterable[tuple[str, str | bytes | None]]) -> Parked:
    """The parked record in a quarantine topic's record; raises Unacceptable where a header is missing or wrong."""
    own: dict[str, bytes | None] = {}
    original: list[tuple[str, bytes | None]] = []
    for name, given in headers:
        content = given.encode() if isinstance(given, str) else given
        if name.startswith(ORIGINAL):
            original.append((name.removeprefix(ORIGINAL), content))
        else:
            own[name] = content
    return Parked(
        reason=_reason(_text(own, REASON)),
        field=_text(own, FIELD) if FIELD in own else None,
        detail=_text(own, DETAIL) if DETAIL in own else "",
        topic=Topic(_text(own, SOURCE_TOPIC)),
        partition=_number(own, SOURCE_PARTITION),
        offset=_number(own, SOURCE_OFFSET),
        timestamp_ms=_number(own, SOURCE_TIMESTAMP),
        original_key=own.get(ORIGINAL_KEY),
        original_headers=tuple(original),
        value=value,
    )


def _text(headers: dict[str, bytes | None], name: str) -> str:
    content = headers.get(name)
    if content is None:
        raise Unacceptable(Reason.HEADER_MISSING, f"{name} is missing", field=name)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Unacceptable(Reason.HEADER_INVALID, f"{name} is not UTF-8", field=name) from None


def _number(headers: dict[str, bytes | None], name: str) -> int:
    text = _text(headers, name)
    try:
        return int(text)
    except ValueError:
        raise Unacceptable(Reason.HEADER_INVALID, f"{name} is no number", field=name) from None


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        raise Unacceptable(Reason.HEADER_INVALID, "reason is no known code", field=REASON) from None
