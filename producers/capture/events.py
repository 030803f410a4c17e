"""What Debezium says of a table, as typed events. Pure.

Debezium's connector is named after the run that it works for (``generation-run``), so every event tells which
snapshot it follows and which connector sent it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

UNAVAILABLE = "__civicbus_value_is_not_in_the_log"
"""What stands for a large value that did not change and that the log does not repeat."""

Columns = Mapping[str, JsonValue]

_STANDING_IN = frozenset({UNAVAILABLE, base64.b64encode(UNAVAILABLE.encode()).decode()})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SNAPSHOT = "Initial Snapshot"
_COMPLETED = "COMPLETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an event comes from: the snapshot that it follows, the connector's run, the place in the log.

    A row of the snapshot itself has the log position 0, below all that is streamed after it: a transaction that
    began before the snapshot and ended after it writes at positions below the snapshot's own.
    """

    generation: int
    run: str
    lsn: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A row as it stands now, and as it stood before where the log has that."""

    origin: Origin
    before: Columns | None
    after: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A row that was deleted."""

    origin: Origin
    before: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """All rows are gone: TRUNCATE."""

    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Every row of the snapshot has been told."""

    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A record that is none of Debezium's."""


Event = Seen | Gone | Emptied | Complete | Unreadable


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    snapshot: str = "false"
    lsn: int | None = None
    ts_us: int


class _Notice(BaseModel):
    model_config = ConfigDict(frozen=True)

    connector_name: str


class _Record(BaseModel):
    """A change of a row, or a notice of how the snapshot goes."""

    model_config = ConfigDict(frozen=True)

    op: str | None = None
    before: dict[str, JsonValue] | None = None
    after: dict[str, JsonValue] | None = None
    source: _Source | None = None
    type: str | None = None
    aggregate_type: str | None = None
    additional_data: _Notice | None = None
    timestamp: int = 0


def connector_name(generation: int, run: str) -> str:
    """What Debezium's connector is called in its events."""
    return f"{generation}-{run}"


def event_of(value: bytes | None) -> Event | None:
    """What a record says; None for heartbeats and for notices that are no news."""
    try:
        record = _Record.model_validate_json(value or b"{}")
        return _change_of(record) if record.op is not None else _notice_of(record)
    except (ValidationError, ValueError):
        return Unreadable()


def generation_of(name: str) -> int:
    """The generation in a connector's name; raises ValueError where it has none."""
    return int(name.partition("-")[0])


def is_unavailable(value: JsonValue) -> bool:
    """Whether this only stands for a value; it does so in text, in bytes and in arrays."""
    return value in _STANDING_IN if isinstance(value, str) else value == [UNAVAILABLE]


def _change_of(record: _Record) -> Event | None:
    source, after, before = record.source, record.after, record.before
    if source is None:
        return Unreadable()
    snapshot = source.snapshot not in ("false", "incremental")
    origin = _origin(source.name, 0 if snapshot else source.lsn or 0, source.ts_us)
    match record.op:
        case "r" | "c" | "u" if after is not None:
            return Seen(origin=origin, before=before, after=_completed(after, before))
        case "d" if before is not None:
            return Gone(origin=origin, before=before)
        case "t":
            return Emptied(origin=origin)
        case "m":
            return None
    return Unreadable()


def _notice_of(record: _Record) -> Event | None:
    if (record.aggregate_type, record.type) != (_SNAPSHOT, _COMPLETED) or record.additional_data is None:
        return None
    return Complete(origin=_origin(record.additional_data.connector_name, 0, record.timestamp * 1_000))


def _origin(name: str, lsn: int, at_us: int) -> Origin:
    return Origin(generation=generation_of(name), run=name, lsn=lsn, at=_EPOCH + timedelta(microseconds=at_us))


def _completed(after: Columns, before: Columns | None) -> Columns:
    """Large values that did not change are taken from the row before, which REPLICA IDENTITY FULL has whole."""
    if before is None or not any(map(is_unavailable, after.values())):
        return after
    return {name: before.get(name, value) if is_unavailable(value) else value for name, value in after.items()}
