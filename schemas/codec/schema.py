"""An Avro schema that may be used on the bus: checked, and written in one canonical text.

Two texts of one schema (other white space, order of attributes, documentation, custom attributes) have one
canonical text and one fingerprint. Kept are all that decides what bytes and rows mean: full names, fields,
symbols, sizes, logical types, defaults and aliases.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

from civicbus.schemas.codec.parse import parse
from civicbus.schemas.codec.tree import (
    Array,
    Attributes,
    Decimal,
    Enum,
    Field,
    Fixed,
    Json,
    Kind,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)


@dataclass(frozen=True)
class AvroSchema:
    """The schema of one kind of row: its canonical text and its typed tree. Equal schemas have equal texts."""

    text: str
    record: Record = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> AvroSchema:
        """The schema in this text; raises Unacceptable with SCHEMA_UNSAFE, naming the place."""
        record = parse(text)
        return cls(_canonical_text(record), record)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The full name of the record."""
        return self.record.name

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of the row's fields, in order."""
        return tuple(one.name for one in self.record.fields)


def _canonical_text(record: Record) -> str:
    return json.dumps(document(record, set()), ensure_ascii=False, separators=(",", ":"))


def document(type_: Type, defined: set[str]) -> Json:
    """The JSON of a type; a named one in full the first time, by its name after that."""
    match type_:
        case Primitive(logical=None):
            return type_.kind.value
        case Primitive():
            return {"type": type_.kind.value, "logicalType": str(type_.logical)}
        case Array():
            return {"type": "array", "items": document(type_.items, defined)}
        case Map():
            return {"type": "map", "values": document(type_.values, defined)}
        case Nullable():
            inner = document(type_.inner, defined)
            return ["null", inner] if type_.null_first else [inner, "null"]
        case Decimal():
            return _decimal(type_, defined)
        case Fixed() | Enum() | Record():
            return _named(type_, defined)


def _decimal(decimal: Decimal, defined: set[str]) -> Json:
    carrier: str | Attributes = {"type": "bytes"} if decimal.fixed is None else _named(decimal.fixed, defined)
    if isinstance(carrier, str):
        return carrier
    logical: Attributes = {"logicalType": "decimal", "precision": decimal.precision, "scale": decimal.scale}
    return carrier | logical


def _named(type_: Fixed | Enum | Record, defined: set[str]) -> str | Attributes:
    if type_.name in defined:
        return type_.name
    defined.add(type_.name)
    named: Attributes = {"name": type_.name, **_aliases(type_.aliases)}
    match type_:
        case Fixed():
            return named | {"type": "fixed", "size": type_.size}
        case Enum():
            default: Attributes = {} if type_.default is None else {"default": type_.default}
            return named | {"type": "enum", "symbols": list(type_.symbols)} | default
        case Record():
            return named | {"type": "record", "fields": [_field(one, defined) for one in type_.fields]}


def _field(one: Field, defined: set[str]) -> Json:
    own: Attributes = {"name": one.name, "type": document(one.type, defined)}
    if one.default is not None:
        own["default"] = _default(one.type, one.default.value)
    return own | _aliases(one.aliases)


def _aliases(aliases: tuple[str, ...]) -> Attributes:
    return {"aliases": [*sorted(set(aliases))]} if aliases else {}


def _default(type_: Type, default: Json) -> Json:
    """A default in the one form of its type: 1 and 1.0 are the same double, fields stand in order."""
    match type_, default:
        case Primitive(kind=Kind.FLOAT | Kind.DOUBLE), int():
            return float(default)
        case Array(items=items), list():
            return [_default(items, item) for item in default]
        case Map(values=values), dict():
            return {key: _default(values, default[key]) for key in sorted(default)}
        case Record(fields=fields), dict():
            return {one.name: _default(one.type, default[one.name]) for one in fields if one.name in default}
        case Nullable(inner=inner), _ if default is not None:
            return _default(inner, default)
    return default
