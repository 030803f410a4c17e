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
from civicbus.schemas.sql.nodes import Field, Literal, fields_of
from civicbus.schemas.sql.types import BOOLEAN
from civicbus.schemas.views import Column, View
from civicbus.stream_apps.views.expressions import compiled, is_plain_day


@dataclass(frozen=True, slots=True)
class Result:
    """What a view makes of a batch: which rows pass (never NULL), and their output, in the same order."""

    passes: pl.Series
    rows: pa.RecordBatch


class Evaluation:
    """All views of one dataset, compiled. ``keys`` holds the secret key of each agreement that uses ``hash``."""

    def __init__(self, views: Sequence[View], keys: Mapping[AgreementId, bytes]) -> None:
        everything = Literal(True, BOOLEAN)
        self._conditions = [
            compiled(view.where or everything, keys.get(view.agreement)).alias(str(n)) for n, view in enumerate(views)
        ]
        self._outputs = [_Output(view, keys.get(view.agreement)) for view in views]

    def __call__(self, frame: pl.DataFrame) -> list[Result]:
        """The results in the order of the views, for rows whose columns are named as :attr:`Field.column`."""
        conditions = frame.with_columns(self._conditions).get_columns()[frame.width :]
        return [
            output(frame, condition.fill_null(False))
            for output, condition in zip(self._outputs, conditions, strict=True)
        ]


class _Output:
    """The columns of one view: plain fields are taken as they are, the others are evaluated together."""

    def __init__(self, view: View, key: bytes | None) -> None:
        self._schema = arrow_schema(view.output)
        self._nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
        self._reads = sorted({field.column for column in view.columns for field in fields_of(column.expression)})
        self._names = [_frame_name(n, column) for n, column in enumerate(view.columns)]
        self._computed = [
            _computed(column, key).alias(name)
            for name, column in zip(self._names, view.columns, strict=True)
            if not isinstance(column.expression, Field)
        ]

    def __call__(self, frame: pl.DataFrame, passes: pl.Series) -> Result:
        count = passes.sum()
        if not count:
            return Result(passes, self._nothing)
        # A view of constants reads nothing, but a frame without columns has no rows.
        rows = frame.select(self._reads or frame.columns[:1])
        if count < frame.height:
            rows = rows.filter(passes)
        if self._computed:
            rows = rows.with_columns(self._computed)
        arrays = [
            _arrow(rows.get_column(name), kind) for name, kind in zip(self._names, self._schema.types, strict=True)
        ]
        return Result(passes, pa.RecordBatch.from_arrays(arrays, schema=self._schema))


def _computed(column: Column, key: bytes | None) -> pl.Expr:
    expression = compiled(column.expression, key)
    return pl.when(is_plain_day(expression)).then(expression) if column.may_leave_calendar else expression


def _frame_name(number: int, column: Column) -> str:
    """Field names begin with a letter, so a computed column's number cannot be one of them."""
    return column.expression.column if isinstance(column.expression, Field) else str(number)


def _arrow(series: pl.Series, kind: pa.DataType) -> pa.Array:
    # Polars keeps times of day in nanoseconds; the codec's coarser units lose nothing that was ever there.
    array: pa.Array = series.to_arrow().cast(kind, safe=not pa.types.is_time(kind))
    return array
