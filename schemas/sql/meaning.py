"""Gives every expression of a SELECT its meaning: which field, which function, which type, NULL or not.

Every fault is a finding with its place; an expression with a fault inside has no type, and is not blamed again.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import TypeVar

from sqlglot import exp

from civicbus.schemas.sql.coercion import Misfit
from civicbus.schemas.sql.functions import AGGREGATES, CLOCK_AND_CHANCE, FUNCTIONS, SYNONYMS
from civicbus.schemas.sql.nodes import NOTHING, Expression, Field, Literal, walk
from civicbus.schemas.sql.operators import BIGINT_RANGE, INTEGER_RANGE, OPERATORS, case, cast, comparison
from civicbus.schemas.sql.parse import Reader
from civicbus.schemas.sql.types import BIGINT, BOOLEAN, DATE, DOUBLE, FLOAT, INTEGER, VARCHAR, FieldType, Kind, Type

Part = TypeVar("Part")

_BINARY: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "is not distinct from",
    exp.NullSafeNEQ: "is distinct from",
    exp.And: "and",
    exp.Or: "or",
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.IntDiv: "//",
    exp.Mod: "%",
    exp.DPipe: "||",
    exp.Is: "is",
}
_COMPARED = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_UNARY: dict[type[exp.Expr], str] = {exp.Not: "not", exp.Neg: "neg"}
_CAST_TARGETS: dict[exp.DType, Type] = {
    exp.DType.BOOLEAN: BOOLEAN,
    exp.DType.INT: INTEGER,
    exp.DType.BIGINT: BIGINT,
    exp.DType.FLOAT: FLOAT,
    exp.DType.DOUBLE: DOUBLE,
    exp.DType.TEXT: VARCHAR,
    exp.DType.VARCHAR: VARCHAR,
    exp.DType.DATE: DATE,
}
_REFUSED: tuple[tuple[tuple[type[exp.Expr], ...], str, str], ...] = (
    (
        (exp.Subquery, exp.Select, exp.Exists, exp.SetOperation),
        "a view has no subquery",
        "write a condition on columns of this row",
    ),
    ((exp.Window,), "a view has no window function", "a view has one row a record; leave OVER out"),
    ((exp.Distinct, exp.Filter, exp.WithinGroup), "a view has no aggregate", "a view has one row a record"),
    ((exp.ILike,), "ILIKE is not in the view language", "write lower(text) LIKE 'pattern%'"),
    ((exp.Interval,), "INTERVAL is not in the view language", "write whole days: date + 30"),
    ((exp.Extract,), "EXTRACT is not in the view language", "write year(date), month(date) or day(date)"),
    ((exp.Pow,), "^ is not in the view language", "write a product: x * x"),
    (
        (exp.RegexpLike, exp.SimilarTo, exp.Glob),
        "patterns other than LIKE's are not in the view language",
        "write LIKE",
    ),
    ((exp.Placeholder, exp.Parameter), "a view has no parameters", "write the value itself"),
    ((exp.Aliases, exp.PropertyEQ), "a column has one name", "write expression AS name"),
)
# What the parser may have put into a node. Whatever else stands there changes the meaning, and is refused.
_OPERANDS = frozenset({"this", "expression"})
_PARTS: dict[type[exp.Expr], frozenset[str]] = {
    exp.Like: _OPERANDS | {"negate"},
    exp.Div: _OPERANDS | {"typed", "safe"},
    exp.DPipe: _OPERANDS | {"safe"},
    exp.Column: frozenset({"this", "table", "db", "catalog"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Anonymous: frozenset({"this", "expressions"}),
    exp.In: frozenset({"this", "expressions", "query", "field", "unnest"}),
    exp.Between: frozenset({"this", "low", "high", "symmetric"}),
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.Cast: frozenset({"this", "to", "_type"}),
    exp.TryCast: frozenset({"this", "to", "safe", "_type"}),
}
_MAX_DEPTH = 100
_MAX_PARTS = 20_000
_MAX_BRANCHES = 200
_MAX_DECIMAL_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Scope:
    """What column names mean: for each alias its source's label, and the fields of its dataset."""

    sources: Mapping[str, tuple[str, Mapping[str, FieldType | None]]]

    def qualified(self, name: str) -> list[str]:
        """Every way to write this column."""
        return [f"{alias}.{name}" for alias, (_, fields) in self.sources.items() if name in fields]

    def names(self) -> list[str]:
        return [name for _, fields in self.sources.values() for name, kind in fields.items() if kind is not None]


def meaning_of(node: exp.Expr, scope: Scope, reader: Reader) -> Expression | None:
    """The typed tree of an expression, or None where something in it was reported."""
    found = _Meaning(scope, reader).of(node)
    if found is not None and sum(1 for _ in islice(walk(found), _MAX_PARTS + 1)) > _MAX_PARTS:
        fault = f"this has more than {_MAX_PARTS} parts, each value counted wherever it is used"
        reader.report(node, fault, "write it shorter, or JOIN a dataset that has what it spells out")
        return None
    return found


