"""Compiles the typed expressions of a view to Polars, with DuckDB's meaning and never through SQL text.

Total: nothing that a row holds makes an expression raise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_, eq, ge, gt, le, lt, ne, or_

import polars as pl

from civicbus.schemas.sql.nodes import Call, Expression, Field, Literal
from civicbus.schemas.sql.types import Kind, Type

_DTYPES: dict[Kind, pl.DataType] = {
    Kind.NULL: pl.Null(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.INTEGER: pl.Int32(),
    Kind.BIGINT: pl.Int64(),
    Kind.FLOAT: pl.Float32(),
    Kind.DOUBLE: pl.Float64(),
    Kind.VARCHAR: pl.String(),
    Kind.BLOB: pl.Binary(),
    Kind.DATE: pl.Date(),
    Kind.TIME: pl.Time(),
}


def dtype(kind: Type) -> pl.DataType:
    """The Polars type that holds this type."""
    match kind.kind:
        case Kind.DECIMAL:
            return pl.Decimal(kind.precision, kind.scale)
        case Kind.TIMESTAMP:
            return pl.Datetime("ms" if kind.millis else "us")
        case Kind.TIMESTAMPTZ:
            return pl.Datetime("ms" if kind.millis else "us", "UTC")
    return _DTYPES[kind.kind]


def compiled(expression: Expression) -> pl.Expr:
    """The Polars expression over a frame whose columns are named as :attr:`Field.column` says."""
    match expression:
        case Field():
            return pl.col(expression.column)
        case Literal():
            return pl.lit(expression.value, dtype(expression.type))
        case Call():
            return _COMPILERS[expression.name](expression, [compiled(a) for a in expression.arguments])


Compiler = Callable[[Call, list[pl.Expr]], pl.Expr]


def _binary(operation: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Compiler:
    return lambda _, operands: reduce(operation, operands)


def _in(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    wanted, *listed = operands
    return reduce(or_, [wanted == item for item in listed])


def _mask(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    text, (keep_start, keep_end) = operands[0], (_constant(a) for a in call.arguments[1:])
    length = text.str.len_chars().cast(pl.Int64)
    whole = pl.lit("").str.pad_end(length, "*")
    if keep_start + keep_end == 0:
        return whole
    middle = text.str.slice(0, keep_start).str.pad_end(length - keep_end, "*")
    parts = middle + text.str.slice(length - keep_end) if keep_end else middle
    return pl.when(length > keep_start + keep_end).then(parts).otherwise(whole)


def _constant(expression: Expression) -> int:
    assert isinstance(expression, Literal)  # noqa: S101 - the check takes nothing else
    assert isinstance(expression.value, int)  # noqa: S101
    return expression.value


_COMPILERS: dict[str, Compiler] = {
    "=": _binary(eq),
    "<>": _binary(ne),
    "<": _binary(lt),
    "<=": _binary(le),
    ">": _binary(gt),
    ">=": _binary(ge),
    "and": _binary(and_),
    "or": _binary(or_),
    "not": lambda _, operands: ~operands[0],
    "in": _in,
    "is null": lambda _, operands: operands[0].is_null(),
    "cast": lambda call, operands: operands[0].cast(dtype(call.type), strict=False),
    "mask": _mask,
}
