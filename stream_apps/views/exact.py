"""Asks DuckDB itself for the few values on which Polars would say something else, or break.

Total: DuckDB's faults are NULL, as the view language says. One small connection, made when first needed.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from functools import cache

import duckdb
import polars as pl
import pyarrow as pa

from civicbus.schemas.sql.duckdb import SETTINGS, expression_sql, quoted
from civicbus.schemas.sql.nodes import Call, Field

_LIMITS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "enable_external_access": False,
    "autoload_known_extensions": False,
}
_LOCK = threading.Lock()


def asked(call: Call, dtype: pl.DataType) -> Callable[[pl.Series], pl.Series]:
    """Evaluates a call on a struct series of ``wanted`` (whether to ask at all) and its operands ``0``, ``1``, …

    Rows that are not wanted give NULL.
    """
    operands = tuple(Field("", str(n), argument.type, True) for n, argument in enumerate(call.arguments))
    sql = expression_sql(Call(call.name, operands, call.type, True), lambda field: quoted(field.name))

    def evaluate(rows: pl.Series) -> pl.Series:
        frame = rows.struct.unnest()
        wanted = frame.get_column("wanted").fill_null(True)
        found = pl.repeat(None, frame.height, dtype=dtype, eager=True)
        if not wanted.any():
            return found
        odd = frame.filter(wanted).drop("wanted")
        values = pl.Series(queried(odd.to_arrow(), f"{sql} AS answer").column("answer")).cast(dtype)
        return values if odd.height == frame.height else found.scatter(wanted.arg_true(), values)

    return evaluate


def queried(rows: pa.Table, columns: str) -> pa.Table:
    """What DuckDB gives for these columns, written in SQL, on every row, in order."""
    with _LOCK:
        answer: pa.Table = _connection().from_arrow(rows).project(columns).to_arrow_table()
    return answer


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    # Left to the interpreter's end, DuckDB's binding reports it as leaked.
    atexit.register(_connection.cache_clear)
    connection = duckdb.connect(":memory:", config=_LIMITS)
    for setting in SETTINGS:
        connection.execute(setting)
    return connection
