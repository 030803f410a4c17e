"""A table's columns, as Debezium writes them in JSON, become the fields of a record. Pure.

Nothing is rounded or guessed: a value that its field cannot hold makes the row unreadable, and the field is
named, never the value.
"""

from __future__ import annotations

import base64
import decimal
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from functools import partial

from pydantic import JsonValue

from civicbus.errors import Unacceptable
from civicbus.producers.capture.events import UNAVAILABLE, Columns, is_unavailable
from civicbus.reasons import Reason
from civicbus.schemas.codec.tree import Decimal, Enum, Kind, Logical, Nullable, Primitive, Type
from civicbus.schemas.datasets import Dataset

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a local timestamp has no zone
_DAYS_OF_EPOCH = date(1970, 1, 1).toordinal()

Read = Callable[[JsonValue], object]
"""Gives the value; raises ValueError, TypeError, OverflowError or ArithmeticError where there is none."""

_FAULTS = (ValueError, TypeError, OverflowError, ArithmeticError, LookupError)


class RowReader:
    """Reads rows of one table as records of one dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._fields = tuple(
            (field.name, column_of(dataset, field.name), _reader(field.type)) for field in dataset.schema.record.fields
        )
        self._key = tuple(field for field in self._fields if field[0] in dataset.key)

    def record(self, columns: Columns) -> dict[str, object]:
        """The whole record; raises Unacceptable naming the field that the row does not give."""
        return _read(self._fields, columns)

    def key(self, columns: Columns) -> dict[str, object]:
        """The key fields alone."""
        return _read(self._key, columns)


def column_of(dataset: Dataset, field: str) -> str:
    """The column that a field is read from."""
    return field if dataset.capture is None else dataset.capture.columns.get(field, field)


def texts_of(columns: Columns) -> dict[str, str | None]:
    """A row that cannot be sent, as texts."""
    return {
        name: value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in columns.items()
    }


def _read(fields: tuple[tuple[str, str, Read], ...], columns: Columns) -> dict[str, object]:
    record: dict[str, object] = {}
    for name, column, read in fields:
        value = columns.get(column, UNAVAILABLE)
        if is_unavailable(value):
            raise Unacceptable(Reason.UNREADABLE_ROW, f"the log has no value of {column}", field=name)
        try:
            record[name] = None if value is None else read(value)
        except _FAULTS:
            raise Unacceptable(Reason.UNREADABLE_ROW, f"{column} does not fit {name}", field=name) from None
    return record


def _reader(type_: Type) -> Read:
    match type_:
        case Nullable():
            return _reader(type_.inner)
        case Primitive(logical=Logical() as logical):
            return _LOGICAL[logical]
        case Primitive():
            return _PLAIN[type_.kind]
        case Decimal():
            return partial(_decimal, type_.scale)
        case Enum():
            return _exact_text
    raise AssertionError(f"rows are flat, and {type_} is not")


def _text(value: JsonValue) -> str:
    """Text as it stands; arrays and JSON as their text."""
    match value:
        case str():
            return value
        case list() | dict() | bool() | int():
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    raise TypeError


def _exact_text(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: JsonValue) -> int:
    """A whole number; numeric columns come as text."""
    if isinstance(value, str):
        exact = decimal.Decimal(value)
        if exact != exact.to_integral_value():
            raise ValueError
        return int(exact)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _number(value: JsonValue) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _boolean(value: JsonValue) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _bytes(value: JsonValue) -> bytes:
    return base64.b64decode(_exact_text(value), validate=True)


def _decimal(scale: int, value: JsonValue) -> decimal.Decimal:
    """The same number with the field's digits behind the point; never rounded."""
    given = decimal.Decimal(value if isinstance(value, str) else _integer(value))
    if not given.is_finite():
        raise ValueError
    with decimal.localcontext(decimal.Context(prec=100, traps=[decimal.Inexact, decimal.InvalidOperation])):
        return given.quantize(decimal.Decimal(1).scaleb(-scale))


def _date(value: JsonValue) -> date:
    return date.fromordinal(_DAYS_OF_EPOCH + _whole(value))


def _time(value: JsonValue) -> time:
    at = _EPOCH + timedelta(microseconds=_whole(value))
    if at.date() != _EPOCH.date():
        raise ValueError
    return at.time()


def _local(value: JsonValue) -> datetime:
    return _EPOCH + timedelta(microseconds=_whole(value))


def _moment(value: JsonValue) -> datetime:
    """A moment with its zone; a column without one does not say when it was."""
    moment = datetime.fromisoformat(_exact_text(value))
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _whole(value: JsonValue) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


_PLAIN: Mapping[Kind, Read] = {
    Kind.BOOLEAN: _boolean,
    Kind.INT: _integer,
    Kind.LONG: _integer,
    Kind.FLOAT: _number,
    Kind.DOUBLE: _number,
    Kind.BYTES: _bytes,
    Kind.STRING: _text,
}
_LOGICAL: Mapping[Logical, Read] = {
    Logical.DATE: _date,
    Logical.TIME_MILLIS: _time,
    Logical.TIME_MICROS: _time,
    Logical.TIMESTAMP_MILLIS: _moment,
    Logical.TIMESTAMP_MICROS: _moment,
    Logical.LOCAL_TIMESTAMP_MILLIS: _local,
    Logical.LOCAL_TIMESTAMP_MICROS: _local,
    Logical.UUID: _exact_text,
}
