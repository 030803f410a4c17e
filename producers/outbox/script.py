"""The SQL that makes a table of a department's database a source of one dataset. Pure.

Promise: the script may run again at any time; it names the fields and columns at fault where the table does not
fit, and then changes nothing.
"""

from __future__ import annotations

import json
from importlib.resources import files

from psycopg.sql import Literal

from civicbus.errors import ConfigurationError
from civicbus.schemas.codec.tree import Array, Fixed, Kind, Map, Nullable, Primitive, Record, Type
from civicbus.schemas.datasets import Dataset, SequenceRule

_IN_WORDS = {Array: "an array", Map: "a map", Record: "a record", Fixed: "bytes"}


def script(dataset: Dataset, table: str) -> str:
    """All of it: the outbox, its functions, and the call that attaches them to the table."""
    refuse_unfit(dataset)
    arguments = (
        table,
        str(dataset.id),
        _json(dataset.columns()),
        _json([field.name for field in dataset.schema.record.fields if not isinstance(field.type, Nullable)]),
        _json(dataset.key),
    )
    call = ", ".join(Literal(argument).as_string(None) for argument in arguments)
    shared = (files(__package__) / "outbox.sql").read_text(encoding="utf-8")
    return f"{shared}SELECT public.civicbus_outbox_follow({call});\n\nCOMMIT;\n"


def refuse_unfit(dataset: Dataset) -> None:
    """Raises ConfigurationError where an outbox cannot publish this dataset."""
    if dataset.sequence is SequenceRule.UNUSED:
        raise ConfigurationError(
            f"{dataset.id} has no sequence, and an outbox needs one",
            mend="write `sequence: required` in its catalogue entry",
        )
    for field in dataset.schema.record.fields:
        kind = _kind_that_columns_have_not(field.type)
        if kind is not None:
            raise ConfigurationError(
                f"{dataset.id}: the field {field.name} is {kind}, which an outbox cannot read from a column",
                mend="publish this dataset from a program, with the Publisher",
            )


def _kind_that_columns_have_not(type_: Type) -> str | None:
    inner = type_.inner if isinstance(type_, Nullable) else type_
    if isinstance(inner, Primitive):
        return "bytes" if inner.kind is Kind.BYTES else None
    return _IN_WORDS.get(type(inner))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
