"""Generated records of a dataset, for trying a connection before there are real ones. Pure; a seed gives the same rows.

They keep the catalogue's rules, and say what they are: a text without a pattern or a list of values reads
"generated".
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal as DecimalNumber
from itertools import islice
from uuid import UUID

from civicbus.errors import ConfigurationError
from civicbus.schemas.codec import tree
from civicbus.schemas.codec.tree import Kind, Logical, Nullable, Type
from civicbus.schemas.datasets import Dataset, Field, Quality
from civicbus.schemas.matching import matching

_TRIES = 200
_NULL_EVERY = 5
_FROM = datetime(2024, 1, 1, 8, tzinfo=UTC)
_WIDTH = 1000.0


class _NoValue(Exception):
    """No value is found that keeps the rules, or the type is none that stands in a file."""


def generated_rows(dataset: Dataset, count: int, seed: int = 0) -> list[dict[str, object]]:
    """At most so many records, each with a key of its own; raises ConfigurationError naming a field without value."""
    chance = random.Random(f"{dataset.id}/{seed}")  # noqa: S311 - samples, no secret
    rows: dict[bytes, dict[str, object]] = {}
    for number in range(count * _TRIES):
        row = _row(dataset, number, chance)
        rows.setdefault(dataset.key_of(row), row)
        if len(rows) == count:
            break
    return list(rows.values())


def _row(dataset: Dataset, number: int, chance: random.Random) -> dict[str, object]:
    described = {one.name: one for one in dataset.fields}
    row: dict[str, object] = {}
    for place, one in enumerate(dataset.schema.record.fields):
        entry = described[one.name]
        type_, may_lack = (one.type.inner, True) if isinstance(one.type, Nullable) else (one.type, False)
        kept = entry.quality.required or one.name in dataset.key or not may_lack
        if not kept and (number + place) % _NULL_EVERY == 0:
            row[one.name] = None
        else:
            row[one.name] = _value(dataset, entry, type_, number, chance)
    return row


def _value(dataset: Dataset, entry: Field, type_: Type, number: int, chance: random.Random) -> object:
    try:
        return _of(type_, entry.quality, number, chance)
    except _NoValue:
        raise ConfigurationError(
            f"{dataset.id}: no value of {entry.name} is found that stands in a file and keeps the catalogue's rules",
            mend="write a few records of this dataset yourself",
        ) from None


def _of(type_: Type, quality: Quality, number: int, chance: random.Random) -> object:
    match type_:
        case tree.Primitive(logical=Logical.UUID):
            return str(UUID(int=chance.getrandbits(128), version=4))
        case tree.Primitive(logical=None):
            return _plain(type_.kind, quality, number, chance)
        case tree.Primitive():
            return _moment(type_.logical, number)
        case tree.Decimal():
            return _decimal(type_, quality, number)
        case tree.Enum():
            return chance.choice([one for one in type_.symbols if quality.allowed is None or one in quality.allowed])
    raise _NoValue


def _plain(kind: Kind, quality: Quality, number: int, chance: random.Random) -> object:
    match kind:
        case Kind.BOOLEAN:
            return number % 2 == 0
        case Kind.STRING:
            return _text(quality, number, chance)
        case Kind.FLOAT | Kind.DOUBLE:
            low, high = _range(quality)
            return float(low + (high - low) * (number % 97) / 97)
        case Kind.INT | Kind.LONG:
            low, high = _range(quality)
            first, last = math.ceil(low), math.floor(high)
            return first + number % max(last - first + 1, 1)
    raise _NoValue


def _range(quality: Quality) -> tuple[float, float]:
    """The range of a number; a thousand wide where it is open."""
    low, high = quality.minimum, quality.maximum
    if low is None:
        low = 0.0 if high is None or high >= 0 else high - _WIDTH
    return low, low + _WIDTH if high is None else min(high, low + _WIDTH)


def _decimal(type_: tree.Decimal, quality: Quality, number: int) -> DecimalNumber:
    step = DecimalNumber(1).scaleb(-type_.scale)
    low, high = (DecimalNumber(str(bound)) for bound in _range(quality))
    largest = DecimalNumber(10) ** (type_.precision - type_.scale) - step
    return min(low + step * number, high, largest).quantize(step)


def _moment(logical: Logical | None, number: int) -> date | time | datetime:
    moment = _FROM + timedelta(hours=5 * number)
    match logical:
        case Logical.DATE:
            return moment.date()
        case Logical.TIME_MILLIS | Logical.TIME_MICROS:
            return moment.time()
        case Logical.TIMESTAMP_MILLIS | Logical.TIMESTAMP_MICROS:
            return moment
        case _:
            return moment.replace(tzinfo=None)


def _text(quality: Quality, number: int, chance: random.Random) -> str:
    for text in islice(_texts(quality, number, chance), _TRIES):
        if (quality.min_length or 0) <= len(text) <= (quality.max_length or len(text)):
            return text
    raise _NoValue


def _texts(quality: Quality, number: int, chance: random.Random) -> Iterable[str]:
    if quality.pattern is not None:
        allowed = quality.allowed
        return (text for text in matching(quality.pattern, chance) if allowed is None or text in allowed)
    if quality.allowed is not None:
        return chance.sample(quality.allowed, len(quality.allowed))
    return [_labelled(quality, number)]


def _labelled(quality: Quality, number: int) -> str:
    text = f"生成样例 generated {number + 1}"
    if quality.max_length is not None and len(text) > quality.max_length:
        text = str(number + 1)[: quality.max_length]
    return text.ljust(quality.min_length or 0, "·")
