"""Gives every expression of a SELECT its meaning: which field, which function, which type, NULL or not.

Every fault is a finding with its place; an expression with a fault inside has no type, and is not blamed again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from civicbus.schemas.sql.functions import CLOCK_AND_CHANCE, FUNCTIONS, Misfit, resolve
from civicbus.schemas.sql.nodes import NOTHING, Expression, Field, Literal
from civicbus.schemas.sql.parse import Reader
from civicbus.schemas.sql.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, VARCHAR, FieldType

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.And: "and",
    exp.Or: "or",
    exp.Not: "not",
    exp.In: "in",
    exp.Is: "is",
}
_SUBQUERIES = (exp.Subquery, exp.Select, exp.Exists, exp.SetOperation)


@dataclass(frozen=True, slots=True)
class Scope:
    """What column names mean: the fields of each source, by the alias they are qualified with."""

    sources: dict[str, tuple[str, dict[str, FieldType]]]

    def names(self) -> list[str]:
        return [name for _, fields in self.sources.values() for name in fields]


def type_expression(node: exp.Expr, scope: Scope, reader: Reader) -> Expression | None:
    """The typed tree of an expression, or None where something in it was reported."""
    return _Typing(scope, reader).expression(node)


class _Typing:
    def __init__(self, scope: Scope, reader: Reader) -> None:
        self._scope = scope
        self._reader = reader

    def expression(self, node: exp.Expr) -> Expression | None:
        try:
            return self._meaning(node)
        except Misfit as misfit:
            self._reader.report(node, misfit.fault, misfit.mend)
            return None

    def _meaning(self, node: exp.Expr) -> Expression | None:
        match node:
            case exp.Paren():
                return self.expression(node.this)
            case exp.Column():
                return self._column(node)
            case exp.Literal():
                return _literal(node)
            case exp.Boolean():
                return Literal(bool(node.this), BOOLEAN)
            case exp.Null():
                return NOTHING
            case exp.Anonymous():
                return self._function(node)
            case exp.Window():
                raise Misfit("a view has no window function", "a view has one row a record; leave OVER out")
            case exp.Star():
                raise Misfit("* names no column", f"name the columns: {', '.join(self._scope.names())}")
        if isinstance(node, _SUBQUERIES):
            raise Misfit("a view has no subquery", "write the condition on columns of this dataset")
        return self._operator(node)

    def _operator(self, node: exp.Expr) -> Expression | None:
        name = _OPERATORS.get(type(node))
        if name is None:
            raise Misfit(f"{node.sql('duckdb')[:60]} is not in the view language", "see docs/view-language.md")
        operands = [node.this, *node.args.get("expressions", ()), *filter(None, [node.args.get("expression")])]
        return self._call(name, operands)

    def _function(self, node: exp.Anonymous) -> Expression | None:
        name = str(node.this).lower()
        if name not in FUNCTIONS:
            raise _unknown_function(name)
        return self._call(name, node.expressions)

    def _call(self, name: str, operands: Sequence[exp.Expr]) -> Expression | None:
        typed = [self.expression(operand) for operand in operands]
        known = [expression for expression in typed if expression is not None]
        return resolve(name, known) if len(known) == len(typed) else None

    def _column(self, node: exp.Column) -> Expression:
        name = node.name.lower()
        if isinstance(node.this, exp.Star):
            raise Misfit("* names no column", f"name the columns: {', '.join(self._scope.names())}")
        if node.args.get("db"):
            raise Misfit(f"{node.sql('duckdb')} is qualified twice", "qualify a column by the alias of its dataset")
        qualifier = node.table.lower()
        if qualifier and qualifier not in self._scope.sources:
            raise Misfit(f"there is no {qualifier} here", f"qualify by {_alternatives(self._scope.sources)}")
        sources = {qualifier: self._scope.sources[qualifier]} if qualifier else self._scope.sources
        found = [(label, fields[name]) for label, fields in sources.values() if name in fields]
        if len(found) > 1:
            owners = [f"{alias}.{name}" for alias, (_, fields) in sources.items() if name in fields]
            raise Misfit(f"{name} is in several datasets", f"write {_alternatives(owners)}")
        if not found:
            raise self._unknown_column(name, [field for _, fields in sources.values() for field in fields])
        label, kind = found[0]
        return Field(label, name, kind.type, kind.nullable)

    def _unknown_column(self, name: str, known: Sequence[str]) -> Misfit:
        if name in CLOCK_AND_CHANCE:
            return _unknown_function(name)
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
        return Misfit(f"there is no column {name}", f"write {_alternatives(nearest)}")


def _unknown_function(name: str) -> Misfit:
    if name in CLOCK_AND_CHANCE:
        return Misfit(f"{name} depends on the clock or on chance", "write a constant or a column instead")
    nearest = difflib.get_close_matches(name, FUNCTIONS, n=3, cutoff=0.6)
    mend = f"write {_alternatives(nearest)}" if nearest else "see the list in docs/view-language.md"
    return Misfit(f"{name} is not on the list of functions", mend)


def _alternatives(names: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def _literal(node: exp.Literal) -> Literal:
    text = str(node.this)
    if node.is_string:
        return Literal(text, VARCHAR)
    if text.isdigit():
        return _integer(int(text))
    return Literal(float(text), DOUBLE)


def _integer(value: int) -> Literal:
    if value >= 2**63:
        raise Misfit(f"{value} is beyond BIGINT", "write a number below 9223372036854775808")
    return Literal(value, INTEGER if value < 2**31 else BIGINT)
