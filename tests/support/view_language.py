"""One expression of the view language, evaluated by us and by DuckDB on the same hostile values."""

from __future__ import annotations

import atexit
import math
import struct
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache

import duckdb
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

from civicbus.schemas.sql.duckdb import SETTINGS, expression_sql, quoted
from civicbus.schemas.sql.meaning import Scope, meaning_of
from civicbus.schemas.sql.nodes import Expression
from civicbus.schemas.sql.parse import Reader
from civicbus.schemas.sql.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INTEGER,
    VARCHAR,
    FieldType,
    Kind,
    Type,
    avro_type,
)
from civicbus.stream_apps.views.expressions import compiled

KEY = b"the agreement's own key"
MOMENT, MOMENT_MS = Type(Kind.TIMESTAMPTZ), Type(Kind.TIMESTAMPTZ, millis=True)
MONEY = Type(Kind.DECIMAL, 9, 2)

# Two columns of each type, so that every operator has two sides.
COLUMNS: dict[str, Type] = {
    "text": VARCHAR,
    "other": VARCHAR,
    "small": INTEGER,
    "less": INTEGER,
    "big": BIGINT,
    "bigger": BIGINT,
    "single": FLOAT,
    "single2": FLOAT,
    "real": DOUBLE,
    "real2": DOUBLE,
    "flag": BOOLEAN,
    "flag2": BOOLEAN,
    "day": DATE,
    "day2": DATE,
    "moment": MOMENT,
    "moment2": MOMENT,
    "moment_ms": MOMENT_MS,
    "money": MONEY,
    "money2": MONEY,
    "bytes": BLOB,
    "bytes2": BLOB,
}
_ARROW: dict[Kind, pa.DataType] = {
    Kind.VARCHAR: pa.string(),
    Kind.INTEGER: pa.int32(),
    Kind.BIGINT: pa.int64(),
    Kind.FLOAT: pa.float32(),
    Kind.DOUBLE: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.DECIMAL: pa.decimal128(9, 2),
    Kind.BLOB: pa.binary(),
}

_ODD_LETTERS = "aAbZ09 \t\n\0.,-+*%_\\!?'\"$ßẞŉİıΣσςǅǆﬁŒéÉ\u0301\u00a0\u2003\u3000\u200d\ufeff许可市民👨👩𝒳ⅷꟍ𖺴"
_ODD_TEXTS = [
    "",
    "12",
    " 12 ",
    "-0",
    "+7",
    "1e3",
    "1.5",
    "2.5",
    "-2.5",
    "2147483648",
    "-9223372036854775808",
    "9223372036854775808",
    "1_000",
    "0x1F",
    "1e400",
    "1e-400",
    "inf",
    "-Infinity",
    "NaN",
    ".5",
    "5.",
    "1.7976931348623157e308",
    "0.1234567890123456789",
    "123456789012345.678901234567890",
    "true",
    "F",
    " yes",
    "no",
    "2024-02-29",
    "2023-02-29",
    "2020-1-2",
    "2020/01/02",
    " 2020-01-02",
    "0000-01-01",
    "0001-01-01",
    "9999-12-31",
    "10000-01-01",
    "2020-01-02 03:04:05",
    "infinity",
    "epoch",
    "١٢",
    "１２",
    "2020-01-02 (BC)",
    "\u200512",
    "a\nb",
    "👨\u200d👩\u200d👧",
]
_TEXTS = st.one_of(
    st.sampled_from(_ODD_TEXTS), st.text(st.sampled_from(_ODD_LETTERS), max_size=12), st.text(max_size=8)
)
_REALS = st.one_of(
    st.floats(),
    st.floats(-100, 100),
    st.sampled_from([0.0, -0.0, 0.5, 1.5, 2.5, -2.5, 2.675, 1e15, 2147483647.5, 9.223372036854775e18, 1e308, 5e-324]),
    st.integers(-5, 5).map(float),
)
_DAYS = st.one_of(
    st.dates().map(lambda day: (day - date(1970, 1, 1)).days),
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from(
        [2**31 - 1, -(2**31) + 1, -(2**31), 2**31 - 2, -(2**31) + 2, 0, -719162, -719163, 2932896, 2932897]
    ),
)
_INTEGERS = st.one_of(st.integers(-10, 10), st.integers(-(2**31), 2**31 - 1), st.sampled_from([2**31 - 1, -(2**31)]))
_BIGINTS = st.one_of(
    st.integers(-10, 10),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**63 - 1, -(2**63), 2**32, 2**32 - 1, -(2**32), -(2**32) - 1, 2**53 + 1]),
)
_MOMENTS = st.one_of(st.integers(-(10**15), 10**16), st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, -1]))
# DuckDB has no room for more milliseconds than these.
_MILLIS = st.integers(-(2**63 // 1000), 2**63 // 1000)
_VALUES: dict[Kind, st.SearchStrategy[object]] = {
    Kind.VARCHAR: _TEXTS,
    Kind.INTEGER: _INTEGERS,
    Kind.BIGINT: _BIGINTS,
    Kind.FLOAT: st.one_of(st.floats(width=32), st.sampled_from([0.5, 1.5, 2.5, 3.4028234663852886e38, -0.0])),
    Kind.DOUBLE: _REALS,
    Kind.BOOLEAN: st.booleans(),
    Kind.DATE: _DAYS,
    Kind.TIMESTAMPTZ: _MOMENTS,
    Kind.DECIMAL: st.decimals(-9999999, 9999999, places=2),
    Kind.BLOB: st.binary(max_size=4),
}


_SECONDS = st.integers(-62135596800, 253402300799)
_IN_ROWS: dict[Type, st.SearchStrategy[object]] = {
    DATE: st.integers(-719162, 2932896),
    MOMENT: _SECONDS.map(lambda seconds: seconds * 10**6),
    MOMENT_MS: _SECONDS.map(lambda seconds: seconds * 10**3),
}


def tables(names: Sequence[str], max_size: int = 30, *, of_rows: bool = False) -> st.SearchStrategy[pa.Table]:
    """Tables of these columns, with NULLs and every value that has ever surprised somebody.

    ``of_rows``: only what the codec lets into a row, whose dates and moments lie in the years 1 to 9999.
    """
    values = [
        _IN_ROWS.get(COLUMNS[name], _values(COLUMNS[name])) if of_rows else _values(COLUMNS[name]) for name in names
    ]
    row = st.tuples(*[st.one_of(st.none(), one) for one in values])
    rows = st.lists(row, max_size=max_size).map(lambda rows: table(names, rows))
    return st.one_of(rows, st.tuples(rows, st.sets(st.sampled_from(names))).map(lambda some: _emptied(*some)))


def one_batch(rows: pa.Table) -> pa.RecordBatch:
    """A table in one piece, as the codec gives rows."""
    whole = rows.combine_chunks()
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in whole.columns], schema=whole.schema)


