"""Which types go together, and how an operand becomes the type that an operator works in.

Stricter than DuckDB on purpose: texts and numbers never meet without a CAST that somebody wrote. Where two types
do meet here, they meet as they do in DuckDB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce

from civicbus.schemas.sql.nodes import Call, Expression, Literal
from civicbus.schemas.sql.types import BIGINT, DATE, DOUBLE, FLOAT, NULL, VARCHAR, Kind, Type

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2}:\d{2}(\.\d{1,6})?)?\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENTS = (Kind.TIMESTAMP, Kind.TIMESTAMPTZ)


class Misfit(Exception):
    """An expression has no meaning; carries what is wrong and what to write instead."""

    def __init__(self, fault: str, mend: str) -> None:
        super().__init__(f"{fault}; {mend}")
        self.fault = fault
        self.mend = mend


def unified(operands: Sequence[Expression]) -> list[Expression]:
    """The operands in the one type that all of them fit; raises Misfit where there is none."""
    kind = common_type(operands)
    return [converted(operand, kind) for operand in operands]


def common_type(operands: Iterable[Expression]) -> Type:
    """The type in which these operands meet; raises Misfit where they do not."""
    # Text constants last: whether they are dates depends on what they are compared with.
    ordered = sorted(operands, key=_is_text_constant)
    kind = reduce(_meet, [operand.type for operand in ordered if not _is_text_constant(operand)], NULL)
    for constant in filter(_is_text_constant, ordered):
        if kind.kind not in (Kind.DATE, *_MOMENTS):
            kind = _meet(kind, constant.type)
    return kind


def converted(expression: Expression, kind: Type) -> Expression:
    """The expression in a type that :func:`common_type` found for it; constants are converted here and now."""
    if expression.type == kind:
        return expression
    if isinstance(expression, Literal):
        return Literal(_constant(expression, kind), kind)
    return Call("cast", (expression,), kind, expression.nullable)


def fits(expression: Expression, kind: Type) -> bool:
    """Whether a function that takes ``kind`` takes this operand without a CAST."""
    if expression.type in (kind, NULL):
        return True
    if kind == DATE:
        return _is_text_constant(expression)
    wider = {BIGINT: (Kind.INTEGER,), DOUBLE: (Kind.INTEGER, Kind.BIGINT, Kind.FLOAT)}.get(kind, ())
    return expression.type.kind in wider or (kind in (DOUBLE, FLOAT) and is_decimal_constant(expression))


def is_decimal_constant(expression: Expression) -> bool:
    return isinstance(expression, Literal) and expression.type.kind is Kind.DECIMAL


def day_number(text: str) -> int:
    """Days since 1970-01-01; raises Misfit unless the text is YYYY-MM-DD."""
    if _DAY.match(text):
        try:
            return (date.fromisoformat(text) - _EPOCH.date()).days
        except ValueError:
            pass
    raise Misfit(f"'{text}' is no date", "write 'YYYY-MM-DD'")


def _is_text_constant(expression: Expression) -> bool:
    return isinstance(expression, Literal) and expression.type == VARCHAR


def _meet(left: Type, right: Type) -> Type:
    if left in (right, NULL) or right == NULL:
        return right if left == NULL else left
    kinds = {left.kind, right.kind}
    if kinds == {Kind.INTEGER, Kind.BIGINT}:
        return BIGINT
    if kinds & {Kind.FLOAT, Kind.DOUBLE} and kinds <= _REALS:
        return DOUBLE if Kind.DOUBLE in kinds else FLOAT
    raise Misfit(f"{left} and {right} do not meet", _mend(left, right))


_REALS = {Kind.INTEGER, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL}


def _mend(left: Type, right: Type) -> str:
    if Kind.DECIMAL in (left.kind, right.kind) and {left.kind, right.kind} <= _REALS:
        return "write the constant with an exponent (1.5e0), or CAST both to DOUBLE"
    if VARCHAR in (left, right):
        other = right if left == VARCHAR else left
        return f"CAST the text to {other}, or the other one to VARCHAR; a constant text stands in quotes"
    return f"compare like with like; `civicbus agreements language` says what CAST makes of {left} and {right}"


def _constant(literal: Literal, kind: Type) -> str | int | float | bool | Decimal | None:
    value = literal.value
    if value is None:
        return None
    if isinstance(value, str) and kind == DATE:
        return day_number(value)
    if isinstance(value, str) and kind.kind in _MOMENTS:
        return _moment(value, millis=kind.millis)
    return float(value) if kind.is_float else value


def _moment(text: str, *, millis: bool) -> int:
    if _MOMENT.match(text):
        try:
            micros = (datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH) // (_MICROSECOND)
        except ValueError:
            pass
        else:
            if not millis or micros % 1000 == 0:
                return micros // 1000 if millis else micros
    raise Misfit(f"'{text}' is no time of this column's precision", "write 'YYYY-MM-DD HH:MM:SS', in UTC")


_MICROSECOND = datetime(1970, 1, 1, microsecond=1, tzinfo=UTC) - _EPOCH
