"""Which source field feeds, filters or joins which column of a view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from civicbus.names import DatasetId
from civicbus.schemas.sql.nodes import Expression, Field, fields_of


class Use(StrEnum):
    """What a view does with a source field."""

    SHOWS = "shows"
    FEEDS = "feeds"
    FILTERS = "filters"
    JOINS = "joins"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Link:
    """A source field and its use. ``column`` is the output it shows in or feeds; the other uses touch whole rows."""

    dataset: DatasetId
    field: str
    use: Use
    column: str = ""


def lineage(
    sources: Mapping[str, DatasetId],
    columns: Iterable[tuple[str, Expression]],
    where: Expression | None,
    joined: Iterable[Field] = (),
) -> tuple[Link, ...]:
    """Every link of a view, in order; ``sources`` says which dataset a source's label stands for."""

    def links() -> Iterator[Link]:
        for name, expression in columns:
            use = Use.SHOWS if isinstance(expression, Field) else Use.FEEDS
            for field in fields_of(expression):
                yield Link(dataset=sources[field.source], field=field.name, use=use, column=name)
        for field in () if where is None else fields_of(where):
            yield Link(dataset=sources[field.source], field=field.name, use=Use.FILTERS)
        for field in joined:
            yield Link(dataset=sources[field.source], field=field.name, use=Use.JOINS)

    return tuple(sorted(set(links())))
