"""What the logical types mean: which integers they allow, and the Python value of each.

The ranges are those of Python's date and time, so that every value that a walk lets through has a row value
and an Arrow value: years 1 to 9999, a time of day below 24 hours.
"""

from __future__ import annotations

import decimal
from datetime import UTC, date, datetime, time, timedelta

from civicbus.schemas.codec.tree import Logical

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_MICROS = 86_400_000_000
_FIRST_MICROS = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
_LAST_MICROS = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
_FIRST_MILLIS = -(-_FIRST_MICROS // 1000)
_LAST_MILLIS = _LAST_MICROS // 1000

RANGES: dict[Logical, tuple[int, int]] = {
    Logical.DATE: (date.min.toordinal() - date(1970, 1, 1).toordinal(), (date.max - date(1970, 1, 1)).days),
    Logical.TIME_MILLIS: (0, _DAY_MICROS // 1000 - 1),
    Logical.TIME_MICROS: (0, _DAY_MICROS - 1),
    Logical.TIMESTAMP_MILLIS: (_FIRST_MILLIS, _LAST_MILLIS),
    Logical.TIMESTAMP_MICROS: (_FIRST_MICROS, _LAST_MICROS),
    Logical.LOCAL_TIMESTAMP_MILLIS: (_FIRST_MILLIS, _LAST_MILLIS),
    Logical.LOCAL_TIMESTAMP_MICROS: (_FIRST_MICROS, _LAST_MICROS),
}


UUID_FORM = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def value_of(logical: Logical, number: int) -> date | time | datetime:
    """The value of an integer under a logical type of time; the integer is in its range."""
    match logical:
        case Logical.DATE:
            return date.fromordinal(number + date(1970, 1, 1).toordinal())
        case Logical.TIME_MILLIS:
            return (EPOCH + timedelta(milliseconds=number)).time()
        case Logical.TIME_MICROS:
            return (EPOCH + timedelta(microseconds=number)).time()
        case Logical.TIMESTAMP_MILLIS:
            return EPOCH + timedelta(milliseconds=number)
        case Logical.TIMESTAMP_MICROS:
            return EPOCH + timedelta(microseconds=number)
        case Logical.LOCAL_TIMESTAMP_MILLIS:
            return EPOCH.replace(tzinfo=None) + timedelta(milliseconds=number)
        case Logical.LOCAL_TIMESTAMP_MICROS:
            return EPOCH.replace(tzinfo=None) + timedelta(microseconds=number)
        case Logical.UUID:
            raise AssertionError("a UUID is text")


def decimal_of(unscaled: bytes, scale: int) -> decimal.Decimal:
    """The decimal in these two's-complement bytes."""
    return decimal.Decimal(int.from_bytes(unscaled, "big", signed=True)).scaleb(-scale, context=_WIDE)


def fits(unscaled: bytes, precision: int) -> bool:
    """Whether the bytes hold a number of at most ``precision`` digits."""
    return unscaled != b"" and abs(int.from_bytes(unscaled, "big", signed=True)) < 10**precision


_WIDE = decimal.Context(prec=80)
