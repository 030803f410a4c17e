"""The row value of a field's default, checked against the field's type as the schema is parsed."""

from __future__ import annotations

import math
import re
import struct

from civicbus.schemas.codec import logical
from civicbus.schemas.codec.tree import (
    Array,
    Decimal,
    Enum,
    Fixed,
    Json,
    Kind,
    Logical,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)

_INTEGERS = {Kind.INT: 2**31, Kind.LONG: 2**63}


class BadDefault(Exception):
    """The default does not fit its type; the text says how."""


def row_value(type_: Type, default: Json) -> object:
    """What a row holds where the default is taken; raises BadDefault where it does not fit."""
    match type_, default:
        case Nullable(null_first=True), None:
            return None
        case Nullable(inner=inner, null_first=False), _:
            return row_value(inner, default)
        case Array(items=items), list():
            return [row_value(items, item) for item in default]
        case Map(values=values), dict():
            return {_text(key): row_value(values, value) for key, value in default.items()}
        case Record(), dict():
            return _record(type_, default)
    return _leaf(type_, default)


def _leaf(type_: Type, default: Json) -> object:
    match type_, default:
        case Primitive(), _:
            return _primitive(type_, default)
        case Decimal(), str():
            return _decimal(type_, default)
        case Fixed(size=size), str():
            return _bytes(default, size)
        case Enum(symbols=symbols), str() if default in symbols:
            return default
    raise BadDefault("the default does not fit the type; a union's default fits its first branch")


def _decimal(type_: Decimal, default: str) -> object:
    unscaled = _bytes(default, None if type_.fixed is None else type_.fixed.size)
    if not logical.fits(unscaled, type_.precision):
        raise BadDefault(f"the default has more than {type_.precision} digits")
    return logical.decimal_of(unscaled, type_.scale)


def _record(record: Record, default: dict[str, Json]) -> dict[str, object]:
    row: dict[str, object] = {}
    for field in record.fields:
        if field.name in default:
            row[field.name] = row_value(field.type, default[field.name])
        elif field.default is not None:
            row[field.name] = row_value(field.type, field.default.value)
        else:
            raise BadDefault(f"the default lacks {field.name}")
    return row


def _primitive(type_: Primitive, default: Json) -> object:
    match type_.kind, default:
        case Kind.BOOLEAN, bool():
            return default
        case ((Kind.INT | Kind.LONG), int()) if not isinstance(default, bool):
            return _integer(type_, default)
        case ((Kind.FLOAT | Kind.DOUBLE), (int() | float())) if not isinstance(default, bool):
            return _floating(type_.kind, default)
        case Kind.BYTES, str():
            return _bytes(default, None)
        case Kind.STRING, str():
            if type_.logical is Logical.UUID and not re.fullmatch(logical.UUID_FORM, default):
                raise BadDefault("the default is no UUID in lower case")
            return _text(default)
    raise BadDefault(f"the default is no {type_.kind}")


def _integer(type_: Primitive, default: int) -> object:
    limit = _INTEGERS[type_.kind]
    if not -limit <= default < limit:
        raise BadDefault(f"the default is no {type_.kind}")
    if type_.logical is None:
        return default
    low, high = logical.RANGES[type_.logical]
    if not low <= default <= high:
        raise BadDefault(f"the default is outside {type_.logical}")
    return logical.value_of(type_.logical, default)


def _floating(kind: Kind, default: float) -> float:
    try:
        number = float(default)
        if kind is Kind.FLOAT:
            number = float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadDefault(f"the default is no {kind}")
    return number


def _bytes(default: str, size: int | None) -> bytes:
    try:
        value = default.encode("latin-1")
    except UnicodeEncodeError:
        raise BadDefault("the default holds characters above U+00FF, which are no bytes") from None
    if size is not None and len(value) != size:
        raise BadDefault(f"the default is not {size} bytes long")
    return value


def _text(default: str) -> str:
    try:
        default.encode()
    except UnicodeEncodeError:
        raise BadDefault("the default holds half a surrogate pair") from None
    return default
