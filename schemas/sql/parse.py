"""Reads the text of a SELECT into a syntax tree in which every node knows its place.

sqlglot parses in DuckDB's dialect, with its own knowledge of functions taken away: a function stays the name
that was written, and the closed list decides what it means. Every clause that a live view cannot keep is found
here, with its place and what to write instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, TypeVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, ParseError, TokenError
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType

from civicbus.schemas.sql.duckdb import SyntaxFault, syntax_fault

Node = TypeVar("Node", bound=exp.Expr)

_CLAUSES = {
    "with_": ("a view has no WITH", "write the expression where it is used"),
    "distinct": ("a view has no DISTINCT", "every record key is in the view once; leave DISTINCT out"),
    "group": ("a view has no GROUP BY", "a view has one row a record; the subscriber aggregates its table"),
    "having": ("a view has no HAVING", "write a condition on single rows in WHERE"),
    "qualify": ("a view has no QUALIFY", "write a condition on single rows in WHERE"),
    "windows": ("a view has no WINDOW", "a view has one row a record; the subscriber aggregates its table"),
    "order": ("a view has no ORDER BY", "an inbox is keyed, not ordered; leave ORDER BY out"),
    "limit": ("a view has no LIMIT", "write a condition in WHERE"),
    "offset": ("a view has no OFFSET", "write a condition in WHERE"),
    "sample": ("a view has no sample", "nothing may depend on chance; write a condition in WHERE"),
}
_READ_CLAUSES = {"expressions", "from_", "joins", "where"}
_MAX_TOKENS = 20_000


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line and a column of the SELECT, both counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


START = Place(1, 1)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at a place, and what to write instead. No place: the document around the SELECT."""

    place: Place | None
    fault: str
    mend: str

    def __str__(self) -> str:
        where = "agreement" if self.place is None else f"select {self.place}"
        return f"{where}: {self.fault}; {self.mend}"


@dataclass(frozen=True, slots=True)
class Output:
    """One expression of the SELECT list, with the name that AS gives it."""

    expression: exp.Expr
    name: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """A dataset in FROM or JOIN, as written, and the name by which columns are qualified."""

    dataset: str
    alias: str
    node: exp.Expr


@dataclass(frozen=True, slots=True)
class Joined:
    """One JOIN: ``left`` keeps rows without a match. No ``on``: it is wrong, and has columns all the same."""

    source: Named
    left: bool
    on: exp.Expr | None


@dataclass(frozen=True, slots=True)
class Select:
    """The parts of a SELECT that a view has."""

    outputs: tuple[Output, ...]
    driving: Named | None
    joins: tuple[Joined, ...]
    where: exp.Expr | None


class _SyntaxFault(ParseError):
    """sqlglot's own error, with the offset of the word that it could not read."""

    def __init__(self, message: str, offset: int) -> None:
        # sqlglot writes into the first of the errors where it tries another reading.
        super().__init__(message, [{"description": message}])
        self.offset = offset


class _ViewParser(DuckDBParser):
    """DuckDB's grammar without its function library; each node gets the offset where it starts."""

    FUNCTIONS: ClassVar = {}
    FUNCTION_PARSERS: ClassVar = {
        name: parser
        for name, parser in DuckDBParser.FUNCTION_PARSERS.items()
        if name in ("CAST", "TRY_CAST", "EXTRACT")
    }
    NO_PAREN_FUNCTION_PARSERS: ClassVar = {"CASE": DuckDBParser.NO_PAREN_FUNCTION_PARSERS["CASE"]}
    NO_PAREN_FUNCTIONS: ClassVar = {}

    def raise_error(self, message: str, token: Token | None = None) -> None:
        place = token or self._curr or self._prev
        raise _SyntaxFault(message, 0 if place is None else place.start)

    def expression(self, instance: Node, token: Token | None = None, comments: list[str] | None = None) -> Node:
        node = super().expression(instance, token, comments)
        if "start" not in node.meta and self._prev is not None:
            node.meta["start"] = self._prev.start
        return node


class _ViewDialect(DuckDB):
    Parser = _ViewParser


