"""JSON as the rows that the codecs take, strictly: one form for each type, nothing guessed, nothing lost.

Dates, times, decimals and bytes stand as text; a number with a fraction is read exactly before its type says what
it is. What has no form of its own here (text, whole numbers, booleans, symbols) is held against its type by
``conform``, as every row is.
"""

from __future__ import annotations

import base64
import binascii
import decimal
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.conform import Misfit
from civicbus.schemas.codec.schema import AvroSchema
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

# Takes what a JSON text has and returns the row's value.
Read = Callable[[object], object]

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_FULL_DATE = re.compile(_DATE)
_FULL_CLOCK = re.compile(_CLOCK)
_MOMENT = re.compile(rf"{_DATE}T{_CLOCK}(?:Z|[+-][0-9]{{2}}:[0-9]{{2}})")
_LOCAL_MOMENT = re.compile(rf"{_DATE}T{_CLOCK}")


class NotJson(Exception):
    """The text is no JSON that one reader would take as another does; ``position`` counts its bytes."""

    def __init__(self, detail: str, position: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.position = position


def parse_json(text: bytes) -> object:
    """The value of a JSON text in UTF-8; raises NotJson, also for NaN and for a name that an object has twice."""
    try:
        return json.loads(
            text.decode(), parse_float=decimal.Decimal, parse_constant=_no_constant, object_pairs_hook=_object
        )
    except UnicodeDecodeError as error:
        raise NotJson("this is not UTF-8", error.start) from None
    except json.JSONDecodeError as error:
        raise NotJson(error.msg, len(error.doc[: error.pos].encode("utf-8", "replace"))) from None
    except (ValueError, decimal.InvalidOperation):
        raise NotJson("a number has more digits than any type takes") from None
    except RecursionError:
        raise NotJson("the values are nested too deeply") from None


class RowReader:
    """Reads the JSON object of a row of one schema; fields that it lacks are left to their defaults."""

    def __init__(self, schema: AvroSchema) -> None:
        self._read = _record(schema.record)

    def __call__(self, value: object) -> Mapping[str, object]:
        """Raises Unacceptable with UNREADABLE_ROW and the field that has not the form of its type."""
        if not isinstance(value, dict):
            raise Unacceptable(Reason.UNREADABLE_ROW, "a record is a JSON object")
        try:
            row = self._read(value)
        except Misfit as misfit:
            raise Unacceptable(Reason.UNREADABLE_ROW, misfit.detail, field=misfit.path) from None
        return row


def _no_constant(_: str) -> object:
    raise NotJson("NaN and Infinity are no JSON")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("an object has a name twice")
    return found


def _reader(type_: Type) -> Read | None:
    """How a type's values are read; None where the row has what the JSON has."""
    match type_:
        case Primitive(logical=None):
            return _PLAIN.get(type_.kind)
        case Primitive():
            return _LOGICAL.get(type_.logical)
        case Decimal():
            return _decimal
        case Fixed():
            return _bytes
        case Enum():
            return None
        case Array(items=inner):
            return _array(_reader(inner))
        case Map(values=inner):
            return _map(_reader(inner))
        case Nullable(inner=inner):
            return _nullable(_reader(inner))
        case Record():
            return _inner_record(_record(type_))


def _record(type_: Record) -> Callable[[dict[str, object]], dict[str, object]]:
    reads = tuple(_reads(type_.fields))

    def read(value: dict[str, object]) -> dict[str, object]:
        row = value.copy()
        for name, inner in reads:
            if name in row:
                try:
                    row[name] = inner(row[name])
                except Misfit as misfit:
                    raise misfit.inside(name) from None
        return row

    return read


def _reads(fields: tuple[Field, ...]) -> Iterator[tuple[str, Read]]:
    for field in fields:
        inner = _reader(field.type)
        if inner is not None:
            yield field.name, inner


def _inner_record(read: Callable[[dict[str, object]], dict[str, object]]) -> Read:
    return lambda value: read(value) if isinstance(value, dict) else value


def _nullable(inner: Read | None) -> Read | None:
    if inner is None:
        return None
    return lambda value: None if value is None else inner(value)


def _array(inner: Read | None) -> Read | None:
    if inner is None:
        return None
    return lambda value: [inner(one) for one in value] if isinstance(value, list) else value


def _map(inner: Read | None) -> Read | None:
    if inner is None:
        return None
    return lambda value: {key: inner(one) for key, one in value.items()} if isinstance(value, dict) else value


def _double(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        number = float(value)
        if number in (float("inf"), float("-inf")):
            raise Misfit("it is greater than a double can be")
        return number
    return value


def _decimal(value: object) -> object:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return decimal.Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return decimal.Decimal(value)
    if isinstance(value, decimal.Decimal):
        return value
    raise Misfit('it is no decimal number, such as "12.50"')


def _bytes(value: object) -> object:
    try:
        return base64.b64decode(_text(value), validate=True)
    except (binascii.Error, ValueError):
        raise Misfit("it is no base64") from None


def _date(value: object) -> object:
    return _parsed(value, _FULL_DATE, date.fromisoformat, "it is no date, such as 2024-02-29")


def _time(value: object) -> object:
    return _parsed(value, _FULL_CLOCK, time.fromisoformat, "it is no time of day, such as 10:00:00")


def _timestamp(value: object) -> object:
    wanted = "it is no timestamp with its zone, such as 2024-02-29T10:00:00+08:00"
    return _parsed(value, _MOMENT, datetime.fromisoformat, wanted)


def _local_timestamp(value: object) -> object:
    wanted = "it is no timestamp without a zone, such as 2024-02-29T10:00:00"
    return _parsed(value, _LOCAL_MOMENT, datetime.fromisoformat, wanted)


def _parsed(value: object, form: re.Pattern[str], parse: Callable[[str], object], otherwise: str) -> object:
    text = _text(value)
    if form.fullmatch(text):
        try:
            return parse(text)
        except ValueError:
            pass
    raise Misfit(otherwise)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise Misfit("it is no text")


_PLAIN: dict[Kind, Read] = {Kind.FLOAT: _double, Kind.DOUBLE: _double, Kind.BYTES: _bytes}
_LOGICAL: dict[Logical | None, Read] = {
    Logical.DATE: _date,
    Logical.TIME_MILLIS: _time,
    Logical.TIME_MICROS: _time,
    Logical.TIMESTAMP_MILLIS: _timestamp,
    Logical.TIMESTAMP_MICROS: _timestamp,
    Logical.LOCAL_TIMESTAMP_MILLIS: _local_timestamp,
    Logical.LOCAL_TIMESTAMP_MICROS: _local_timestamp,
}
