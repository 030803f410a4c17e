"""The typed expression tree of a view: three kinds of node, each with its type and whether it may be NULL.

Nodes know neither text nor aliases, so that one expression in two views is one equal tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from civicbus.schemas.sql.types import NULL, Type

Value = str | int | float | bool | Decimal | None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a source. ``source`` is empty for the driving dataset, else the joined source's label."""

    source: str
    name: str
    type: Type
    nullable: bool

    @property
    def column(self) -> str:
        """The name of this field's column in the frame that a view is evaluated on."""
        return f"{self.source}.{self.name}" if self.source else self.name


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. A date is its days since 1970-01-01, a timestamp its microseconds or milliseconds in UTC."""

    value: Value
    type: Type

    @property
    def nullable(self) -> bool:
        return self.value is None


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function of the closed list, applied to operands of the types it takes."""

    name: str
    arguments: tuple[Expression, ...]
    type: Type
    nullable: bool


Expression = Field | Literal | Call

NOTHING = Literal(None, NULL)


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything below it."""
    yield expression
    if isinstance(expression, Call):
        for argument in expression.arguments:
            yield from walk(argument)


def fields_of(expression: Expression) -> frozenset[Field]:
    """The source fields that an expression reads."""
    return frozenset(node for node in walk(expression) if isinstance(node, Field))
