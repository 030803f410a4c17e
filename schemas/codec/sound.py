"""Whether Arrow columns hold only values that their Avro schema allows.

Arrow's types are wider than Avro's: a date may lie beyond the year 9999, a map may have a key twice, a UUID is any
text, and a required column may hold nulls. Every check is one pass over a column's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civicbus.schemas.codec import logical
from civicbus.schemas.codec.tree import Array, Logical, Map, Nullable, Primitive, Record, Type

# Whether an array's values are allowed; what lies under a null of an enclosing array is not in it.
Check = Callable[[pa.Array], bool]

_FORM = rf"\A{logical.UUID_FORM}\z"


def unsound_field(record: Record) -> Callable[[pa.RecordBatch], str | None]:
    """Compiles what finds the first field with a value that is not allowed, in batches of a record's columns."""
    checks = [(field.name, _field(field.type)) for field in record.fields]

    def found(batch: pa.RecordBatch) -> str | None:
        columns = zip(checks, batch.columns, strict=True)
        return next((name for (name, sound), column in columns if not sound(column)), None)

    return found


def _field(type_: Type) -> Check:
    """The check of a field: of its values, and that there are no nulls where it is required."""
    if isinstance(type_, Nullable):
        return _values(type_.inner)
    inner = _values(type_)
    return lambda array: array.null_count == 0 and inner(array)


def _values(type_: Type) -> Check:
    match type_:
        case Primitive(logical=Logical.UUID):
            return _uuids
        case Primitive(logical=Logical() as meaning):
            return _within(*logical.RANGES[meaning])
        case Array():
            return _lists(_field(type_.items))
        case Map():
            return _maps(_field(type_.values))
        case Record():
            return _structs([_field(field.type) for field in type_.fields])
    return _anything


def _anything(array: pa.Array) -> bool:  # noqa: ARG001 - Arrow's own type says enough
    return True


def _uuids(array: pa.Array) -> bool:
    matches = pc.match_substring_regex(array, pattern=_FORM)
    return pc.all(matches, min_count=0).as_py() is True


def _within(low: int, high: int) -> Check:
    def within(array: pa.Array) -> bool:
        numbers = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
        bounds = pc.min_max(numbers).as_py()
        return bounds["min"] is None or (low <= bounds["min"] and bounds["max"] <= high)

    return within


def _lists(items: Check) -> Check:
    return lambda array: items(array.flatten())


def _structs(fields: Sequence[Check]) -> Check:
    def structs(array: pa.Array) -> bool:
        visible = array.drop_null() if array.null_count else array
        return all(field(visible.field(place)) for place, field in enumerate(fields))

    return structs


def _maps(values: Check) -> Check:
    def maps(array: pa.Array) -> bool:
        visible = array.drop_null() if array.null_count else array
        offsets = visible.offsets.to_numpy()
        first, count = (offsets[0], offsets[-1] - offsets[0]) if len(offsets) else (0, 0)
        keys, items = visible.keys.slice(first, count), visible.items.slice(first, count)
        return _distinct(np.diff(offsets), keys) and values(items)

    return maps


def _distinct(lengths: np.ndarray, keys: pa.Array) -> bool:
    """Whether no map has a key twice; the lengths say how many of the keys belong to each."""
    if len(lengths) == 0 or lengths.max() < 2:
        return True
    owners = np.repeat(np.arange(len(lengths)), lengths)
    entries = pa.table({"owner": owners, "key": keys})
    return bool(entries.group_by(["owner", "key"]).aggregate([]).num_rows == len(keys))
