"""Evaluates one view by DuckDB itself, as the law of its meaning.

Slow, and right where Polars fails on a batch: a fault in a library must not stop the records of a partition.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.sql.duckdb import expression_sql, quoted
from civicbus.schemas.sql.nodes import Expression
from civicbus.schemas.views import Column, View
from civicbus.stream_apps.views.exact import queried


def by_duckdb(view: View, key: bytes, batch: pa.RecordBatch) -> tuple[NDArray[np.bool_], pa.RecordBatch]:
    """Which rows pass, and the output of those that do."""

    def sql(expression: Expression) -> str:
        return expression_sql(expression, lambda field: quoted(field.column), key)

    def column_sql(column: Column) -> str:
        value = sql(column.expression)
        if column.may_leave_calendar:
            value = f"CASE WHEN ({value}) BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN {value} END"
        return f"{value} AS {quoted(column.name)}"

    condition = "true" if view.where is None else f"coalesce({sql(view.where)}, false)"
    rows = pa.Table.from_batches([batch])
    passes = queried(rows, f"{condition} AS passes").column("passes").combine_chunks()
    answer = queried(rows.filter(passes), ", ".join(map(column_sql, view.columns)))
    schema = arrow_schema(view.output)
    columns = [answer.column(field.name).combine_chunks().cast(field.type) for field in schema]
    return passes.to_numpy(zero_copy_only=False), pa.RecordBatch.from_arrays(columns, schema=schema)
