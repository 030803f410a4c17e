"""A view: the SELECT of an agreement, parsed and typed against the catalogue.

Pure: the same agreement and catalogue always give the same view, or the same findings. A view that was checked
can be evaluated on any row of its datasets: functions are total, names are resolved, types fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from civicbus.errors import CheckFailed
from civicbus.names import NAME, AgreementId, DatasetId, DepartmentId, Topic
from civicbus.schemas.agreement import Agreement, KeyMode
from civicbus.schemas.codec import tree
from civicbus.schemas.codec.parse import FIELDS
from civicbus.schemas.codec.schema import AvroSchema, document
from civicbus.schemas.codec.tree import Json
from civicbus.schemas.datasets import Catalogue, Dataset, Sharing
from civicbus.schemas.sql.coercion import Misfit
from civicbus.schemas.sql.joins import MAX_JOINS, Join, join_of, joined_fields
from civicbus.schemas.sql.lineage import Link, lineage
from civicbus.schemas.sql.meaning import Scope, alternatives, meaning_of, nearest
from civicbus.schemas.sql.nodes import Call, Expression, Field, fields_of
from civicbus.schemas.sql.operators import condition, conjunction
from civicbus.schemas.sql.parse import START, Finding, Joined, Named, Output, Reader, Select
from civicbus.schemas.sql.types import DATE, NULL, Type, avro_type, field_types

DRIVING = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a view. A computed date that no row may hold, before year 1 or after 9999, is NULL in it."""

    name: str
    expression: Expression
    avro: tree.Type

    @property
    def type(self) -> Type:
        return self.expression.type

    @property
    def nullable(self) -> bool:
        return self.expression.nullable or self.may_leave_calendar

    @property
    def may_leave_calendar(self) -> bool:
        return self.type == DATE and isinstance(self.expression, Call)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a subscriber receives: the columns of each row of the driving dataset for which ``where`` is true.

    The fields of a joined dataset are those of the record that the row names, or NULL; ``where`` demands that there is
    one where the join is an inner one.
    """

    agreement: AgreementId
    subscriber: DepartmentId
    topic: Topic
    key_mode: KeyMode
    driving: DatasetId
    joins: tuple[Join, ...]
    columns: tuple[Column, ...]
    where: Expression | None
    output: AvroSchema
    lineage: tuple[Link, ...]

    @property
    def datasets(self) -> frozenset[DatasetId]:
        """Every dataset that the view reads."""
        return frozenset((self.driving, *(join.dataset for join in self.joins)))

    @property
    def fields(self) -> frozenset[Field]:
        """Every source field that the view reads."""
        expressions = [column.expression for column in self.columns]
        return frozenset().union(*map(fields_of, expressions if self.where is None else [*expressions, self.where]))


def check(agreement: Agreement, catalogue: Catalogue, *, on: date | None = None) -> View:
    """The view of an agreement; raises CheckFailed with every finding, each with its place and its mend.

    ``on`` is the day on which the agreement is to flow; without it only the order of its two days is looked at.
    """
    result = examine(agreement, catalogue, on=on)
    if isinstance(result, View):
        return result
    raise CheckFailed(f"agreement {agreement.id} does not pass:", [f"{agreement.id}: {item}" for item in result])


def examine(agreement: Agreement, catalogue: Catalogue, *, on: date | None = None) -> View | tuple[Finding, ...]:
    """The view of an agreement, or everything that is wrong with it: first around the SELECT, then in it."""
    reader = Reader(agreement.select)
    view = read_view(agreement, catalogue, reader)
    standing = tuple(_standing(agreement, catalogue, on))
    if view is None or standing or reader.findings:
        return (*standing, *sorted(reader.findings, key=lambda finding: finding.place or START))
    return view


def read_view(agreement: Agreement, catalogue: Catalogue, reader: Reader) -> View | None:
    """The view of an agreement's SELECT where the reader found nothing wrong."""
    select = reader.read()
    view = None if select is None else _Check(agreement, catalogue, reader).view(select)
    if not reader.findings:
        reader.confirm()
    return view


def _standing(agreement: Agreement, catalogue: Catalogue, on: date | None) -> Iterator[Finding]:
    if agreement.subscriber not in catalogue.departments:
        known = alternatives(nearest(agreement.subscriber, catalogue.departments))
        yield Finding(None, f"the catalogue has no department {agreement.subscriber}", f"write subscriber: {known}")
    for consent in agreement.owner_consents:
        if consent.department not in catalogue.departments:
            known = alternatives(nearest(consent.department, catalogue.departments))
            yield Finding(None, f"the catalogue has no department {consent.department}", f"write department: {known}")
    if agreement.valid_until < agreement.valid_from:
        yield Finding(None, "valid_until lies before valid_from", "correct one of the two days")
    elif on is not None and on > agreement.valid_until:
        yield Finding(None, f"the agreement expired on {agreement.valid_until}", "agree on a later valid_until")