class _Meaning:
    def __init__(self, scope: Scope, reader: Reader) -> None:
        self._scope = scope
        self._reader = reader
        self._depth = 0

    def of(self, node: exp.Expr) -> Expression | None:
        self._depth += 1
        try:
            return self._of(node)
        except Misfit as misfit:
            self._reader.report(node, misfit.fault, misfit.mend)
            return None
        finally:
            self._depth -= 1

    def _of(self, node: exp.Expr) -> Expression | None:
        if self._depth > _MAX_DEPTH:
            raise Misfit("this is nested too deeply", "write it shorter")
        for kinds, fault, mend in _REFUSED:
            if isinstance(node, kinds):
                raise Misfit(fault, mend)
        for part, value in node.args.items():
            if value and part not in _PARTS.get(type(node), _OPERANDS):
                raise Misfit(f"{node.sql('duckdb')[:60]} is not in the view language", f"leave {part} out")
        self._comparable(node)
        if type(node) in _BINARY:
            return self._operator(_BINARY[type(node)], self._chain(node))
        if type(node) in _UNARY:
            return self._negation(node)
        special = _SPECIAL.get(type(node))
        if special is not None:
            return special(self, node)
        raise Misfit(f"{node.sql('duckdb')[:60]} is not in the view language", "see `civicbus agreements language`")

    def all(self, nodes: Iterable[exp.Expr]) -> list[Expression] | None:
        """The meanings of all, or None where one has none; every one is looked at."""
        return complete([self.of(node) for node in nodes])

    def _comparable(self, node: exp.Expr) -> None:
        """DuckDB refuses a < b < c, and so do we."""
        if isinstance(node, _COMPARED) and any(isinstance(side, _COMPARED) for side in (node.this, node.expression)):
            raise Misfit("comparisons do not chain", "join them by AND, or put one in parentheses")

    def _operator(self, name: str, nodes: Sequence[exp.Expr]) -> Expression | None:
        operands = self.all(nodes)
        return None if operands is None else OPERATORS[name](name, operands)

    def _chain(self, node: exp.Expr) -> list[exp.Expr]:
        """The operands; those of AND, OR and || in one row, so that long chains do not nest."""
        if not isinstance(node, exp.And | exp.Or | exp.DPipe):
            return [node.this, node.expression]
        right: list[exp.Expr] = []
        link: exp.Expr = node
        while type(link) is type(node):
            right.append(link.expression)
            link = link.this
        return [link, *reversed(right)]

    def _negation(self, node: exp.Expr) -> Expression | None:
        inner = node.this
        if isinstance(node, exp.Neg) and isinstance(inner, exp.Literal) and not inner.is_string:
            return _number(f"-{inner.this}")
        return self._operator(_UNARY[type(node)], [inner])

    def parenthesis(self, node: exp.Expr) -> Expression | None:
        return self.of(node.this)

    def literal(self, node: exp.Expr) -> Expression:
        text = str(node.this)
        return Literal(text, VARCHAR) if node.is_string else _number(text)

    def boolean(self, node: exp.Expr) -> Expression:
        return Literal(bool(node.this), BOOLEAN)

    def null(self, _: exp.Expr) -> Expression:
        return NOTHING

    def listing(self, node: exp.Expr) -> Expression | None:
        if node.args.get("query") is not None or node.args.get("field") is not None:
            raise Misfit("a view has no subquery", "list the values: IN ('a', 'b')")
        return self._operator("in", [node.this, *node.expressions])

    def between(self, node: exp.Expr) -> Expression | None:
        if node.args.get("symmetric"):
            raise Misfit("BETWEEN SYMMETRIC is not in the view language", "write BETWEEN low AND high")
        return self._operator("between", [node.this, node.args["low"], node.args["high"]])

    def like(self, node: exp.Expr, *escape: exp.Expr) -> Expression | None:
        found = self._operator("like", [node.this, node.expression, *escape])
        if found is None or not node.args.get("negate"):
            return found
        return OPERATORS["not"]("not", [found])

    def escaped(self, node: exp.Expr) -> Expression | None:
        if not isinstance(node.this, exp.Like):
            raise Misfit("ESCAPE follows LIKE", "write text LIKE 'pattern' ESCAPE '!'")
        return self.like(node.this, node.expression)

    def case(self, node: exp.Expr) -> Expression | None:
        branches = node.args["ifs"]
        if len(branches) > _MAX_BRANCHES:
            raise Misfit(f"a CASE has at most {_MAX_BRANCHES} branches", "JOIN a dataset that has them")
        whens = self._whens(node.this, [branch.this for branch in branches])
        values = self.all(branch.args["true"] for branch in branches)
        default = node.args.get("default")
        otherwise = NOTHING if default is None else self.of(default)
        if whens is None or values is None or otherwise is None:
            return None
        return case(list(zip(whens, values, strict=True)), otherwise)

    def _whens(self, compared: exp.Expr | None, nodes: Sequence[exp.Expr]) -> list[Expression] | None:
        whens = self.all(nodes)
        if compared is None or whens is None:
            return whens
        value = self.of(compared)
        return None if value is None else [comparison("=", [value, when]) for when in whens]

    def cast(self, node: exp.Expr) -> Expression | None:
        target = node.args["to"]
        kind = _CAST_TARGETS.get(target.this)
        if kind is None or target.expressions:
            known = ", ".join(dict.fromkeys(str(known) for known in _CAST_TARGETS.values()))
            raise Misfit(f"there is no CAST to {target.sql('duckdb')}", f"write one of {known}")
        operand = self.of(node.this)
        return None if operand is None else cast(operand, kind)

    def function(self, node: exp.Expr) -> Expression | None:
        name = str(node.this).lower()
        if name not in FUNCTIONS:
            raise unknown_function(name)
        operands = self.all(node.expressions)
        return None if operands is None else FUNCTIONS[name].resolve(operands)

    def star(self, _: exp.Expr) -> Expression:
        raise Misfit("* names no column", f"name the columns: {', '.join(self._scope.names())}")

    def column(self, node: exp.Expr) -> Expression:
        assert isinstance(node, exp.Column)  # noqa: S101 - _SPECIAL says so
        if isinstance(node.this, exp.Star):
            return self.star(node)
        if node.args.get("db"):
            raise Misfit(f"{node.sql('duckdb')} is qualified twice", "qualify a column by the alias of its dataset")
        name, qualifier = node.name.lower(), node.table.lower()
        if qualifier and qualifier not in self._scope.sources:
            raise Misfit(f"there is no {qualifier} here", f"qualify by {alternatives(self._scope.sources)}")
        sources = [self._scope.sources[qualifier]] if qualifier else list(self._scope.sources.values())
        found = [(label, fields[name]) for label, fields in sources if name in fields]
        if len(found) > 1:
            raise Misfit(f"{name} is ambiguous", f"write {alternatives(self._scope.qualified(name))}")
        if not found:
            raise self._unknown_column(name, [field for _, fields in sources for field in fields])
        label, kind = found[0]
        if kind is None:
            raise Misfit(f"{name} holds several values", "leave it out; a view has single values")
        return Field(label, name, kind.type, kind.nullable)

    def _unknown_column(self, name: str, known: Sequence[str]) -> Misfit:
        if name in CLOCK_AND_CHANCE:
            return unknown_function(name)
        return Misfit(f"there is no column {name}", f"write {alternatives(nearest(name, known))}")


