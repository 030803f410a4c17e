"""A view: the SELECT of an agreement, parsed and typed against the catalogue.

Pure: the same agreement and catalogue always give the same view, or the same findings. A view that was checked
can be evaluated on any row of its datasets: functions are total, names are resolved, types fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from civicbus.errors import CheckFailed
from civicbus.names import AgreementId, DatasetId, DepartmentId, Topic
from civicbus.schemas.agreement import Agreement, KeyMode
from civicbus.schemas.codec import tree
from civicbus.schemas.codec.schema import AvroSchema, document
from civicbus.schemas.codec.tree import Json
from civicbus.schemas.datasets import Catalogue, Dataset, Sharing
from civicbus.schemas.sql.meaning import Scope, meaning_of
from civicbus.schemas.sql.nodes import Expression, Field, fields_of
from civicbus.schemas.sql.parse import START, Finding, Named, Output, Reader, Select
from civicbus.schemas.sql.types import BOOLEAN, NULL, FieldType, Type, avro_type, field_types


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a view."""

    name: str
    expression: Expression
    avro: tree.Type

    @property
    def type(self) -> Type:
        return self.expression.type

    @property
    def nullable(self) -> bool:
        return self.expression.nullable


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a subscriber receives: the columns of each row of the driving dataset for which ``where`` is true."""

    agreement: AgreementId
    subscriber: DepartmentId
    topic: Topic
    key_mode: KeyMode
    driving: DatasetId
    columns: tuple[Column, ...]
    where: Expression | None
    output: AvroSchema

    @property
    def fields(self) -> frozenset[Field]:
        """Every source field that the view reads."""
        expressions = [column.expression for column in self.columns]
        return frozenset().union(*map(fields_of, expressions if self.where is None else [*expressions, self.where]))


def check(agreement: Agreement, catalogue: Catalogue, *, on: date | None = None) -> View:
    """The view of an agreement; raises CheckFailed with every finding, each with its place and its mend.

    ``on`` is the day on which the agreement is to begin to flow; without it the validity is not looked at.
    """
    result = examine(agreement, catalogue, on=on)
    if isinstance(result, View):
        return result
    raise CheckFailed(f"agreement {agreement.id} does not pass:", [f"{agreement.id}: {item}" for item in result])


def examine(agreement: Agreement, catalogue: Catalogue, *, on: date | None = None) -> View | tuple[Finding, ...]:
    """The view of an agreement, or everything that is wrong with it, in the order of the text."""
    reader = Reader(agreement.select)
    select = reader.read()
    view = None if select is None else _Check(agreement, catalogue, reader).view(select)
    findings = [*_standing(agreement, catalogue, on), *sorted(reader.findings, key=lambda item: item.place or START)]
    if view is None or findings:
        return tuple(findings)
    return view


def _standing(agreement: Agreement, catalogue: Catalogue, on: date | None) -> Iterable[Finding]:
    if agreement.subscriber not in catalogue.departments:
        known = ", ".join(sorted(catalogue.departments))
        yield Finding(None, f"subscriber: the catalogue has no department {agreement.subscriber}", f"write {known}")
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
        driving = None if select.driving is None else self._dataset(select.driving)
        if select.driving is None or driving is None:
            return None
        types = field_types(driving.schema.record)
        scope = Scope({select.driving.alias: ("", types)})
        columns = self._columns(select.outputs, scope, types)
        where = self._where(select, scope)
        self._refuse_repeated(select.outputs, columns)
        if self._agreement.key is KeyMode.RECORD and not self._reader.findings:
            self._require_key(select.outputs, columns, driving)
        if self._reader.findings:
            return None
        return View(
            agreement=self._agreement.id,
            subscriber=self._agreement.subscriber,
            topic=self._agreement.topic,
            key_mode=self._agreement.key,
            driving=driving.id,
            columns=columns,
            where=where,
            output=output_schema(self._agreement, columns),
        )

    def _dataset(self, named: Named) -> Dataset | None:
        found = {str(name): dataset for name, dataset in self._catalogue.datasets.items()}.get(named.dataset)
        if found is None:
            known = ", ".join(sorted(map(str, self._catalogue.datasets)))
            self._reader.report(named.node, f"the catalogue has no dataset {named.dataset}", f"write one of {known}")
            return None
        owner = found.id.department
        if owner != self._agreement.subscriber and found.sharing is Sharing.REFUSED:
            self._reader.report(named.node, f"{found.id} is not shared", f"ask {owner} to change its sharing type")
        if not self._agreement.consented(owner):
            self._reader.report(named.node, f"{owner} has not consented", f"add its consent to owner_consents: {owner}")
        return found

    def _columns(self, outputs: Iterable[Output], scope: Scope, types: Mapping[str, FieldType]) -> tuple[Column, ...]:
        found = [self._column(output, scope, types) for output in outputs]
        return tuple(column for column in found if column is not None)

    def _column(self, output: Output, scope: Scope, types: Mapping[str, FieldType]) -> Column | None:
        expression = meaning_of(output.expression, scope, self._reader)
        if expression is None:
            return None
        name = output.name or (expression.name if isinstance(expression, Field) else None)
        if name is None:
            self._reader.report(output.expression, "this column has no name", "add AS <name>")
            return None
        if expression.type == NULL:
            self._reader.report(output.expression, "this column has no type", "write CAST(… AS <type>)")
            return None
        avro = types[expression.name].avro if isinstance(expression, Field) else avro_type(expression.type)
        return Column(name=name, expression=expression, avro=avro)

    def _where(self, select: Select, scope: Scope) -> Expression | None:
        if select.where is None:
            return None
        where = meaning_of(select.where, scope, self._reader)
        if where is not None and where.type != BOOLEAN:
            self._reader.report(select.where, f"WHERE takes a condition, not {where.type}", "write a comparison")
        return where

    def _refuse_repeated(self, outputs: Iterable[Output], columns: Iterable[Column]) -> None:
        seen: set[str] = set()
        for output, column in zip(outputs, columns, strict=False):
            if column.name.lower() in seen:
                self._reader.report(output.expression, f"{column.name} is there twice", "rename one with AS")
            seen.add(column.name.lower())

    def _require_key(self, outputs: tuple[Output, ...], columns: Iterable[Column], driving: Dataset) -> None:
        selected = {c.expression.name for c in columns if isinstance(c.expression, Field) and not c.expression.source}
        missing = [name for name in driving.key if name not in selected]
        if missing:
            self._reader.report(
                outputs[0].expression,
                f"the key of {driving.id} is not selected: {', '.join(missing)}",
                "select it as it is, or write `key: hashed` in the agreement",
            )


def output_schema(agreement: Agreement, columns: Iterable[Column]) -> AvroSchema:
    """The Avro schema of an inbox's rows."""
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
