"""Whether a Python row fits a schema, and the form in which fastavro takes it.

fastavro writes some things without a word that no reader should meet: 3.7 as an int, a number of 33 bits, 1e300
as an infinite float, a local time as UTC, text for a date, an unknown field. Here each is refused, naming the
field. What is written reads back equal, but for a float, which keeps 24 bits.
"""

from __future__ import annotations

import decimal
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from uuid import UUID

from civicbus.keys import is_unicode
from civicbus.schemas.codec import logical
from civicbus.schemas.codec.defaults import row_value
from civicbus.schemas.codec.tree import (
    Array,
    Decimal,
    Enum,
    Field,
    Fixed,
    Kind,
    Logical,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)

# Takes a value and returns what fastavro is given for it.
Fit = Callable[[object], object]

_EXACT = decimal.Context(prec=80, traps=[decimal.Inexact, decimal.InvalidOperation])
_EXACT_DOUBLE = 2**53
_LIMITS = {Kind.INT: 2**31, Kind.LONG: 2**63}


class Misfit(Exception):
    """A value does not fit its type; ``path`` names its field, and the text never has the value."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.path: str | None = None

    def inside(self, step: str) -> Misfit:
        self.path = step if self.path is None else f"{step}.{self.path}"
        return self


def fit(type_: Type) -> Fit:
    """The compiled check of a type's values; it raises Misfit."""
    match type_:
        case Primitive(logical=None):
            return _PLAIN[type_.kind]
        case Primitive():
            return _LOGICAL[type_.logical]
        case Decimal():
            return _decimal(type_)
        case Fixed():
            return _fixed(type_.size)
        case Enum():
            return _enum(frozenset(type_.symbols))
        case Array():
            return _array(fit(type_.items))
        case Map():
            return _map(fit(type_.values))
        case Nullable():
            return _nullable(fit(type_.inner))
        case Record():
            return _record(type_)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise Misfit("it is no boolean")


def _integer(kind: Kind) -> Fit:
    limit = _LIMITS[kind]

    def fitted(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit:
            return value
        raise Misfit(f"it is no {kind}")

    return fitted


def _double(value: object) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT_DOUBLE:
        return float(value)
    raise Misfit("it is no double")


def _float(value: object) -> float:
    number = _double(value)
    try:
        struct.pack("<f", number)
    except OverflowError:
        raise Misfit("it is greater than a float can be") from None
    return number


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise Misfit("it is no bytes")


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise Misfit("it is no text")
    if not is_unicode(value):
        raise Misfit("it holds half a surrogate pair")
    return value


def _uuid(value: object) -> str:
    text = str(value) if isinstance(value, UUID) else value
    if isinstance(text, str) and re.fullmatch(logical.UUID_FORM, text):
        return text
    raise Misfit("it is no UUID in lower case")


def _date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise Misfit("it is no date")


def _time(unit: int) -> Fit:
    def fitted(value: object) -> time:
        if not isinstance(value, time) or value.tzinfo is not None:
            raise Misfit("it is no time of day without a zone")
        if value.microsecond % unit:
            raise Misfit("it is finer than its type")
        return value

    return fitted


def _timestamp(unit: int) -> Fit:
    def fitted(value: object) -> datetime:
        if not isinstance(value, datetime) or value.utcoffset() is None:
            raise Misfit("it is no timestamp with its zone")
        return _unit(_in_utc(value), unit)

    return fitted


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise Misfit("it is outside the years 1 to 9999") from None


def _local_timestamp(unit: int) -> Fit:
    def fitted(value: object) -> datetime:
        if not isinstance(value, datetime) or value.tzinfo is not None:
            raise Misfit("it is no timestamp without a zone")
        return _unit(value, unit)

    return fitted


def _unit(value: datetime, unit: int) -> datetime:
    if value.microsecond % unit:
        raise Misfit("it is finer than its type")
    return value


def _decimal(type_: Decimal) -> Fit:
    limit, least = 10**type_.precision, decimal.Decimal(1).scaleb(-type_.scale)

    def fitted(value: object) -> decimal.Decimal:
        if not isinstance(value, decimal.Decimal) or not value.is_finite():
            raise Misfit("it is no decimal number")
        try:
            exact = value.quantize(least, context=_EXACT)
        except (decimal.Inexact, decimal.InvalidOperation):
            raise Misfit(f"it has more than {type_.scale} digits after the point, or too many in all") from None
        if exact.scaleb(type_.scale, context=_EXACT).copy_abs() >= limit:
            raise Misfit(f"it has more than {type_.precision} digits")
        return exact

    return fitted


def _fixed(size: int) -> Fit:
    def fitted(value: object) -> bytes:
        if isinstance(value, bytes) and len(value) == size:
            return value
        raise Misfit(f"it is not {size} bytes")

    return fitted


def _enum(symbols: frozenset[str]) -> Fit:
    def fitted(value: object) -> str:
        if isinstance(value, str) and value in symbols:
            return value
        raise Misfit("it is none of the symbols")

    return fitted


def _array(item: Fit) -> Fit:
    def fitted(value: object) -> list[object]:
        if isinstance(value, list | tuple):
            return [item(one) for one in value]
        raise Misfit("it is no list")

    return fitted


def _map(inner: Fit) -> Fit:
    def fitted(value: object) -> dict[str, object]:
        if isinstance(value, Mapping):
            return {_string(key): inner(one) for key, one in value.items()}
        raise Misfit("it is no mapping")

    return fitted


def _nullable(inner: Fit) -> Fit:
    def fitted(value: object) -> object:
        return None if value is None else inner(value)

    return fitted


def _record(type_: Record) -> Fit:
    fits = [(field, field.name, fit(field.type)) for field in type_.fields]
    names = frozenset(field.name for field in type_.fields)

    def fitted(value: object) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise Misfit("it is no mapping")
        row: dict[str, object] = {}
        for field, name, inner in fits:
            try:
                row[name] = inner(value[name]) if name in value else _default(field)
            except Misfit as misfit:
                raise misfit.inside(name) from None
        if not value.keys() <= names:
            raise Misfit("the schema has no such field").inside(min(map(str, value.keys() - names)))
        return row

    return fitted


def _default(field: Field) -> object:
    if field.default is None:
        raise Misfit("it is missing and has no default")
    return row_value(field.type, field.default.value)


_PLAIN: dict[Kind, Fit] = {
    Kind.BOOLEAN: _boolean,
    Kind.INT: _integer(Kind.INT),
    Kind.LONG: _integer(Kind.LONG),
    Kind.FLOAT: _float,
    Kind.DOUBLE: _double,
    Kind.BYTES: _bytes,
    Kind.STRING: _string,
}
_LOGICAL: dict[Logical | None, Fit] = {
    Logical.DATE: _date,
    Logical.TIME_MILLIS: _time(1000),
    Logical.TIME_MICROS: _time(1),
    Logical.TIMESTAMP_MILLIS: _timestamp(1000),
    Logical.TIMESTAMP_MICROS: _timestamp(1),
    Logical.LOCAL_TIMESTAMP_MILLIS: _local_timestamp(1000),
    Logical.LOCAL_TIMESTAMP_MICROS: _local_timestamp(1),
    Logical.UUID: _uuid,
}
