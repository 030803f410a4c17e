"""Evaluates every view of one dataset on a batch of current rows, in columns.

One call per batch: the conditions of all views are evaluated together, then each view's columns on the rows that
pass. Nothing that a row holds makes it raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from civicbus.names import AgreementId
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.sql.nodes import TRUE
from civicbus.schemas.views import View
from civicbus.stream_apps.views.expressions import compiled


@dataclass(frozen=True, slots=True)
class Result:
    """What a view makes of a batch: which rows pass (never NULL), and their output, in the same order."""

    passes: pl.Series
    rows: pa.RecordBatch


class Evaluation:
    """All views of one dataset, compiled. ``keys`` holds each agreement's secret key for ``hash``."""

    def __init__(self, views: Sequence[View], keys: Mapping[AgreementId, bytes]) -> None:
        self._keys = keys
        self._conditions = [compiled(view.where or TRUE).alias(str(n)) for n, view in enumerate(views)]
        self._outputs = [_Output(view) for view in views]

    def __call__(self, frame: pl.DataFrame) -> list[Result]:
        masks = frame.select(self._conditions)
        every = pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
        results = []
        for output, mask in zip(self._outputs, masks.get_columns(), strict=True):
            passes = every if mask.len() != frame.height else mask.fill_null(False)
            results.append(Result(passes, output(frame.filter(passes))))
        return results


class _Output:
    def __init__(self, view: View) -> None:
        self._columns = [compiled(column.expression).alias(column.name) for column in view.columns]
        self._schema = arrow_schema(view.output)

    def __call__(self, rows: pl.DataFrame) -> pa.RecordBatch:
        table = rows.select(self._columns).to_arrow().cast(self._schema).combine_chunks()
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=self._schema)
