"""The CloudEvents 1.0 headers of a change, in binary mode, and the two headers of a record.

Names follow the Kafka protocol binding (``ce_`` prefix). ``ce_sequence`` is an unsigned 64-bit decimal
compared as a number (DESIGN §3). Headers carry no personal data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from civicbus.errors import Unacceptable
from civicbus.names import DatasetId
from civicbus.reasons import Reason

# The type that librdkafka's binding takes and gives; a value read from Kafka is bytes or None.
Headers = list[tuple[str, str | bytes | None]]

CAUSE = "cause"
SEQUENCE = "sequence"
UNSENDABLE_REASON = "civicbus_unsendable"
UNSENDABLE_FIELD = "civicbus_field"
SEQUENCE_LIMIT = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEvent:
    """The CloudEvents attributes of one change. ``time`` is when the source saw it, UTC."""

    id: str
    source: str
    type: str
    time: datetime
    sequence: int | None = None
    traceparent: str | None = None

    def headers(self) -> Headers:
        headers: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", self.id.encode()),
            ("ce_source", self.source.encode()),
            ("ce_type", self.type.encode()),
            ("ce_time", time_text(self.time).encode()),
        ]
        if self.sequence is not None:
            headers.append(("ce_sequence", str(self.sequence).encode()))
        if self.traceparent is not None:
            headers.append(("traceparent", self.traceparent.encode()))
        return headers


def cause_of(headers: Headers) -> bytes:
    """What is behind a record, from its headers; empty where they do not say."""
    for name, value in headers:
        if name == CAUSE and isinstance(value, bytes):
            return value
    return b""


def causes_of(headers: Iterable[Headers]) -> list[bytes]:
    """:func:`cause_of` each; admission writes it first."""
    return [
        value if each and each[0][0] == CAUSE and isinstance(value := each[0][1], bytes) else cause_of(each)
        for each in headers
    ]


def upserted(dataset: DatasetId) -> str:
    """The ``ce_type`` of an upsert."""
    return f"civicbus.{dataset}.upserted"


def deleted(dataset: DatasetId) -> str:
    """The ``ce_type`` of a deletion."""
    return f"civicbus.{dataset}.deleted"


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_change(headers: Iterable[tuple[str, str | bytes | None]]) -> ChangeEvent:
    """The event in a change's headers; raises Unacceptable naming the header at fault."""
    found = {name: value for name, value in headers if isinstance(value, bytes)}
    if _text(found, "ce_specversion") != "1.0":
        raise Unacceptable(Reason.HEADER_INVALID, "ce_specversion is not 1.0", field="ce_specversion")
    sequence = found.get("ce_sequence")
    traceparent = found.get("traceparent")
    return ChangeEvent(
        id=_text(found, "ce_id"),
        source=_text(found, "ce_source"),
        type=_text(found, "ce_type"),
        time=parse_time(_text(found, "ce_time")),
        sequence=None if sequence is None else parse_sequence(sequence),
        traceparent=None if traceparent is None else traceparent.decode("ascii", "replace"),
    )


def parse_sequence(text: bytes) -> int:
    """An unsigned 64-bit decimal; raises Unacceptable for anything else."""
    if text.isdigit() and len(text) <= 20 and (number := int(text)) < SEQUENCE_LIMIT:
        return number
    raise Unacceptable(Reason.HEADER_INVALID, "ce_sequence is no unsigned 64-bit decimal", field="ce_sequence")


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with its zone; raises Unacceptable for anything else."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # 0001-01-01T00:00:00+14:00 has no moment in UTC
        pass
    raise Unacceptable(Reason.HEADER_INVALID, "ce_time is no RFC 3339 time with a zone", field="ce_time")


def _text(found: dict[str, bytes], name: str) -> str:
    value = found.get(name)
    if not value:
        raise Unacceptable(Reason.HEADER_MISSING, f"{name} is missing", field=name)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unacceptable(Reason.HEADER_INVALID, f"{name} is not UTF-8", field=name) from None
