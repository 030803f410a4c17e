"""Says which conditions a batch cannot meet, before they are evaluated.

Never wrong about a condition that some row meets: it looks only at what each row must have (``a = 'x' AND …``,
``a IN ('x', 'y') AND …``), once a field for all the conditions that name it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from civicbus.schemas.sql.nodes import Call, Expression, Field, Literal, Value
from civicbus.schemas.sql.types import BIGINT, INTEGER, VARCHAR
from civicbus.stream_apps.views.expressions import dtype

# Looking at a field costs about as much as evaluating a few conditions.
_WORTH_IT = 4
_EXACT = (VARCHAR, INTEGER, BIGINT)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a condition demands of a field: one of these values."""

    condition: int
    field: Field
    values: frozenset[Value]


class Pruning:
    """Made once for the conditions of all views of a dataset."""

    def __init__(self, conditions: Sequence[Expression]) -> None:
        self._all = [n for n, condition in enumerate(conditions) if not _is_never_true(condition)]
        by_field: defaultdict[Field, list[_Demand]] = defaultdict(list)
        for number in self._all:
            for demand in _demands(number, conditions[number]):
                by_field[demand.field].append(demand)
        self._fields = [_FieldDemands(field, some) for field, some in by_field.items() if len(some) >= _WORTH_IT]

    def __call__(self, frame: pl.DataFrame) -> list[int]:
        """The conditions that some row may meet."""
        dead = {number for field in self._fields for number in field.unmet(frame)}
        return [number for number in self._all if number not in dead]


class _FieldDemands:
    """The demands of many conditions on one field."""

    def __init__(self, field: Field, demands: Sequence[_Demand]) -> None:
        self._column = field.column
        self._demands = demands
        values = {value for demand in demands for value in demand.values}
        self._wanted = pl.Series("wanted", sorted(values, key=str), dtype=dtype(field.type))

    def unmet(self, frame: pl.DataFrame) -> Iterator[int]:
        column = frame.get_column(self._column)
        present = set(self._wanted.filter(self._wanted.is_in(column.implode())).to_list())
        return (demand.condition for demand in self._demands if demand.values.isdisjoint(present))


def _demands(number: int, condition: Expression) -> Iterator[_Demand]:
    for part in _conjuncts(condition):
        match part:
            case Call(name="=" | "in", arguments=(Field() as field, *constants)) if field.type in _EXACT:
                values = _values(constants)
                if values is not None:
                    yield _Demand(number, field, values)


def _conjuncts(condition: Expression) -> Iterable[Expression]:
    return condition.arguments if isinstance(condition, Call) and condition.name == "and" else (condition,)


def _values(operands: Sequence[Expression]) -> frozenset[Value] | None:
    constants = [operand for operand in operands if isinstance(operand, Literal)]
    values = frozenset(constant.value for constant in constants if constant.value is not None)
    return values if len(constants) == len(operands) else None


def _is_never_true(condition: Expression) -> bool:
    return isinstance(condition, Literal) and not condition.value