def _emptied(rows: pa.Table, names: set[str]) -> pa.Table:
    """These columns without a value: libraries take short cuts there."""
    for name in sorted(names):
        nothing = pa.nulls(rows.num_rows, rows.schema.field(name).type)
        rows = rows.set_column(rows.schema.get_field_index(name), name, nothing)
    return rows


def _values(kind: Type) -> st.SearchStrategy[object]:
    return _MILLIS if kind.millis else _VALUES[kind.kind]


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> pa.Table:
    return pa.table({name: column(name, [row[n] for row in rows]) for n, name in enumerate(names)})


def column(name: str, values: Sequence[object]) -> pa.Array:
    """Days and moments are given as numbers, which reach further than Python's dates."""
    kind = COLUMNS[name]
    match kind.kind:
        case Kind.DATE:
            return pa.array(values, pa.int32()).cast(pa.date32())
        case Kind.TIMESTAMPTZ:
            return pa.array(values, pa.int64()).cast(pa.timestamp("ms" if kind.millis else "us", "UTC"))
    return pa.array(values, _ARROW[kind.kind])


SCOPE = Scope({"t": ("", {name: FieldType(kind, True, avro_type(kind)) for name, kind in COLUMNS.items()})})


def typed(text: str) -> Expression:
    """The expression in this text; fails with the findings where it has none."""
    reader = Reader(f"SELECT {text} FROM a.t")
    select = reader.read()
    assert select is not None, reader.findings
    assert select.outputs, reader.findings
    expression = meaning_of(select.outputs[0].expression, SCOPE, reader)
    assert expression is not None, [str(finding) for finding in reader.findings]
    return expression


def ours(expression: Expression, rows: pa.Table) -> list[object]:
    frame = pl.DataFrame(rows)
    series = frame.with_columns(compiled(expression, KEY).alias("0")).get_column("0")
    return plain(series.to_arrow())


def duckdbs(expression: Expression, rows: pa.Table) -> list[object]:
    return duckdb_column(expression_sql(expression, lambda field: quoted(field.name), KEY), rows)


def duckdb_column(sql: str, rows: pa.Table) -> list[object]:
    return plain(law().from_arrow(rows).project(f"{sql} AS answer").to_arrow_table().column("answer"))


@cache
def law() -> duckdb.DuckDBPyConnection:
    """DuckDB with the settings that the view language has."""
    atexit.register(law.cache_clear)
    connection = duckdb.connect(":memory:", config={"threads": 1})
    for setting in SETTINGS:
        connection.execute(setting)
    return connection


def plain(values: pa.Array | pa.ChunkedArray) -> list[object]:
    """Values that compare: floats by their bits with one NaN, days and moments as numbers."""
    kind = values.type
    if pa.types.is_date(kind):
        return [("day", value) for value in values.cast(pa.int32()).to_pylist()]
    if pa.types.is_timestamp(kind):
        micros = values.cast(pa.int64()).to_pylist()
        return [value if value is None or kind.unit == "us" else value * 1000 for value in micros]
    if pa.types.is_floating(kind):
        return [None if value is None else bits(value) for value in values.to_pylist()]
    return values.to_pylist()


def bits(value: float) -> object:
    return "NaN" if math.isnan(value) else struct.pack(">d", value)


def assert_same(expression: Expression, rows: pa.Table) -> None:
    mine, theirs = ours(expression, rows), duckdbs(expression, rows)
    for row, (left, right) in enumerate(zip(mine, theirs, strict=True)):
        assert left == right, f"{expression_sql(expression, lambda f: f.name)} on {shown(rows, row)}: {left} {right}"


def shown(rows: pa.Table, row: int) -> Mapping[str, object]:
    values = {name: plain(rows.column(name).slice(row, 1))[0] for name in rows.column_names}
    return {name: value for name, value in values.items() if not isinstance(value, datetime)}
