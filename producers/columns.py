"""Reads a column, of texts or of a frame's own types, as the values of a field, strictly.

A text has one form per type and nothing is guessed: dates are YYYY-MM-DD, moments carry their zone, numbers
have no thousands separators. What does not fit becomes null; who calls sees that it was none before. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time

import polars as pl

from civicbus.errors import ConfigurationError
from civicbus.schemas.codec import tree
from civicbus.schemas.codec.logical import UUID_FORM
from civicbus.schemas.codec.tree import Kind, Logical

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_ZONE = r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
_MILLIS, _MICROS = r"(?:\.[0-9]{1,3})?", r"(?:\.[0-9]{1,6})?"
_WHOLE = r"^-?[0-9]{1,19}$"
_FLOAT = r"^-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_MOMENTS = {
    Logical.TIME_MILLIS: rf"^{_CLOCK}{_MILLIS}$",
    Logical.TIME_MICROS: rf"^{_CLOCK}{_MICROS}$",
    Logical.TIMESTAMP_MILLIS: rf"^{_DATE}[T ]{_CLOCK}{_MILLIS}{_ZONE}$",
    Logical.TIMESTAMP_MICROS: rf"^{_DATE}[T ]{_CLOCK}{_MICROS}{_ZONE}$",
    Logical.LOCAL_TIMESTAMP_MILLIS: rf"^{_DATE}[T ]{_CLOCK}{_MILLIS}$",
    Logical.LOCAL_TIMESTAMP_MICROS: rf"^{_DATE}[T ]{_CLOCK}{_MICROS}$",
}
_ZONED = {Logical.TIMESTAMP_MILLIS, Logical.TIMESTAMP_MICROS}
_MILLISECONDS = {Logical.TIME_MILLIS, Logical.TIMESTAMP_MILLIS, Logical.LOCAL_TIMESTAMP_MILLIS}

_NUMBERS: dict[Kind, pl.DataType] = {
    Kind.INT: pl.Int32(),
    Kind.LONG: pl.Int64(),
    Kind.FLOAT: pl.Float32(),
    Kind.DOUBLE: pl.Float64(),
}


def values(column: pl.Expr, dtype: pl.DataType, field: tree.Field) -> pl.Expr:
    """The values of a field from its column; raises ConfigurationError where a column of this type has none."""
    type_ = field.type.inner if isinstance(field.type, tree.Nullable) else field.type
    if not isinstance(type_, tree.Primitive | tree.Decimal | tree.Enum):
        raise _no_values(field, dtype)
    if dtype == pl.String:
        return _from_text(column, type_, field)
    return _from_own_type(column, dtype, type_, field)


def _from_text(text: pl.Expr, type_: tree.Primitive | tree.Decimal | tree.Enum, field: tree.Field) -> pl.Expr:
    match type_:
        case tree.Decimal():
            return _cast(text, _decimal_form(type_), pl.Decimal(type_.precision, type_.scale))
        case tree.Enum():
            return pl.when(text.is_in(list(type_.symbols))).then(text)
        case tree.Primitive(kind=Kind.BYTES):
            raise _no_values(field, pl.String())
        case tree.Primitive():
            return _plain(text, type_.kind) if type_.logical is None else _logical(text, type_.logical)


def _plain(text: pl.Expr, kind: Kind) -> pl.Expr:
    match kind:
        case Kind.BOOLEAN:
            lower = text.str.to_lowercase()
            return pl.when(lower.is_in(["true", "false"])).then(lower == "true")
        case Kind.INT | Kind.LONG:
            return _cast(text, _WHOLE, pl.Int64()).cast(_NUMBERS[kind], strict=False)
        case Kind.FLOAT | Kind.DOUBLE:
            return _finite(_cast(text, _FLOAT, pl.Float64()).cast(_NUMBERS[kind]))
        case _:
            return text


def _logical(text: pl.Expr, logical: Logical) -> pl.Expr:
    if logical is Logical.UUID:
        return pl.when(text.str.contains(UUID_FORM)).then(text)
    if logical is Logical.DATE:
        return _in_years(pl.when(text.str.contains(f"^{_DATE}$")).then(text.str.to_date("%Y-%m-%d", strict=False)))
    return pl.when(text.str.contains(_MOMENTS[logical])).then(text).map_batches(_moments(logical), _dtype(logical))


def _from_own_type(
    column: pl.Expr, dtype: pl.DataType, type_: tree.Primitive | tree.Decimal | tree.Enum, field: tree.Field
) -> pl.Expr:
    match type_:
        case tree.Decimal() if isinstance(dtype, pl.Decimal) and dtype.scale <= type_.scale:
            return column.cast(pl.Decimal(type_.precision, type_.scale), strict=False)
        case tree.Enum() | tree.Primitive(kind=Kind.STRING) if isinstance(dtype, pl.Categorical | pl.Enum):
            return _from_text(column.cast(pl.String), type_, field)
        case tree.Primitive(kind=Kind.BOOLEAN) if dtype == pl.Boolean:
            return column
        case tree.Primitive(kind=(Kind.INT | Kind.LONG) as kind, logical=None) if dtype.is_integer():
            return column.cast(_NUMBERS[kind], strict=False)
        case tree.Primitive(kind=(Kind.FLOAT | Kind.DOUBLE) as kind) if dtype.is_float() or dtype.is_integer():
            return _finite(column.cast(_NUMBERS[kind]))
        case tree.Primitive(logical=Logical() as logical) if _holds(dtype, logical):
            moment = column.cast(_dtype(logical))
            return _whole(moment if dtype == pl.Time else _in_years(moment), logical)
    raise _no_values(field, dtype)


def _holds(dtype: pl.DataType, logical: Logical) -> bool:
    match dtype:
        case pl.Date():
            return logical is Logical.DATE
        case pl.Time():
            return logical in {Logical.TIME_MILLIS, Logical.TIME_MICROS}
        case pl.Datetime(time_unit="ms" | "us"):
            return logical in _MOMENTS and (dtype.time_zone is not None) == (logical in _ZONED)
        case _:
            return False


def _dtype(logical: Logical) -> pl.DataType:
    if logical is Logical.DATE:
        return pl.Date()
    if logical in {Logical.TIME_MILLIS, Logical.TIME_MICROS}:
        return pl.Time()
    return pl.Datetime("us", "UTC" if logical in _ZONED else None)


def _in_years(moment: pl.Expr) -> pl.Expr:
    return pl.when(moment.dt.year().is_between(date.min.year, date.max.year)).then(moment)


def _whole(moment: pl.Expr, logical: Logical) -> pl.Expr:
    if logical is Logical.DATE:
        return moment
    unit = 1_000_000 if logical in _MILLISECONDS else 1_000
    return pl.when(moment.dt.nanosecond() % unit == 0).then(moment)


def _decimal_form(type_: tree.Decimal) -> str:
    whole = type_.precision - type_.scale
    fraction = rf"(?:\.[0-9]{{1,{type_.scale}}})?" if type_.scale else ""
    return rf"^-?0*[0-9]{{0,{whole}}}{fraction}$" if whole else rf"^-?0?{fraction}$"


def _cast(text: pl.Expr, form: str, dtype: pl.DataType) -> pl.Expr:
    return pl.when(text.str.contains(form)).then(text).cast(dtype, strict=False)


def _finite(number: pl.Expr) -> pl.Expr:
    return pl.when(number.is_finite()).then(number)


def _moments(logical: Logical) -> Callable[[pl.Series], pl.Series]:
    parse = _clock if logical in {Logical.TIME_MILLIS, Logical.TIME_MICROS} else _moment

    def read(texts: pl.Series) -> pl.Series:
        return pl.Series(texts.name, [None if text is None else parse(text) for text in texts], _dtype(logical))

    return read


def _clock(text: str) -> time | None:
    try:
        return time.fromisoformat(text)
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _no_values(field: tree.Field, dtype: pl.DataType) -> ConfigurationError:
    return ConfigurationError(
        f"field {field.name} cannot be read from a column of {dtype}",
        mend="give the column the field's type, or publish through the Publisher",
    )
