"""What the operators of the view language take and give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from civicbus.schemas.sql.coercion import Misfit, converted, is_decimal_constant, unified
from civicbus.schemas.sql.nodes import NOTHING, Call, Expression, Literal
from civicbus.schemas.sql.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, VARCHAR, Kind, Type

Resolver = Callable[[str, Sequence[Expression]], Expression]

INTEGER_RANGE = range(-(2**31), 2**31)
BIGINT_RANGE = range(-(2**63), 2**63)
_MAX_PATTERN = 500

CASTABLE: Mapping[Kind, frozenset[Kind]] = {
    Kind.BOOLEAN: frozenset({Kind.INTEGER, Kind.BIGINT, Kind.VARCHAR}),
    Kind.INTEGER: frozenset({Kind.BOOLEAN, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE, Kind.VARCHAR}),
    Kind.BIGINT: frozenset({Kind.BOOLEAN, Kind.INTEGER, Kind.FLOAT, Kind.DOUBLE, Kind.VARCHAR}),
    Kind.FLOAT: frozenset({Kind.BOOLEAN, Kind.INTEGER, Kind.BIGINT, Kind.DOUBLE, Kind.VARCHAR}),
    Kind.DOUBLE: frozenset({Kind.BOOLEAN, Kind.INTEGER, Kind.BIGINT, Kind.FLOAT, Kind.VARCHAR}),
    Kind.DECIMAL: frozenset({Kind.INTEGER, Kind.BIGINT, Kind.DOUBLE, Kind.VARCHAR}),
    Kind.VARCHAR: frozenset({Kind.BOOLEAN, Kind.INTEGER, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE, Kind.DATE}),
    Kind.DATE: frozenset({Kind.VARCHAR}),
    Kind.TIMESTAMP: frozenset({Kind.DATE, Kind.VARCHAR}),
    Kind.TIMESTAMPTZ: frozenset({Kind.DATE, Kind.VARCHAR}),
}
_SAFE_CASTS = frozenset(
    {(kind, Kind.VARCHAR) for kind in CASTABLE}
    | {(kind, Kind.BOOLEAN) for kind in CASTABLE if kind is not Kind.VARCHAR}
    | {(Kind.BOOLEAN, Kind.INTEGER), (Kind.BOOLEAN, Kind.BIGINT), (Kind.INTEGER, Kind.BIGINT)}
    | {(kind, real) for kind in (Kind.INTEGER, Kind.BIGINT) for real in (Kind.FLOAT, Kind.DOUBLE)}
    | {(Kind.FLOAT, Kind.DOUBLE)}
)


def any_nullable(operands: Sequence[Expression]) -> bool:
    return any(operand.nullable for operand in operands)


def cast(operand: Expression, target: Type) -> Expression:
    """CAST in the sense of TRY_CAST: a value that does not fit becomes NULL."""
    source = operand.type.kind
    if operand.type == target:
        return operand
    if source is Kind.NULL:
        return Literal(None, target)
    if target == DATE and isinstance(operand, Literal) and operand.type == VARCHAR:
        return converted(operand, DATE)
    if target.kind not in CASTABLE.get(source, ()):
        known = " or ".join(sorted(CASTABLE.get(source, ()))) or "nothing else"
        raise Misfit(f"{operand.type} has no CAST to {target}", f"{operand.type} becomes {known}")
    nullable = operand.nullable or (source, target.kind) not in _SAFE_CASTS
    return Call("cast", (operand,), target, nullable)


def case(pairs: Sequence[tuple[Expression, Expression]], otherwise: Expression) -> Expression:
    """CASE WHEN: the value of the first condition that is true, else ``otherwise``."""
    values = unified([*[value for _, value in pairs], otherwise])
    conditions = [condition("WHEN", when) for when, _ in pairs]
    arguments = [part for pair in zip(conditions, values, strict=False) for part in pair]
    return Call("case", (*arguments, values[-1]), values[-1].type, any_nullable(values))


def condition(clause: str, operand: Expression) -> Expression:
    """The operand as a condition; raises Misfit where it is none."""
    if operand.type.kind not in (Kind.BOOLEAN, Kind.NULL):
        raise Misfit(f"{clause} takes a condition, not {operand.type}", "write a comparison")
    return converted(operand, BOOLEAN)


def conjunction(operands: Sequence[Expression]) -> Expression:
    """All of these conditions."""
    return operands[0] if len(operands) == 1 else _logic("and", operands)


def _logic(name: str, operands: Sequence[Expression]) -> Expression:
    conditions = [condition(name.upper(), operand) for operand in operands]
    flat = [part for one in conditions for part in _conjuncts(name, one)]
    return Call(name, tuple(flat), BOOLEAN, any_nullable(flat))


def _conjuncts(name: str, one: Expression) -> tuple[Expression, ...]:
    """a AND (b AND c) is a AND b AND c, so that long conditions do not nest."""
    return one.arguments if isinstance(one, Call) and one.name == name else (one,)


def _not(_: str, operands: Sequence[Expression]) -> Expression:
    return Call("not", (condition("NOT", operands[0]),), BOOLEAN, operands[0].nullable)


def comparison(name: str, operands: Sequence[Expression]) -> Expression:
    """A comparison in the one type that both sides meet in."""
    left, right = operands
    if left.type.is_integer and is_decimal_constant(right):
        return _compared_with_fraction(name, left, right)
    if right.type.is_integer and is_decimal_constant(left):
        return _compared_with_fraction(MIRRORED[name], right, left)
    left, right = _aligned([left, right])
    return Call(name, (left, right), BOOLEAN, name not in _DISTINCT and any_nullable([left, right]))


MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
MIRRORED |= {name: name for name in ("is distinct from", "is not distinct from")}
_DISTINCT = ("is distinct from", "is not distinct from")
_AT_MOST = ("<", "<=")


def _compared_with_fraction(name: str, whole: Expression, constant: Expression) -> Expression:
    """A whole number against 2.5: the same truth as against the whole number on the near side of it."""
    value = _decimal(constant)
    if value == value.to_integral_value():
        return comparison(name, [whole, _integer(int(value))])
    if name in _AT_MOST:
        return comparison("<=", [whole, _integer(math.floor(value))])
    if name in (">", ">="):
        return comparison(">=", [whole, _integer(math.ceil(value))])
    # Never equal: false, or true, and for = and <> NULL where the whole number is NULL.
    if name in _DISTINCT:
        return Literal(name == "is distinct from", BOOLEAN)
    return comparison("<>" if name == "=" else "=", [whole, whole])


def _decimal(constant: Expression) -> Decimal:
    assert isinstance(constant, Literal)  # noqa: S101 - is_decimal_constant said so
    assert isinstance(constant.value, Decimal)  # noqa: S101
    return constant.value


def _integer(value: int) -> Literal:
    if value not in BIGINT_RANGE:
        raise Misfit(f"{value} is beyond BIGINT", f"write a number below {2**63}")
    return Literal(value, INTEGER if value in INTEGER_RANGE else BIGINT)


def _aligned(operands: Sequence[Expression]) -> list[Expression]:
    """Operands of a comparison in one type; number constants take the digits of a DECIMAL column."""
    decimal = next(
        (one.type for one in operands if one.type.kind is Kind.DECIMAL and not is_decimal_constant(one)), None
    )
    if decimal is None:
        return unified(operands)
    return unified([_with_digits(one, decimal) for one in operands])


def _with_digits(operand: Expression, decimal: Type) -> Expression:
    if not isinstance(operand, Literal) or not isinstance(operand.value, int | Decimal) or operand.type == BOOLEAN:
        return operand
    value = Decimal(operand.value)
    scaled = value.scaleb(decimal.scale)
    if scaled != scaled.to_integral_value() or abs(scaled) >= 10**decimal.precision:
        raise Misfit(f"{value} has more digits than {decimal}", f"write at most {decimal.scale} decimals")
    return Literal(value, decimal)


def _between(_: str, operands: Sequence[Expression]) -> Expression:
    value, low, high = operands
    if not any(is_decimal_constant(one) for one in operands):
        value, low, high = unified(operands)
    return conjunction([comparison(">=", [value, low]), comparison("<=", [value, high])])


def _in(_: str, operands: Sequence[Expression]) -> Expression:
    value, *listed = operands
    if not listed:
        raise Misfit("IN has nothing in its parentheses", "write IN (value, …)")
    if value.type.is_integer and any(is_decimal_constant(one) for one in listed):
        raise Misfit(f"{value.type} and decimals do not meet in IN", "list whole numbers")
    aligned = _aligned([value, *listed])
    return Call("in", tuple(aligned), BOOLEAN, any_nullable(aligned))


def _like(_: str, operands: Sequence[Expression]) -> Expression:
    text, *constants = operands
    texts = [one.value for one in constants if isinstance(one, Literal) and isinstance(one.value, str)]
    if text.type.kind not in (Kind.VARCHAR, Kind.NULL) or len(texts) < len(constants):
        raise Misfit("LIKE takes a VARCHAR and a constant pattern", "write column LIKE 'pattern%'")
    pattern, *escape = texts
    if len(pattern) > _MAX_PATTERN:
        raise Misfit(f"the pattern is longer than {_MAX_PATTERN} characters", "write a shorter one")
    if escape and (len(escape[0]) != 1 or _ends_escaping(pattern, escape[0])):
        raise Misfit("ESCAPE takes one character, with another one after it in the pattern", "write ESCAPE '!'")
    return Call("like", (converted(text, VARCHAR), *constants), BOOLEAN, text.nullable)


def _ends_escaping(pattern: str, escape: str) -> bool:
    return (len(pattern) - len(pattern.rstrip(escape))) % 2 == 1


def _is_null(_: str, operands: Sequence[Expression]) -> Expression:
    if operands[1] != NOTHING:
        raise Misfit("IS takes NULL", "write IS NULL, IS NOT NULL, or the condition itself")
    return Call("is null", (operands[0],), BOOLEAN, False)


def _joined_text(name: str, operands: Sequence[Expression]) -> Expression:
    for operand in operands:
        if operand.type.kind not in (Kind.VARCHAR, Kind.NULL):
            raise Misfit(f"|| joins texts, not {operand.type}", "write CAST(… AS VARCHAR)")
    return Call(name, tuple(converted(one, VARCHAR) for one in operands), VARCHAR, any_nullable(operands))


def _arithmetic(name: str, operands: Sequence[Expression]) -> Expression:
    if DATE in (operands[0].type, operands[-1].type):
        return _date_arithmetic(name, operands)
    left, right = unified(operands)
    kind = left.type
    if not kind.is_number:
        raise Misfit(f"{name} takes numbers, not {kind}", "CAST both sides to a number, such as DOUBLE")
    if name == "/" and kind.is_integer:
        left, right, kind = converted(left, DOUBLE), converted(right, DOUBLE), DOUBLE
    if name == "//" and not kind.is_integer:
        raise Misfit(f"// divides whole numbers, not {kind}", "write /, or CAST both sides to BIGINT")
    return Call(name, (left, right), kind, _may_vanish(name, kind, right) or any_nullable([left, right]))


def _may_vanish(name: str, kind: Type, right: Expression) -> bool:
    """Whether the result may be NULL though neither side is: an overflow, or a division by zero."""
    if name in ("+", "-", "*"):
        return kind.is_integer
    return not (isinstance(right, Literal) and right.value not in (None, 0, -1))


def _date_arithmetic(name: str, operands: Sequence[Expression]) -> Expression:
    left, right = operands
    if name == "-" and left.type == right.type == DATE:
        return Call("days between", (left, right), BIGINT, any_nullable(operands))
    if name == "+" and right.type == DATE:
        left, right = right, left
    if name not in ("+", "-") or left.type != DATE or right.type.kind not in (Kind.INTEGER, Kind.NULL):
        raise Misfit(f"{operands[0].type} {name} {operands[1].type} has no meaning", "write date + days, an INTEGER")
    return Call(f"date {name}", (left, converted(right, INTEGER)), DATE, True)


def _negated(_: str, operands: Sequence[Expression]) -> Expression:
    (operand,) = operands
    if isinstance(operand, Literal) and isinstance(operand.value, int) and operand.type.is_integer:
        return _integer(-operand.value)
    if isinstance(operand, Literal) and isinstance(operand.value, float | Decimal):
        return Literal(-operand.value, operand.type)
    if not operand.type.is_number:
        raise Misfit(f"- takes a number, not {operand.type}", "CAST it to a number, such as DOUBLE")
    return Call("neg", (operand,), operand.type, operand.nullable or operand.type.is_integer)


def coalesce(_: str, operands: Sequence[Expression]) -> Expression:
    """The first operand that is not NULL."""
    if not operands:
        raise Misfit("coalesce takes operands", "write coalesce(a, b)")
    aligned = unified(operands)
    return Call("coalesce", tuple(aligned), aligned[0].type, all(one.nullable for one in aligned))


def nullif(_: str, operands: Sequence[Expression]) -> Expression:
    """The first operand, or NULL where both are equal."""
    if len(operands) != 2:
        raise Misfit("nullif takes two operands", "write nullif(a, b)")
    return Call("nullif", (operands[0], comparison("=", operands)), operands[0].type, True)


# What may be NULL though no operand is: an overflow, a day outside the calendar, a division by zero.
CALCULATIONS = frozenset({"+", "-", "*", "/", "//", "%", "neg", "abs", "date +", "date -"})
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from")
ARITHMETIC = ("+", "-", "*", "/", "//", "%")
OPERATORS: dict[str, Resolver] = {
    **dict.fromkeys(COMPARISONS, comparison),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys(("and", "or"), _logic),
    "not": _not,
    "in": _in,
    "between": _between,
    "like": _like,
    "is": _is_null,
    "||": _joined_text,
    "neg": _negated,
}