class _Check:
    def __init__(self, agreement: Agreement, catalogue: Catalogue, reader: Reader) -> None:
        self._agreement = agreement
        self._catalogue = catalogue
        self._reader = reader

    def view(self, select: Select) -> View | None:
        """The view, or None where something was reported."""
        driving = None if select.driving is None else self._dataset(select.driving)
        if select.driving is None or driving is None:
            return None
        first = Scope({select.driving.alias: (DRIVING, field_types(driving.schema.record))})
        joins, scope = self._joins(select.joins, first)
        found = [(output, self._column(output, scope)) for output in select.outputs]
        where = self._where(select, scope)
        columns = tuple(column for _, column in found if column is not None)
        self._refuse_repeated([(output, column) for output, column in found if column is not None])
        if len(select.outputs) > FIELDS:
            mend = "divide the agreement into several"
            self._reader.report(select.outputs[FIELDS].expression, f"a view has at most {FIELDS} columns", mend)
        if self._agreement.key is KeyMode.RECORD and len(columns) == len(found):
            self._require_key(select.outputs[0], columns, driving)
        if self._reader.findings:
            return None
        conditions = [*[join.condition for join in joins if not join.left], *([] if where is None else [where])]
        return View(
            agreement=self._agreement.id,
            subscriber=self._agreement.subscriber,
            topic=self._agreement.topic,
            key_mode=self._agreement.key,
            driving=driving.id,
            joins=joins,
            columns=columns,
            where=conjunction(conditions) if conditions else None,
            output=_output_schema(self._agreement, columns),
            lineage=lineage(
                {DRIVING: driving.id} | {join.label: join.dataset for join in joins},
                [(column.name, column.expression) for column in columns],
                where,
                [field for join in joins for field in (*join.key, *join.on)],
            ),
        )

    def _joins(self, wanted: Sequence[Joined], scope: Scope) -> tuple[tuple[Join, ...], Scope]:
        """The joins in their order, and what columns mean after them."""
        joins: list[Join] = []
        for joined in wanted:
            dataset = self._dataset(joined.source)
            if joined.source.alias in scope.sources:
                mend = "give each its own alias: AS <name>"
                self._reader.report(joined.source.node, f"{joined.source.alias} is there twice", mend)
            elif dataset is not None:
                join = None if joined.on is None else join_of(joined, joined.on, dataset, scope, self._reader)
                # A join with a fault still says what its columns are.
                label = str(dataset.id) if join is None else join.label
                scope = Scope({**scope.sources, joined.source.alias: (label, joined_fields(joined, dataset))})
                joins += [] if join is None else [join]
        if len(wanted) > MAX_JOINS:
            mend = "divide the agreement into several"
            self._reader.report(wanted[MAX_JOINS].source.node, f"a view has at most {MAX_JOINS} joins", mend)
        return tuple(joins), scope

    def _dataset(self, named: Named) -> Dataset | None:
        datasets = {str(name): dataset for name, dataset in self._catalogue.datasets.items()}
        found = datasets.get(named.dataset)
        if found is None:
            mend = f"write {alternatives(nearest(named.dataset, datasets))}"
            self._reader.report(named.node, f"the catalogue has no dataset {named.dataset}", mend)
            return None
        owner = found.id.department
        if owner != self._agreement.subscriber and found.sharing is Sharing.REFUSED:
            self._reader.report(named.node, f"{found.id} is not shared", f"ask {owner} to change its sharing type")
        if not self._agreement.consented(owner):
            mend = f"add the consent of {owner} to owner_consents"
            self._reader.report(named.node, f"{owner}, which owns {found.id}, has not consented", mend)
        return found

    def _column(self, output: Output, scope: Scope) -> Column | None:
        expression = meaning_of(output.expression, scope, self._reader)
        if expression is None:
            return None
        name = output.name or (expression.name if isinstance(expression, Field) else "")
        fault, mend = _fault_of_column(name, expression)
        if fault:
            self._reader.report(output.expression, fault, mend)
            return None
        return Column(name=name, expression=expression, avro=_avro(expression, scope))

    def _where(self, select: Select, scope: Scope) -> Expression | None:
        where = None if select.where is None else meaning_of(select.where, scope, self._reader)
        if select.where is None or where is None:
            return None
        try:
            return condition("WHERE", where)
        except Misfit as misfit:
            self._reader.report(select.where, misfit.fault, misfit.mend)
            return None

    def _refuse_repeated(self, columns: Iterable[tuple[Output, Column]]) -> None:
        seen: set[str] = set()
        for output, column in columns:
            if column.name in seen:
                self._reader.report(output.expression, f"{column.name} is there twice", "rename one of them with AS")
            seen.add(column.name)

    def _require_key(self, first: Output, columns: Sequence[Column], driving: Dataset) -> None:
        shown = {
            column.expression.name
            for column in columns
            if isinstance(column.expression, Field) and column.expression.source == DRIVING
        }
        missing = [name for name in driving.key if name not in shown]
        if missing:
            self._reader.report(
                first.expression,
                f"the key of {driving.id} is neither selected as it is nor hashed: {', '.join(missing)}",
                f"select {', '.join(missing)}, or write `key: hashed` in the agreement",
            )


def _fault_of_column(name: str, expression: Expression) -> tuple[str, str]:
    if not name:
        return "this column has no name", "add AS <name>"
    if not NAME.match(name):
        return f"{name} is no name for a column", "use [a-z][a-z0-9_]*, at most 60 characters"
    if expression.type == NULL:
        return "this column has no type", "write CAST(NULL AS <type>)"
    return "", ""


def _avro(expression: Expression, scope: Scope) -> tree.Type:
    """A field that is shown as it is keeps its Avro type (a UUID stays one); the others have their type's."""
    if isinstance(expression, Field):
        known = dict(scope.sources.values())[expression.source][expression.name]
        if known is not None:
            return known.avro
    return avro_type(expression.type)


def _output_schema(agreement: Agreement, columns: Iterable[Column]) -> AvroSchema:
    record = {
        "type": "record",
        "name": agreement.id,
        "namespace": f"civicbus.inbox.{agreement.subscriber}",
        "fields": [_output_field(column) for column in columns],
    }
    return AvroSchema.parse(json.dumps(record))


def _output_field(column: Column) -> dict[str, Json]:
    if not column.nullable:
        return {"name": column.name, "type": document(column.avro, set())}
    nullable = tree.Nullable(inner=column.avro, null_first=True)
    return {"name": column.name, "type": document(nullable, set()), "default": None}
