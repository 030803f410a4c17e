"""Decides which rows of a table can be sent, and gives every other one its reason and its field. Pure.

In this order, the first that holds: an empty key field, a cell that is no value of its field, an empty field
that must not be empty. Rows that pass have the types of the dataset's schema, and every row whose key can be
read has it, sendable or not: a record whose row cannot be sent is not gone from its source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from civicbus.keys import record_key
from civicbus.producers.changes import Refusal
from civicbus.producers.columns import values
from civicbus.producers.difference import KEY
from civicbus.producers.table import ROW, Table
from civicbus.reasons import Reason
from civicbus.schemas.codec.tree import Field, Nullable
from civicbus.schemas.datasets import Dataset

FAULT = "civicbus:fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsendable:
    """A row that cannot be sent: where it stands, why, and its cells as texts."""

    row: int
    refusal: Refusal
    cells: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The rows that can be sent, typed, with their :data:`KEY` and ROW; the others; what keys the others have.

    ``untold``: how many of the others hold something and do not say of which record.
    """

    sendable: pl.DataFrame
    unsendable: tuple[Unsendable, ...]
    held: frozenset[bytes]
    untold: int


def judge(table: Table, dataset: Dataset) -> Judged:
    """Every row of the table is sendable or unsendable."""
    raw = table.frame
    typed = raw.select(
        *(values(pl.col(field.name), raw.schema[field.name], field).alias(field.name) for field in _fields(dataset)),
        ROW,
    )
    refusals, fault = _first_faults(_faults(raw, typed, dataset), raw.height)
    keyed = typed.with_columns(pl.Series(KEY, _keys(typed, dataset), dtype=pl.Binary))
    refused = raw.with_columns(fault).filter(fault.is_not_null())
    misread = (
        Unsendable(row=row.row, refusal=Refusal(reason=Reason.UNREADABLE_ROW), cells=row.cells) for row in table.misread
    )
    keyless = raw.drop(ROW).filter(keyed[KEY].is_null())
    return Judged(
        sendable=keyed.filter(fault.is_null()),
        unsendable=(*misread, *_unsendable(refused, refusals)),
        held=frozenset(keyed.filter(fault.is_not_null() & keyed[KEY].is_not_null())[KEY].to_list()),
        untold=sum(any(row.cells.values()) for row in table.misread)
        + sum(any(cell not in (None, "") for cell in cells) for cells in keyless.iter_rows()),
    )


def _fields(dataset: Dataset) -> tuple[Field, ...]:
    return dataset.schema.record.fields


def _faults(raw: pl.DataFrame, typed: pl.DataFrame, dataset: Dataset) -> Iterator[tuple[Refusal, pl.Series]]:
    """Every fault that a row may have, most telling first, and the rows that have it."""
    for name in dataset.key:
        yield Refusal(reason=Reason.KEY_MISSING, field=name), _empty(raw[name])
    for field in _fields(dataset):
        unread = raw[field.name].is_not_null() & typed[field.name].is_null()
        yield Refusal(reason=Reason.UNREADABLE_ROW, field=field.name), unread
    required = {field.name for field in dataset.fields if field.quality.required}
    for field in _fields(dataset):
        refusal = Refusal(reason=Reason.QUALITY_REQUIRED, field=field.name)
        if field.name in required:
            yield refusal, _empty(typed[field.name])
        elif not isinstance(field.type, Nullable):
            yield refusal, typed[field.name].is_null()


def _empty(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.fill_null("") == ""
    return column.is_null()


def _first_faults(faults: Iterator[tuple[Refusal, pl.Series]], height: int) -> tuple[list[Refusal], pl.Series]:
    """The refusals that occur, and for each row the place of the first of them that it has, or null."""
    found = [(refusal, rows) for refusal, rows in faults if rows.any()]
    first = pl.Series(FAULT, [None], dtype=pl.UInt32).new_from_index(0, height)
    for place, (_, rows) in enumerate(found):
        first = first.set(rows & first.is_null(), place)
    return [refusal for refusal, _ in found], first


def _keys(typed: pl.DataFrame, dataset: Dataset) -> list[bytes | None]:
    return [
        None if None in texts or "" in texts else record_key(texts) for texts in typed.select(dataset.key).iter_rows()
    ]


def _unsendable(refused: pl.DataFrame, refusals: list[Refusal]) -> Iterator[Unsendable]:
    for cells in refused.iter_rows(named=True):
        row, fault = cells.pop(ROW), cells.pop(FAULT)
        yield Unsendable(row=row, refusal=refusals[fault], cells=as_texts(cells))


def as_texts(cells: Mapping[str, object]) -> dict[str, str | None]:
    """The cells of a row as its source would write them."""
    return {name: None if value is None else str(value) for name, value in cells.items()}
