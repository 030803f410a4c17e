"""Rows of an outbox as records of their dataset, strictly: what is no record keeps its reason. Pure.

Every cell is the text that PostgreSQL gives for the column, and is read as the table source reads a file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from civicbus.names import DatasetId
from civicbus.producers.changes import Refusal
from civicbus.producers.difference import KEY
from civicbus.producers.judging import judge
from civicbus.producers.publisher import key_schema
from civicbus.producers.table import ROW, Table
from civicbus.schemas.datasets import Dataset

Cells = Mapping[str, str | None]
Readings = dict[int, "dict[str, object] | Refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One change as the trigger wrote it; a deletion has the cells of its key."""

    id: int
    dataset: DatasetId
    deletion: bool
    cells: Cells
    created_at: datetime


def read_rows(rows: Sequence[OutboxRow], dataset: Dataset) -> Readings:
    """For the id of every row its record, or the key fields of its deletion, or why it is neither."""
    deletions = [row for row in rows if row.deletion]
    upserts = [row for row in rows if not row.deletion]
    return _read(upserts, dataset) | _read(deletions, keys_alone(dataset))


def keys_alone(dataset: Dataset) -> Dataset:
    """The dataset of the key fields, so that a deletion's key is read as strictly as a record."""
    fields = tuple(field for field in dataset.fields if field.name in dataset.key)
    return replace(dataset, fields=fields, schemas=(key_schema(dataset),))


def _read(rows: Sequence[OutboxRow], dataset: Dataset) -> Readings:
    if not rows:
        return {}
    judged = judge(Table(frame=_frame(rows, dataset)), dataset)
    readings: Readings = {rows[one.row].id: one.refusal for one in judged.unsendable}
    for record in judged.sendable.drop(KEY).iter_rows(named=True):
        readings[rows[record.pop(ROW)].id] = record
    return readings


def _frame(rows: Sequence[OutboxRow], dataset: Dataset) -> pl.DataFrame:
    texts = {name: pl.Series([row.cells.get(name) for row in rows], dtype=pl.String) for name in _names(dataset)}
    return pl.DataFrame(texts).with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias(ROW))


def _names(dataset: Dataset) -> tuple[str, ...]:
    return tuple(field.name for field in dataset.schema.record.fields)
