"""A small world of four datasets that name each other, and random SELECTs over it in the language of views."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import cache

from hypothesis import strategies as st

from civicbus.names import DatasetId, DepartmentId
from civicbus.schemas.agreement import Agreement, Consent, KeyMode
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Catalogue, Dataset
from civicbus.schemas.views import View, check
from support.samples import agreement, catalogue, permits

PERMITS = DatasetId.parse("construction.permits")
ENTERPRISES = DatasetId.parse("market.enterprises")
PEOPLE = DatasetId.parse("police.people")
SITES = DatasetId.parse("land.sites")
PARTITIONS = 2
TEXT = ["null", "string"]
# The fields of each dataset: a version that rises with every change of a record, a text, and what names other records.
FIELDS: dict[DatasetId, dict[str, object]] = {
    PERMITS: {"permit_no": "string", "enterprise": TEXT, "partner": TEXT, "person": ["null", "int"]}
    | {"district": TEXT, "number": ["null", "long"]},
    ENTERPRISES: {"credit_code": "string", "parent": TEXT, "owner": ["null", "int"]},
    PEOPLE: {"person_no": "int", "district": TEXT, "number": ["null", "long"]},
    SITES: {"district": "string", "number": "long", "user": TEXT},
}
KEYS = {PERMITS: ("permit_no",), ENTERPRISES: ("credit_code",), PEOPLE: ("person_no",), SITES: ("district", "number")}
REFERENCES: dict[DatasetId, list[tuple[tuple[str, ...], DatasetId]]] = {
    PERMITS: [
        (("enterprise",), ENTERPRISES),
        (("partner",), ENTERPRISES),
        (("person",), PEOPLE),
        (("district", "number"), SITES),
    ],
    ENTERPRISES: [(("parent",), ENTERPRISES), (("owner",), PEOPLE)],
    PEOPLE: [(("district", "number"), SITES)],
    SITES: [(("user",), ENTERPRISES)],
}
CONDITIONS = (
    "{a}.text = 'u'",
    "{a}.text IS NULL",
    "{a}.text <> {b}.text",
    "{a}.version > {b}.version",
    "coalesce({b}.text, 'w') = 'w'",
    "{b}.text IN ('u', 'w')",
)


@dataclass(frozen=True)
class Joined:
    """``source``: which earlier alias names the record, by ``on``."""

    source: int
    on: tuple[str, ...]
    dataset: DatasetId
    left: bool


@dataclass(frozen=True)
class Wish:
    """A SELECT and how its inbox is keyed. It shows the version of every record that it reads, and what names it."""

    driving: DatasetId
    joins: tuple[Joined, ...]
    where: str
    hashed: bool

    @property
    def select(self) -> str:
        joins = [self._join(number, join) for number, join in enumerate(self.joins, 1)]
        where = f" WHERE {self.where}" if self.where else ""
        return f"SELECT {', '.join(self._columns())} FROM {self.driving} AS t0 {' '.join(joins)}{where}"

    def _columns(self) -> Iterator[str]:
        if not self.hashed:
            yield from (f"t0.{name} AS k0_{n}" for n, name in enumerate(KEYS[self.driving]))
        yield from ("t0.version AS v0", "mask(t0.text, 0, 0) AS m0")
        for number, join in enumerate(self.joins, 1):
            yield from (f"t{join.source}.{name} AS o{number}_{n}" for n, name in enumerate(join.on))
            yield from (f"t{number}.version AS v{number}", f"upper(t{number}.text) AS x{number}")

    def _join(self, number: int, join: Joined) -> str:
        pairs = zip(KEYS[join.dataset], join.on, strict=True)
        on = " AND ".join(f"t{number}.{key} = t{join.source}.{name}" for key, name in pairs)
        return f"{'LEFT ' if join.left else ''}JOIN {join.dataset} AS t{number} ON {on}"


@st.composite
def wishes(draw: st.DrawFn, least_joins: int = 0) -> Wish:
    driving = draw(st.sampled_from([PERMITS, PERMITS, PERMITS, ENTERPRISES, PEOPLE]))
    sources = [driving]
    joins: list[Joined] = []
    for _ in range(draw(st.integers(least_joins, 3))):
        source = draw(st.integers(0, len(sources) - 1))
        on, dataset = draw(st.sampled_from(REFERENCES[sources[source]]))
        joins.append(Joined(source, on, dataset, left=draw(st.sampled_from([True, True, True, False]))))
        sources.append(dataset)
    aliases = st.integers(0, len(joins)).map(lambda number: f"t{number}")
    conditions = st.builds(lambda text, a, b: text.format(a=a, b=b), st.sampled_from(CONDITIONS), aliases, aliases)
    where = draw(
        st.one_of(st.just(""), st.just(""), conditions, st.lists(conditions, min_size=2, max_size=2).map(" OR ".join))
    )
    return Wish(driving, tuple(joins), where, hashed=draw(st.sampled_from([False, False, True])))


@cache
def schemas(name: DatasetId) -> tuple[AvroSchema, ...]:
    """Both schemas of a dataset: the later one has a field more."""
    fields: list[dict[str, object]] = [{"name": field, "type": kind} for field, kind in FIELDS[name].items()]
    fields += [{"name": "version", "type": "long"}, {"name": "text", "type": TEXT}]
    more = {"name": "remark", "type": TEXT, "default": None}
    records = [{"type": "record", "name": "row", "fields": some} for some in (fields, [more, *fields])]
    return tuple(AvroSchema.parse(json.dumps(record)) for record in records)


@cache
def dataset(name: DatasetId, versions: int) -> Dataset:
    """A dataset with the first of its schemas, or with both."""
    known = permits()
    field = known.fields[0]
    fields = tuple(replace(field, name=each) for each in schemas(name)[versions - 1].field_names)
    return replace(known, id=name, key=KEYS[name], fields=fields, schemas=schemas(name)[:versions])


@cache
def everything(versions: int) -> Catalogue:
    return catalogue(*(dataset(name, versions) for name in KEYS))


@cache
def agreed(name: str, wish: Wish) -> Agreement:
    mode = KeyMode.HASHED if wish.hashed else KeyMode.RECORD
    consents = [Consent(department=DepartmentId(each.department), by="x", date=date(2026, 1, 1)) for each in KEYS]
    return replace(agreement(name, wish.select, key=mode), owner_consents=tuple(consents))


@cache
def view_of(name: str, wish: Wish, versions: int) -> View:
    return check(agreed(name, wish), everything(versions))
