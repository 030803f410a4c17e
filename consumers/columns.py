"""Which PostgreSQL columns a view's schema asks for, and how a table follows when the schema changes.

Pure. A column's name is its field's, so that a query over the table reads like the agreement's SELECT; only
what PostgreSQL cannot take (a system column's name, more than 63 bytes) gets another, always the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import pyarrow as pa

LONGEST_NAME = 63
KEY_COLUMN = "record_key"

_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_TYPES: dict[pa.DataType, str] = {
    pa.string(): "text",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.binary(): "bytea",
    pa.date32(): "date",
    pa.time32("ms"): "time without time zone",
    pa.time64("us"): "time without time zone",
    pa.timestamp("ms", "UTC"): "timestamp with time zone",
    pa.timestamp("us", "UTC"): "timestamp with time zone",
    pa.timestamp("ms"): "timestamp without time zone",
    pa.timestamp("us"): "timestamp without time zone",
}
# Avro's promotions; PostgreSQL casts each of them in place.
_WIDER = {
    "integer": {"bigint", "real", "double precision"},
    "bigint": {"real", "double precision"},
    "real": {"double precision"},
}


class Column(NamedTuple):
    """A column for one field. ``type`` is written as PostgreSQL's ``format_type`` writes it."""

    field: str
    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A table as it stands: its key column, and the types of the others by name."""

    key: str
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What must happen to a table before rows with ``columns`` go in. ``conflicts`` cannot be altered in place."""

    columns: tuple[Column, ...]
    added: tuple[Column, ...] = ()
    widened: tuple[Column, ...] = ()
    conflicts: tuple[str, ...] = ()


def types_of(schema: pa.Schema) -> dict[str, str]:
    """The PostgreSQL type of each field, in order; what has no type of its own is jsonb."""
    return {name: _type(kind) for name, kind in zip(schema.names, schema.types, strict=True)}


def new_shape(fields: Mapping[str, str]) -> Shape:
    """The table for a schema: the view's own names win, the key column steps aside."""
    names = _names(fields, taken=())
    key = _free(KEY_COLUMN, set(names.values()))
    return Shape(key=key, types={names[field]: kind for field, kind in fields.items()})


def fit(shape: Shape, fields: Mapping[str, str]) -> Fit:
    """How rows of a schema go into a table that is there."""
    names = _names(fields, taken=(shape.key,))
    columns = tuple(Column(field, names[field], kind) for field, kind in fields.items())
    known = [column for column in columns if column.name in shape.types]
    widened = tuple(column for column in known if column.type in _WIDER.get(shape.types[column.name], ()))
    return Fit(
        columns=columns,
        added=tuple(column for column in columns if column.name not in shape.types),
        widened=widened,
        conflicts=tuple(column.name for column in known if not _takes(shape.types[column.name], column.type)),
    )


def widest(shape: Shape, change: Fit) -> Shape:
    """The table after its additions and widenings."""
    return Shape(key=shape.key, types={**shape.types, **{c.name: c.type for c in (*change.added, *change.widened)}})


def _takes(have: str, wanted: str) -> bool:
    """Whether a column of type ``have`` holds ``wanted``, at most after widening."""
    return have == wanted or wanted in _WIDER.get(have, ()) or have in _WIDER.get(wanted, ())


def _names(fields: Iterable[str], taken: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for field in fields:
        names[field] = _free(_possible(field), {*taken, *names.values()})
    return names


def _possible(field: str) -> str:
    """The field's name, or one near it that PostgreSQL takes."""
    if field in _SYSTEM_COLUMNS:
        return f"{field}_"
    if len(field.encode()) <= LONGEST_NAME:
        return field
    return f"{field.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}_{sha256(field.encode()).hexdigest()[:8]}"


def _free(name: str, taken: set[str]) -> str:
    suffix = ""
    while (candidate := name[: LONGEST_NAME - len(suffix)] + suffix) in taken:
        suffix += "_"
    return candidate


def _type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if pa.types.is_fixed_size_binary(kind):
        return "bytea"
    return _TYPES.get(kind, "jsonb")