_SPECIAL: dict[type[exp.Expr], Callable[[_Meaning, exp.Expr], Expression | None]] = {
    exp.Paren: _Meaning.parenthesis,
    exp.Column: _Meaning.column,
    exp.Literal: _Meaning.literal,
    exp.Boolean: _Meaning.boolean,
    exp.Null: _Meaning.null,
    exp.Anonymous: _Meaning.function,
    exp.Star: _Meaning.star,
    exp.In: _Meaning.listing,
    exp.Between: _Meaning.between,
    exp.Like: _Meaning.like,
    exp.Escape: _Meaning.escaped,
    exp.Case: _Meaning.case,
    exp.Cast: _Meaning.cast,
    exp.TryCast: _Meaning.cast,
}


def complete(parts: Sequence[Part | None]) -> list[Part] | None:
    """All the parts, or None where one is missing."""
    present = [part for part in parts if part is not None]
    return present if len(present) == len(parts) else None


def unknown_function(name: str) -> Misfit:
    """Why a function is not on the list, and what to write instead."""
    if name in CLOCK_AND_CHANCE:
        return Misfit(f"{name} depends on the clock or on chance", "write a constant or a column instead")
    if name in AGGREGATES:
        return Misfit(
            f"a view has no aggregate ({name})", "a view has one row a record; the subscriber aggregates its table"
        )
    known = [SYNONYMS[name]] if name in SYNONYMS else difflib.get_close_matches(name, FUNCTIONS, n=3, cutoff=0.6)
    mend = f"write {alternatives(known)}" if known else "see `civicbus agreements language`"
    return Misfit(f"{name} is not on the list of functions", mend)


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names most like this one; all of them where none is like it."""
    names = sorted(set(known))
    return difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names


def alternatives(names: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(names))


def _number(text: str) -> Literal:
    if text.lstrip("-").isdigit():
        return _integer(int(text))
    if "e" in text.lower():
        try:
            return Literal(float(text), DOUBLE)
        except ValueError:
            raise Misfit(f"{text} is no number", "write its exponent: 1e3") from None
    value = Decimal(text)
    digits, exponent = value.as_tuple().digits, int(value.as_tuple().exponent)
    if len(digits) > _MAX_DECIMAL_DIGITS or -exponent > _MAX_DECIMAL_DIGITS:
        raise Misfit(f"{text} has more than {_MAX_DECIMAL_DIGITS} digits", "write it with an exponent, as a DOUBLE")
    scale = -exponent
    return Literal(value, Type(Kind.DECIMAL, max(len(digits), scale), scale))


def _integer(value: int) -> Literal:
    if value not in BIGINT_RANGE:
        raise Misfit(f"{value} is beyond BIGINT", f"write a number from {-(2**63)} to {2**63 - 1}")
    return Literal(value, INTEGER if value in INTEGER_RANGE else BIGINT)
