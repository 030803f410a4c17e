"""From records of an inbox to rows that PostgreSQL can copy. Pure but for the registry that it asks for schemas.

Promise: of several versions of a key the last one stays; every record ends up a row, a deletion or a refusal,
and a refusal says why without a value of the row.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import isfinite
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import csv

from civicbus.consumers.columns import types_of
from civicbus.errors import Unacceptable
from civicbus.names import Topic, value_subject
from civicbus.reasons import Reason
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import FRAME_BYTES, schema_id_of
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.transport.assigned import Record

UNSTORABLE = "unstorable"
"""The reason where the database, not the codec, cannot take a row."""

_UNQUOTED_NULLS = csv.WriteOptions(include_header=False, quoting_style="needed")


class Schemas(Protocol):
    """Where schemas are found by id (civicbus.schemas.registry.Registry)."""

    def schema(self, schema_id: int) -> AvroSchema: ...

    def latest(self, subject: str) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """A schema as the database sees it: the PostgreSQL type of each field."""

    schema_id: int
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one schema, as columns. ``records`` are what they came from, in the same order."""

    shaped: Shaped
    keys: Sequence[str]
    records: Sequence[Record]
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, start: int, length: int) -> Rows:
        return Rows(
            shaped=self.shaped,
            keys=self.keys[start : start + length],
            records=self.records[start : start + length],
            batch=self.batch.slice(start, length),
        )

    def csv(self) -> bytes:
        """The key and the fields in order; an empty unquoted value is NULL, a quoted one the empty string."""
        columns = [pa.array(self.keys, pa.string()), *map(_storable, self.batch.columns)]
        sink = BytesIO()
        csv.write_csv(pa.record_batch(columns, [str(place) for place in range(len(columns))]), sink, _UNQUOTED_NULLS)
        return sink.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record that is not in the table. ``detail`` names no value."""

    record: Record
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch of one inbox, ready for the table. ``keys``: every key whose row it decides."""

    rows: tuple[Rows, ...]
    deletions: tuple[Record, ...]
    refused: tuple[Refused, ...]
    keys: tuple[bytes, ...]


class Decoding:
    """Decodes the rows of a process's inboxes; keeps a codec for each schema."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._codecs: dict[int, tuple[ColumnCodec, Shaped]] = {}

    def newest(self, topic: Topic) -> Shaped | None:
        """The newest schema of a topic's rows; None where it has none yet. Raises Unavailable."""
        found = self._schemas.latest(value_subject(topic))
        return None if found is None else self._codec(found)[1]

    def prepare(self, records: Iterable[Record]) -> Prepared:
        """Raises Unavailable where the registry does not answer."""
        refused: list[Refused] = []
        deletions: list[Record] = []
        by_schema: dict[int, list[Record]] = {}
        latest = _latest(records, refused)
        for record in latest.values():
            if record.value is None:
                deletions.append(record)
                continue
            try:
                by_schema.setdefault(schema_id_of(record.value), []).append(record)
            except Unacceptable as fault:
                refused.append(_refused(record, fault))
        rows = [self._rows(schema_id, some, refused) for schema_id, some in by_schema.items()]
        return Prepared(
            rows=tuple(some for some in rows if some is not None),
            deletions=tuple(deletions),
            refused=tuple(refused),
            keys=tuple(latest),
        )

    def _rows(self, schema_id: int, records: Sequence[Record], refused: list[Refused]) -> Rows | None:
        try:
            codec, shaped = self._codec(schema_id)
        except Unacceptable as fault:
            refused += [_refused(record, fault) for record in records]
            return None
        decoded = codec.decode([record.value[FRAME_BYTES:] for record in records if record.value is not None])
        refused += [_refused(records[bad.index], bad.fault) for bad in decoded.bad]
        good = [records[index] for index in decoded.indices]
        keys = [record.key.decode() for record in good if record.key is not None]
        return Rows(shaped=shaped, keys=keys, records=good, batch=decoded.batch) if good else None

    def _codec(self, schema_id: int) -> tuple[ColumnCodec, Shaped]:
        if schema_id not in self._codecs:
            schema = self._schemas.schema(schema_id)
            shaped = Shaped(schema_id=schema_id, types=types_of(arrow_schema(schema)))
            self._codecs[schema_id] = ColumnCodec(schema), shaped
        return self._codecs[schema_id]


def key_text(key: bytes) -> str | None:
    """The key as a PostgreSQL text; None where it cannot be one, so that no row can have it."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _latest(records: Iterable[Record], refused: list[Refused]) -> dict[bytes, Record]:
    """The last record of each key; those whose key no row can have are refused."""
    latest: dict[bytes, Record] = {}
    for record in records:
        if record.key is None:
            refused.append(Refused(record=record, reason=Reason.KEY_MISSING, detail="the record has no key"))
        elif key_text(record.key) is None:
            refused.append(Refused(record=record, reason=UNSTORABLE, detail="the key is no PostgreSQL text"))
        else:
            latest[record.key] = record
    return latest


def _refused(record: Record, fault: Unacceptable) -> Refused:
    return Refused(record=record, reason=fault.reason, detail=fault.detail)


def _storable(column: pa.Array) -> pa.Array:
    """The column as CSV can carry it: bytes in PostgreSQL's hexadecimal form, nested values as JSON."""
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _texts(column, lambda value: f"\\x{value.hex()}")
    if pa.types.is_nested(kind):
        return _texts(column, lambda value: json.dumps(plain(value)))
    return column


# Arrow's values are whatever their column holds.
def _texts(column: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    values = column.to_pylist(maps_as_pydicts="strict")
    texts: pa.Array = pa.array([None if value is None else text(value) for value in values], pa.string())
    return texts


def plain(value: object) -> object:
    """A nested value as JSON has it: times, decimals and what JSON has no number for as text."""
    match value:
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else str(value)
        case bytes():
            return base64.b64encode(value).decode()
    return str(value)
