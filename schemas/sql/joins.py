"""What a JOIN means: which record of the other dataset belongs to a row.

A join leads to the one record whose key the row names, so that a row never becomes several: every field of the
joined dataset's record key is set equal to a column of an earlier dataset, of the same type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from civicbus.names import DatasetId
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.sql.meaning import Scope, meaning_of
from civicbus.schemas.sql.nodes import Call, Expression, Field
from civicbus.schemas.sql.parse import Joined, Reader
from civicbus.schemas.sql.types import BOOLEAN, FieldType, field_types

MAX_JOINS = 4
# Stands for the joined dataset until its ON is read and gives it its label.
_JOINING = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """One joined dataset. ``on`` are the columns that name its record, in the order of its key.

    ``label`` says both, so that the same join in two views is the same source. ``left``: a row without a match stays.
    """

    label: str
    dataset: DatasetId
    left: bool
    key: tuple[Field, ...]
    on: tuple[Field, ...]

    @property
    def condition(self) -> Expression:
        """What an inner join demands of a row: that there is a record."""
        return Call("not", (Call("is null", (self.key[0],), BOOLEAN, False),), BOOLEAN, False)


def join_of(joined: Joined, on: exp.Expr, dataset: Dataset, scope: Scope, reader: Reader) -> Join | None:
    """The join that an ON describes, over the sources in ``scope``; None where something in it was reported."""
    key = dataset.key
    inside = Scope({**scope.sources, joined.source.alias: (_JOINING, field_types(dataset.schema.record))})
    named: dict[str, Field] = {}
    sound = True
    for condition in _conditions(on):
        pair = _pair(condition, joined.source.alias, dataset, inside, reader)
        if pair is None:
            sound = False
        elif pair[0].name in named:
            reader.report(condition, f"{pair[0].name} is set twice", "leave one of the two conditions out")
            sound = False
        else:
            named[pair[0].name] = pair[1]
    missing = [name for name in key if name not in named]
    if missing and sound:
        mend = " AND ".join(f"{joined.source.alias}.{name} = …" for name in key)
        reader.report(on, f"the key of {dataset.id} is not named whole: {', '.join(missing)}", f"write ON {mend}")
    if missing or not sound:
        return None
    columns = tuple(named[name] for name in key)
    label = f"{dataset.id}({', '.join(field.column for field in columns)})"
    key_fields = tuple(Field(label, name, field.type, True) for name, field in zip(key, columns, strict=True))
    return Join(label=label, dataset=dataset.id, left=joined.left, key=key_fields, on=columns)


def joined_fields(joined: Joined, dataset: Dataset) -> dict[str, FieldType | None]:
    """The fields of a joined dataset; after a LEFT JOIN any of them may be NULL."""
    fields = field_types(dataset.schema.record)
    if not joined.left:
        return fields
    return {name: known and FieldType(known.type, True, known.avro) for name, known in fields.items()}


def _conditions(on: exp.Expr) -> Iterator[exp.Expr]:
    match on:
        case exp.Paren():
            yield from _conditions(on.this)
        case exp.And():
            yield from _conditions(on.this)
            yield from _conditions(on.expression)
        case _:
            yield on


def _pair(
    condition: exp.Expr, alias: str, dataset: Dataset, scope: Scope, reader: Reader
) -> tuple[Field, Field] | None:
    """A key field of the joined dataset and the column that it equals."""
    if not isinstance(condition, exp.EQ):
        mend = f"write only the key of {dataset.id}, set equal to columns and joined by AND; the rest belongs in WHERE"
        reader.report(condition, "a join follows a key", mend)
        return None
    sides = [meaning_of(side, scope, reader) for side in (condition.this, condition.expression)]
    fields = [side for side in sides if isinstance(side, Field)]
    theirs = [field for field in fields if field.source == _JOINING]
    if None in sides:
        return None
    if len(fields) != 2 or len(theirs) != 1:
        mend = f"write {alias}.{dataset.key[0]} = <a column of an earlier dataset>; other conditions belong in WHERE"
        reader.report(condition, "a join sets a key field equal to a column", mend)
        return None
    other = fields[0] if fields[1] is theirs[0] else fields[1]
    if theirs[0].name not in dataset.key:
        mend = f"join by {', '.join(dataset.key)}"
        reader.report(condition, f"{theirs[0].name} is not in the key of {dataset.id}", mend)
        return None
    if theirs[0].type != other.type:
        mend = "join by a column of the key's own type"
        reader.report(condition, f"{theirs[0].type} and {other.type} are two types", mend)
        return None
    return theirs[0], other
