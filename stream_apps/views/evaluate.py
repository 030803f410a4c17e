"""Evaluates every view of one dataset on a batch of current rows, in columns.

One call per batch: the conditions of all views are evaluated together, then each view's columns on the rows that
pass. A view whose condition names values that the batch does not have costs next to nothing. Columns that a view
shows as they are never leave Arrow. Nothing that a row holds makes it raise: a batch on which Polars itself fails is
evaluated by DuckDB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import polars as pl
import pyarrow as pa
import structlog
from numpy.typing import NDArray

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

# Asking Polars costs more than evaluating so many rows: then so many columns are asked for with the conditions.
_FEW = 256
_FEW_COLUMNS = 50


@dataclass(frozen=True, slots=True)
class Result:
    """What a view makes of a batch: which rows pass, and their output, in the same order.

    ``overflows`` counts the calculations in the output that are NULL because a number overflowed, left the calendar
    or was divided by zero.
    """

    passes: NDArray[np.bool_]
    rows: pa.RecordBatch
    overflows: int


class Evaluation:
    """All views of one dataset, compiled. ``keys`` holds the secret key of each agreement that uses ``hash``."""

    def __init__(self, views: Sequence[View], keys: Mapping[AgreementId, bytes]) -> None:
        self._views = [(view, keys.get(view.agreement, b"")) for view in views]
        self._outputs = [_Output(number, view, keys.get(view.agreement)) for number, view in enumerate(views)]
        conditions = [folded(view.where or _EVERY_ROW, keys.get(view.agreement)) for view in views]
        # Equal conditions are one; two of them that hash are not equal, for their agreements' keys differ.
        names = [
            (condition, keys.get(view.agreement) if _hashes(condition) else None)
            for condition, view in zip(conditions, views, strict=True)
        ]
        distinct = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self._condition_of = [distinct[name] for name in names]
        self._always = {number for (condition, _), number in distinct.items() if condition == _EVERY_ROW}
        self._compiled = [
            compiled(condition, key).fill_null(False).alias(str(n)) for (condition, key), n in distinct.items()
        ]
        self._pruning = Pruning([condition for condition, _ in distinct])
        read = {field.column for condition, _ in distinct for field in fields_of(condition)}
        self._reads = sorted(read.union(*(output.reads for output in self._outputs)))

    def __call__(self, batch: pa.RecordBatch) -> list[Result]:
        """The results in the order of the views, for rows whose columns are named as :attr:`Field.column`."""
        try:
            return self._by_polars(batch)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as fault:
            # Its text may show values.
            log.error("polars_failed", fault=type(fault).__name__, rows=batch.num_rows)  # noqa: TRY400
            return [Result(*by_duckdb(view, key, batch), 0) for view, key in self._views]

    def _by_polars(self, batch: pa.RecordBatch) -> list[Result]:
        # The first column stands by, for what reads none and still has a value for each row.
        frame = pl.DataFrame(pl.from_arrow(batch.select(self._reads or batch.schema.names[:1])))
        alive = self._pruning(frame)
        asked = [number for number in alive if number not in self._always]
        computed = self._at_once(frame.height, alive)
        wanted = [*(self._compiled[number] for number in asked), *computed]
        found = _evaluated(frame, wanted) if wanted else {}
        masks = [np.zeros(frame.height, np.bool_)] * len(self._compiled)
        for number in self._always:
            masks[number] = np.ones(frame.height, np.bool_)
        for number in asked:
            masks[number] = found[str(number)].to_numpy()
        return [
            output(batch, frame, masks[number], found)
            for output, number in zip(self._outputs, self._condition_of, strict=True)
        ]

    def _at_once(self, rows: int, alive: Sequence[int]) -> list[pl.Expr]:
        """The columns that are evaluated together with the conditions, whether a row passes or not."""
        outputs = [output for output, n in zip(self._outputs, self._condition_of, strict=True) if n in alive]
        computed = [each for output in outputs for each in output.computed]
        return computed if rows <= _FEW and len(computed) <= _FEW_COLUMNS else []


class _Output:
    """The columns of one view: plain fields are taken as they are, the others are evaluated together."""

    def __init__(self, number: int, view: View, key: bytes | None) -> None:
        self._schema = arrow_schema(view.output)
        self._nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
        self._names = [
            column.expression.column if isinstance(column.expression, Field) else f"{number}:{place}"
            for place, column in enumerate(view.columns)
        ]
        plain = [column.expression.column for column in view.columns if isinstance(column.expression, Field)]
        # A field may be shown under two names.
        self._plain = list(dict.fromkeys(plain))
        computed = [column for column in view.columns if not isinstance(column.expression, Field)]
        self.reads = {field.column for column in computed for field in fields_of(column.expression)}
        self.computed = [
            _computed(column, key).alias(name)
            for name, column in zip(self._names, view.columns, strict=True)
            if not isinstance(column.expression, Field)
        ]
        expressions = [folded(column.expression, key) for column in view.columns]
        parts = dict.fromkeys(part for expression in expressions for part in walk(expression))
        lost = [_lost(part, key) for part in parts if _may_overflow(part)]
        self._losses = [f"{number}!{place}" for place in range(len(lost))]
        self.computed += [each.alias(name) for name, each in zip(self._losses, lost, strict=True)]

    def __call__(
        self, batch: pa.RecordBatch, frame: pl.DataFrame, passes: NDArray[np.bool_], known: Mapping[str, pl.Series]
    ) -> Result:
        count = int(np.count_nonzero(passes))
        if not count:
            return Result(passes, self._nothing, 0)
        mask = None if count == len(passes) else passes
        plain = batch.select(self._plain)
        if mask is not None:
            plain = plain.filter(pa.array(mask))
        computed = self._of_passing(frame, mask, known)
        arrays = [
            _of_type(computed[name].to_arrow() if name in computed else plain.column(name), kind)
            for name, kind in zip(self._names, self._schema.types, strict=True)
        ]
        overflows = sum(int(computed[name].sum()) for name in self._losses)
        return Result(passes, pa.RecordBatch.from_arrays(arrays, schema=self._schema), overflows)

    def _of_passing(
        self, frame: pl.DataFrame, mask: NDArray[np.bool_] | None, known: Mapping[str, pl.Series]
    ) -> Mapping[str, pl.Series]:
        """The computed columns of the rows that pass; ``known`` are those of all rows, where they were asked for."""
        if not self.computed:
            return {}
        wanted = [name for name in (*self._names, *self._losses) if name in known]
        if not wanted:
            return _evaluated(frame if mask is None else frame.filter(mask), self.computed)
        return {name: known[name] if mask is None else known[name].filter(pl.Series(mask)) for name in wanted}


def _evaluated(frame: pl.DataFrame, expressions: Sequence[pl.Expr]) -> dict[str, pl.Series]:
    """Expressions by their names, each with a value for each row; the first column stands by to say how many."""
    # Dividing the work among threads costs a small batch three times what it gains, and the processes have one.
    found = frame.select_seq([pl.nth(0).alias(""), *expressions])
    return {column.name: column for column in found.get_columns()[1:]}


def _computed(column: Column, key: bytes | None) -> pl.Expr:
    expression = compiled(column.expression, key)
    return pl.when(is_plain_day(expression)).then(expression) if column.may_leave_calendar else expression


def _hashes(expression: Expression) -> bool:
    return any(isinstance(part, Call) and part.name == "hash" for part in walk(expression))


def _may_overflow(part: Expression) -> TypeGuard[Call]:
    return isinstance(part, Call) and part.name in CALCULATIONS and part.nullable


def _lost(call: Call, key: bytes | None) -> pl.Expr:
    """Whether the result is NULL though no operand is."""
    lost = compiled(call, key).is_null()
    for operand in call.arguments:
        lost &= compiled(operand, key).is_not_null()
    return lost


def _of_type(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    # Polars keeps times of day in nanoseconds; the codec's coarser units lose nothing that was ever there.
    cast: pa.Array = array.cast(kind, safe=not pa.types.is_time(kind))
    return cast
