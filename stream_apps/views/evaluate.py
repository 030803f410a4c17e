"""Evaluates every view of one dataset on a batch of current rows, in columns.

One call per batch: the conditions of all views are evaluated together, then each view's columns on the rows that
pass. A view whose condition names values that the batch does not have costs next to nothing. Nothing that a row
holds makes it raise: a batch on which Polars itself fails is evaluated by DuckDB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import polars as pl
import pyarrow as pa
import structlog

from civicbus.names import AgreementId
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.sql.nodes import Call, Expression, Field, Literal, fields_of, walk
from civicbus.schemas.sql.operators import CALCULATIONS
from civicbus.schemas.sql.types import BOOLEAN
from civicbus.schemas.views import Column, View
from civicbus.stream_apps.views.expressions import compiled, folded, is_plain_day
from civicbus.stream_apps.views.law import by_duckdb
from civicbus.stream_apps.views.pruning import Pruning

log = structlog.get_logger()

_EVERY_ROW = Literal(True, BOOLEAN)


@dataclass(frozen=True, slots=True)
class Result:
    """What a view makes of a batch: which rows pass (never NULL), and their output, in the same order.

    ``overflows`` counts the calculations in the output that are NULL because a number overflowed, left the calendar
    or was divided by zero.
    """

    passes: pl.Series
    rows: pa.RecordBatch
    overflows: int


class Evaluation:
    """All views of one dataset, compiled. ``keys`` holds the secret key of each agreement that uses ``hash``."""

    def __init__(self, views: Sequence[View], keys: Mapping[AgreementId, bytes]) -> None:
        self._views = [(view, keys.get(view.agreement, b"")) for view in views]
        self._outputs = [_Output(view, keys.get(view.agreement)) for view in views]
        conditions = [folded(view.where or _EVERY_ROW, keys.get(view.agreement)) for view in views]
        # Equal conditions are one; two of them that hash are not equal, for their agreements' keys differ.
        names = [
            (condition, keys.get(view.agreement) if _hashes(condition) else None)
            for condition, view in zip(conditions, views, strict=True)
        ]
        distinct = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self._condition_of = [distinct[name] for name in names]
        self._compiled = [
            compiled(condition, key).fill_null(False).alias(str(n)) for (condition, key), n in distinct.items()
        ]
        self._pruning = Pruning([condition for condition, _ in distinct])

    def __call__(self, frame: pl.DataFrame) -> list[Result]:
        """The results in the order of the views, for rows whose columns are named as :attr:`Field.column`."""
        try:
            return self._by_polars(frame)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as fault:
            # Its text may show values.
            log.error("polars_failed", fault=type(fault).__name__, rows=frame.height)  # noqa: TRY400
            return [Result(*by_duckdb(view, key, frame), 0) for view, key in self._views]

    def _by_polars(self, frame: pl.DataFrame) -> list[Result]:
        none = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
        passes = [none] * len(self._compiled)
        alive = self._pruning(frame)
        if alive:
            # The first column stands by, for a condition that is one value for all rows.
            masks = frame.select([pl.nth(0), *[self._compiled[number] for number in alive]])
            for number, mask in zip(alive, masks.get_columns()[1:], strict=True):
                passes[number] = mask
        return [output(frame, passes[n]) for output, n in zip(self._outputs, self._condition_of, strict=True)]


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
        expressions = [folded(column.expression, key) for column in view.columns]
        parts = dict.fromkeys(part for expression in expressions for part in walk(expression))
        self._overflows = [_overflows(part, key).alias(str(n)) for n, part in enumerate(parts) if _may_overflow(part)]

    def __call__(self, frame: pl.DataFrame, passes: pl.Series) -> Result:
        count = passes.sum()
        if not count:
            return Result(passes, self._nothing, 0)
        # A view of constants reads nothing, but a frame without columns has no rows.
        rows = frame[self._reads or frame.columns[:1]]
        if count < frame.height:
            rows = rows.filter(passes)
        overflows = sum(rows.select(self._overflows).row(0)) if self._overflows else 0
        if self._computed:
            rows = rows.with_columns(self._computed)
        arrays = [
            _arrow(rows.get_column(name), kind) for name, kind in zip(self._names, self._schema.types, strict=True)
        ]
        return Result(passes, pa.RecordBatch.from_arrays(arrays, schema=self._schema), overflows)


def _computed(column: Column, key: bytes | None) -> pl.Expr:
    expression = compiled(column.expression, key)
    return pl.when(is_plain_day(expression)).then(expression) if column.may_leave_calendar else expression


def _hashes(expression: Expression) -> bool:
    return any(isinstance(part, Call) and part.name == "hash" for part in walk(expression))


def _may_overflow(part: Expression) -> TypeGuard[Call]:
    return isinstance(part, Call) and part.name in CALCULATIONS and part.nullable


def _overflows(call: Call, key: bytes | None) -> pl.Expr:
    """How often the result is NULL though no operand is."""
    lost = compiled(call, key).is_null()
    for operand in call.arguments:
        lost &= compiled(operand, key).is_not_null()
    return lost.sum()


def _frame_name(number: int, column: Column) -> str:
    """Field names begin with a letter, so a computed column's number cannot be one of them."""
    return column.expression.column if isinstance(column.expression, Field) else str(number)


def _arrow(series: pl.Series, kind: pa.DataType) -> pa.Array:
    array: pa.Array = series.to_arrow()
    if array.type == kind:
        return array
    # Polars keeps times of day in nanoseconds; the codec's coarser units lose nothing that was ever there.
    cast: pa.Array = array.cast(kind, safe=not pa.types.is_time(kind))
    return cast
