"""The closed list of operators and functions: what each takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from civicbus.schemas.sql.nodes import Call, Expression, Literal
from civicbus.schemas.sql.types import BIGINT, BOOLEAN, INTEGER, NULL, VARCHAR, Kind, Type

CLOCK_AND_CHANCE = frozenset(
    "now today current_date current_time current_timestamp get_current_timestamp get_current_time localtime "
    "localtimestamp transaction_timestamp random setseed uuid gen_random_uuid uuidv4 uuidv7 nextval".split()
)


class Misfit(Exception):
    """An expression has no meaning; carries what is wrong and what to write instead."""

    def __init__(self, fault: str, mend: str) -> None:
        super().__init__(f"{fault}; {mend}")
        self.fault = fault
        self.mend = mend


def resolve(name: str, arguments: Sequence[Expression]) -> Expression:
    """The call of an operator or function on these operands; raises Misfit where it does not take them."""
    return FUNCTIONS[name](name, arguments) if name in FUNCTIONS else OPERATORS[name](name, arguments)


def _common(left: Expression, right: Expression) -> Type:
    if left.type == right.type or right.type == NULL:
        return left.type
    if left.type == NULL:
        return right.type
    if left.type.is_integer and right.type.is_integer:
        return BIGINT
    raise Misfit(f"{left.type} does not compare with {right.type}", "CAST one of them to the type of the other")


def widened(expression: Expression, kind: Type) -> Expression:
    """The expression in a wider type."""
    if expression.type == kind:
        return expression
    if isinstance(expression, Literal):
        return Literal(expression.value, kind)
    return Call("cast", (expression,), kind, expression.nullable)


def _comparison(name: str, arguments: Sequence[Expression]) -> Expression:
    left, right = arguments
    kind = _common(left, right)
    return Call(name, (widened(left, kind), widened(right, kind)), BOOLEAN, left.nullable or right.nullable)


def _logic(name: str, arguments: Sequence[Expression]) -> Expression:
    for argument in arguments:
        if argument.type.kind not in (Kind.BOOLEAN, Kind.NULL):
            raise Misfit(f"{name.upper()} takes conditions, not {argument.type}", "write a comparison")
    return Call(name, tuple(widened(a, BOOLEAN) for a in arguments), BOOLEAN, any(a.nullable for a in arguments))


def _in(name: str, arguments: Sequence[Expression]) -> Expression:
    wanted, *listed = arguments
    if not listed:
        raise Misfit("IN takes a list", "write IN (value, …)")
    kind = wanted.type
    for item in listed:
        kind = _common(Literal(None, kind), item) if kind == NULL else _common(Literal(0, kind), item)
    return Call("in", tuple(widened(a, kind) for a in arguments), BOOLEAN, any(a.nullable for a in arguments))


def _is(_: str, arguments: Sequence[Expression]) -> Expression:
    value, test = arguments
    if test == Literal(None, NULL):
        return Call("is null", (value,), BOOLEAN, False)
    raise Misfit("IS takes NULL", "write IS NULL or IS NOT NULL")


def _mask(name: str, arguments: Sequence[Expression]) -> Expression:
    if not 1 <= len(arguments) <= 3 or arguments[0].type != VARCHAR:
        raise Misfit("mask takes a VARCHAR and how many characters to keep", "write mask(x) or mask(x, 3, 4)")
    kept = [*arguments[1:], *[Literal(0, INTEGER)] * (3 - len(arguments))]
    if not all(isinstance(k, Literal) and k.type == INTEGER for k in kept):
        raise Misfit("mask keeps a constant number of characters", "write mask(x, 3, 4)")
    return Call(name, (arguments[0], *kept), VARCHAR, arguments[0].nullable)


Resolver = Callable[[str, Sequence[Expression]], Expression]

OPERATORS: dict[str, Resolver] = {
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), _comparison),
    **dict.fromkeys(("and", "or", "not"), _logic),
    "in": _in,
    "is": _is,
}
FUNCTIONS: dict[str, Resolver] = {"mask": _mask}