class Reader:
    """Reads one text; ``findings`` holds what is wrong with it so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.findings: list[Finding] = []

    def report(self, where: exp.Expr | Place, fault: str, mend: str) -> None:
        place = where if isinstance(where, Place) else self.place(where)
        finding = Finding(place, fault, mend)
        if finding not in self.findings:
            self.findings.append(finding)

    def place(self, node: exp.Expr) -> Place:
        """Where the leftmost part of a node stands."""
        return self._at(min((part.meta["start"] for part in node.walk() if "start" in part.meta), default=0))

    def read(self) -> Select | None:
        """The SELECT, or None where the text is none; the reasons are among the findings."""
        statement = self._statement()
        if not isinstance(statement, exp.Select):
            if statement is not None:
                self._refuse_statement(statement)
            return None
        for name, value in statement.args.items():
            if value and name not in _READ_CLAUSES:
                self._refuse_clause(statement, name, value)
        if not statement.expressions:
            self.report(statement, "there are no columns", "name them: SELECT column, … FROM …")
            return None
        return self._select(statement)

    def confirm(self) -> None:
        """Report what sqlglot reads and DuckDB does not: the law says nothing of it."""
        fault = syntax_fault(self.text)
        if fault is not None:
            self._refuse_words(fault)

    def _at(self, offset: int) -> Place:
        before = self.text[:offset]
        return Place(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)

    def _statement(self) -> exp.Expr | None:
        dialect = _ViewDialect()
        try:
            tokens = dialect.tokenize(self.text)
            if not self._acceptable(tokens):
                return None
            statements = dialect.parser(error_level=ErrorLevel.IMMEDIATE).parse(tokens, self.text)
        except (ParseError, TokenError) as error:
            self._refuse_syntax(error)
            return None
        except RecursionError:
            self.report(START, "the SELECT is nested too deeply", "write it with fewer parentheses")
            return None
        if len(statements) == 1 and statements[0] is not None:
            return statements[0]
        self.report(START, "an agreement has one SELECT", "write one SELECT, and no second statement")
        return None

    def _acceptable(self, tokens: Sequence[Token]) -> bool:
        if len(tokens) > _MAX_TOKENS:
            self.report(START, f"the SELECT is longer than {_MAX_TOKENS} words", "write a shorter one")
            return False
        for token, follower in pairwise(tokens):
            if token.token_type is TokenType.NUMBER and follower.start == token.end + 1 and follower.text[0].isalnum():
                self.report(self._at(token.start), "this is no number", "write a decimal number")
                return False
        return True

    def _refuse_syntax(self, error: ParseError | TokenError) -> None:
        fault = syntax_fault(self.text)
        if fault is not None:
            self._refuse_words(fault)
        else:
            offset = error.offset if isinstance(error, _SyntaxFault) else 0
            self.report(self._at(offset), "this is not in the view language", "see `civicbus agreements language`")

    def _refuse_words(self, fault: SyntaxFault) -> None:
        """A fault as DuckDB's parser says it, at the place that it shows."""
        self.report(self._at(fault.offset), f"this is no SQL: {fault.words}", "correct the words here")

    def _refuse_statement(self, statement: exp.Expr) -> None:
        if isinstance(statement, exp.SetOperation):
            name = type(statement).__name__.upper()
            self.report(statement, f"a view has no {name}", "write one SELECT, or one agreement for each")
        else:
            self.report(START, "an agreement has a SELECT and nothing else", "write SELECT … FROM … WHERE …")

    def _refuse_clause(self, statement: exp.Select, name: str, value: object) -> None:
        fault, mend = _CLAUSES.get(name, (f"a view has no {name.strip('_').upper()}", "leave it out"))
        self.report(value if isinstance(value, exp.Expr) else statement, fault, mend)

    def _select(self, statement: exp.Select) -> Select:
        origin = statement.args.get("from_")
        if origin is None:
            self.report(statement, "there is no FROM", "name the driving dataset: FROM <department>.<dataset>")
        where = statement.args.get("where")
        return Select(
            outputs=tuple(self._output(node) for node in statement.expressions),
            driving=None if origin is None else self._named(origin.this),
            joins=tuple(joined for node in statement.args.get("joins") or () if (joined := self._joined(node))),
            where=where and where.this,
        )

    def _output(self, node: exp.Expr) -> Output:
        return Output(node.this, node.alias) if isinstance(node, exp.Alias) else Output(node, None)

    def _named(self, node: exp.Expr) -> Named | None:
        if isinstance(node, exp.Subquery | exp.Select):
            self.report(node, "a view has no subquery", "name a dataset: <department>.<dataset>")
            return None
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier) or node.args.get("catalog"):
            self.report(node, "this is no dataset", "name a dataset: <department>.<dataset>")
            return None
        for name, value in node.args.items():
            if value and name not in ("this", "db", "alias"):
                self.report(node, "a dataset stands alone here", f"leave {name.strip('_').upper()} out")
        if node.alias_column_names:
            self.report(node, "columns get their names in the SELECT list", f"write AS {node.alias}, without them")
        if not node.db:
            mend = f"write <department>.{node.name}, each in quotes of its own" if "." in node.name else ""
            self.report(node, f"{node.name} names no department", mend or f"write <department>.{node.name}")
            return None
        return Named(f"{node.db}.{node.name}".lower(), (node.alias or node.name).lower(), node)

    def _joined(self, node: exp.Join) -> Joined | None:
        source = self._named(node.this)
        how = " ".join(str(node.args.get(part) or "") for part in ("method", "side", "kind")).split()
        if how not in ([], ["INNER"], ["LEFT"], ["LEFT", "OUTER"]):
            self.report(node, f"a view has no {' '.join(how)} JOIN", "write LEFT JOIN or INNER JOIN")
        elif node.args.get("using"):
            self.report(node, "a view has no USING", "write ON <dataset>.<key> = <column>")
        elif node.args.get("on") is None:
            self.report(node, "this join has no ON", "write JOIN … ON <dataset>.<key> = <column>")
        elif any(value and part not in ("this", "side", "kind", "on") for part, value in node.args.items()):
            self.report(node, "this is no plain JOIN", "write LEFT JOIN … ON, or INNER JOIN … ON")
        elif source is not None:
            return Joined(source, how[:1] == ["LEFT"], node.args["on"])
        return None if source is None else Joined(source, True, None)
