"""The CloudEvents 1.0 headers of a change, in binary mode, and the two headers of a record.

Names follow the Kafka protocol binding (``ce_`` prefix). ``ce_sequence`` is an unsigned 64-bit decimal
compared as a number (DESIGN §3). Headers carry no personal data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
ID_CHARACTERS = 256
"""The longest ``ce_id``. It is the cause of every row that its change makes, which has no bound but the topic's."""
TIME_AHEAD = timedelta(minutes=5)
"""So far ahead of admission's clock a ``ce_time`` may be."""
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Kafka has no times before; a log in which one stands is never compacted again."""


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
        id=checked_id(_text(found, "ce_id")),
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
    """An RFC 3339 time with its zone, 1970 or later; raises Unacceptable for anything else."""
    try:
        return checked_time(datetime.fromisoformat(text))
    except ValueError:
        raise Unacceptable(Reason.HEADER_INVALID, "ce_time is no RFC 3339 time with a zone", field="ce_time") from None


def checked_time(moment: datetime) -> datetime:
    """An event's time in UTC; raises Unacceptable where it has no zone or is before 1970."""
    if moment.utcoffset() is None:
        raise Unacceptable(Reason.HEADER_INVALID, "ce_time has no zone", field="ce_time")
    if moment < EARLIEST:
        raise Unacceptable(Reason.HEADER_INVALID, "ce_time is before 1970", field="ce_time")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise Unacceptable(Reason.HEADER_INVALID, "ce_time is after the year 9999", field="ce_time") from None


def checked_id(text: str) -> str:
    """An event's id; raises Unacceptable where it is empty or longer than :data:`ID_CHARACTERS`."""
    if not text:
        raise Unacceptable(Reason.HEADER_MISSING, "an event id is not empty", field="ce_id")
    if len(text) > ID_CHARACTERS:
        raise Unacceptable(Reason.HEADER_INVALID, f"ce_id has more than {ID_CHARACTERS} characters", field="ce_id")
    return text


def _text(found: dict[str, bytes], name: str) -> str:
    value = found.get(name)
    if not value:
        raise Unacceptable(Reason.HEADER_MISSING, f"{name} is missing", field=name)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unacceptable(Reason.HEADER_INVALID, f"{name} is not UTF-8", field=name) from None
