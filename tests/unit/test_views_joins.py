"""A join leads to the one record that a row names: what is refused, what a joined view reads, and that it is right."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from civicbus.names import DatasetId, DepartmentId
from civicbus.schemas.agreement import Consent
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Catalogue, Dataset
from civicbus.schemas.sql.parse import Reader
from civicbus.schemas.views import View, read_view
from civicbus.stream_apps.views.evaluate import Evaluation
from support.samples import agreement, catalogue, permits
from support.view_language import law, one_batch

PERMITS = {
    "permit_no": "string",
    "status": ["null", "string"],
    "enterprise": ["null", "string"],
    "site_no": ["null", "int"],
    "district": ["null", "string"],
}
ENTERPRISES = {"credit_code": "string", "name": "string", "status": ["null", "string"], "parent": ["null", "string"]}
SITES = {"district": "string", "number": "int", "address": ["null", "string"]}


def dataset(name: str, key: tuple[str, ...], fields: dict[str, object]) -> Dataset:
    record = {"type": "record", "name": "row", "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    return replace(permits(), id=DatasetId.parse(name), key=key, schemas=(AvroSchema.parse(json.dumps(record)),))


def everything() -> Catalogue:
    return catalogue(
        dataset("construction.permits", ("permit_no",), PERMITS),
        dataset("market.enterprises", ("credit_code",), ENTERPRISES),
        dataset("land.sites", ("district", "number"), SITES),
    )


def read(select: str) -> tuple[View | None, list[str]]:
    wanted = agreement("one", select)
    consents = [Consent(department=DepartmentId(name), by="x", date=wanted.valid_from) for name in ("market", "land")]
    reader = Reader(select)
    view = read_view(replace(wanted, owner_consents=(*wanted.owner_consents, *consents)), everything(), reader)
    return view, [str(finding) for finding in reader.findings]


def joined(select: str) -> View:
    view, findings = read(select)
    assert view is not None, findings
    return view


ENTERPRISE = "LEFT JOIN market.enterprises AS e ON e.credit_code = p.enterprise"
WRONG = {
    "not by the key": (
        "JOIN market.enterprises AS e ON e.name = p.enterprise",
        "select 2:33: name is not in the key of market.enterprises; join by credit_code",
    ),
    "two types": (
        "JOIN market.enterprises AS e ON e.credit_code = p.site_no",
        "select 2:33: VARCHAR and INTEGER are two types; join by a column of the key's own type",
    ),
    "half a key": (
        "JOIN land.sites AS s ON s.number = p.site_no",
        "select 2:25: the key of land.sites is not named whole: district; write ON s.district = … AND s.number = …",
    ),
    "a key field twice": (
        "JOIN market.enterprises AS e ON e.credit_code = p.enterprise AND e.credit_code = p.district",
        "select 2:66: credit_code is set twice; leave one of the two conditions out",
    ),
    "more than a key": (
        "JOIN market.enterprises AS e ON e.credit_code = p.enterprise AND e.status <> 'closed'",
        (
            "select 2:66: a join follows a key; write only the key of market.enterprises, set equal to columns and "
            "joined by AND; the rest belongs in WHERE"
        ),
    ),
    "a constant": (
        "JOIN market.enterprises AS e ON e.credit_code = 'x'",
        (
            "select 2:33: a join sets a key field equal to a column; write e.credit_code = "
            "<a column of an earlier dataset>; other conditions belong in WHERE"
        ),
    ),
    "two of its own columns": (
        "JOIN market.enterprises AS e ON e.credit_code = e.parent",
        (
            "select 2:33: a join sets a key field equal to a column; write e.credit_code = "
            "<a column of an earlier dataset>; other conditions belong in WHERE"
        ),
    ),
    "a later dataset": (
        "JOIN market.enterprises AS e ON e.credit_code = s.district",
        "select 2:49: there is no s here; qualify by p or e",
    ),
    "no ON": (
        "JOIN market.enterprises AS e",
        "select 2:6: this join has no ON; write JOIN … ON <dataset>.<key> = <column>",
    ),
    "a comma": (
        ", market.enterprises AS e",
        "select 2:3: this join has no ON; write JOIN … ON <dataset>.<key> = <column>",
    ),
    "USING": (
        "JOIN market.enterprises AS e USING (status)",
        "select 2:6: a view has no USING; write ON <dataset>.<key> = <column>",
    ),
    "a RIGHT JOIN": (
        "RIGHT JOIN market.enterprises AS e ON e.credit_code = p.enterprise",
        "select 2:12: a view has no RIGHT JOIN; write LEFT JOIN or INNER JOIN",
    ),
    "a CROSS JOIN": (
        "CROSS JOIN market.enterprises AS e",
        "select 2:12: a view has no CROSS JOIN; write LEFT JOIN or INNER JOIN",
    ),
    "a subquery": (
        "JOIN (SELECT 1) AS e ON TRUE",
        "select 2:14: a view has no subquery; name a dataset: <department>.<dataset>",
    ),
    "a self-join without an alias": (
        "JOIN construction.permits AS p ON p.permit_no = p.status",
        "select 2:6: p is there twice; give each its own alias: AS <name>",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_join_is_refused_at_its_place_with_its_mend(case: str) -> None:
    clause, expected = WRONG[case]
    view, findings = read(f"SELECT p.permit_no FROM construction.permits AS p\n{clause}")
    assert view is None
    assert expected in findings


def test_the_columns_of_a_join_that_is_refused_are_known_all_the_same() -> None:
    _, findings = read(f"SELECT p.permit_no, e.name FROM construction.permits AS p RIGHT {ENTERPRISE[5:]}")
    assert findings == ["select 1:70: a view has no RIGHT JOIN; write LEFT JOIN or INNER JOIN"]


def test_a_column_of_two_datasets_says_whose_it_is() -> None:
    _, findings = read(f"SELECT permit_no, status AS s FROM construction.permits AS p {ENTERPRISE}")
    assert findings == ["select 1:19: status is ambiguous; write p.status or e.status"]


def test_five_joins_are_one_too_many() -> None:
    clauses = " ".join(f"JOIN market.enterprises AS e{n} ON e{n}.credit_code = p.enterprise" for n in range(5))
    _, findings = read(f"SELECT p.permit_no FROM construction.permits AS p {clauses}")
    assert [finding.split(": ", 1)[1] for finding in findings] == [
        "a view has at most 4 joins; divide the agreement into several"
    ]


def test_a_left_join_makes_its_columns_nullable_and_an_inner_one_does_not() -> None:
    for kind, nullable in (("LEFT JOIN", True), ("LEFT OUTER JOIN", True), ("JOIN", False), ("INNER JOIN", False)):
        clause = ENTERPRISE.replace("LEFT JOIN", kind)
        view = joined(f"SELECT p.permit_no, e.name FROM construction.permits AS p {clause}")
        assert [column.nullable for column in view.columns] == [False, nullable]
        assert [join.left for join in view.joins] == [nullable]


def test_the_same_join_in_two_views_is_the_same_source() -> None:
    one = joined(
        "SELECT p.permit_no, e.name FROM construction.permits p JOIN market.enterprises e ON p.enterprise = credit_code"
    )
    two = joined(f"SELECT p.permit_no, e.name FROM construction.permits p {ENTERPRISE}")
    assert one.joins[0].label == two.joins[0].label == "market.enterprises(enterprise)"
    assert one.columns[1].expression.column == "market.enterprises(enterprise).name"


def test_lineage_names_the_fields_that_join() -> None:
    view = joined(f"SELECT p.permit_no, e.name FROM construction.permits AS p {ENTERPRISE} WHERE e.status = 'open'")
    assert {(str(link.dataset), link.field, str(link.use), link.column) for link in view.lineage} == {
        ("construction.permits", "permit_no", "shows", "permit_no"),
        ("market.enterprises", "name", "shows", "name"),
        ("market.enterprises", "status", "filters", ""),
        ("market.enterprises", "credit_code", "joins", ""),
        ("construction.permits", "enterprise", "joins", ""),
    }


SELECTS = [
    f"SELECT p.permit_no, e.name, upper(e.name) AS loud FROM construction.permits AS p {ENTERPRISE}",
    f"SELECT p.permit_no, e.name FROM construction.permits AS p {ENTERPRISE} WHERE e.status IS DISTINCT FROM 'open'",
    f"SELECT p.permit_no, e.name FROM construction.permits AS p {ENTERPRISE.replace('LEFT', 'INNER')}",
    (
        f"SELECT p.permit_no, q.name AS parent FROM construction.permits AS p {ENTERPRISE} "
        "LEFT JOIN market.enterprises AS q ON q.credit_code = e.parent"
    ),
    (
        "SELECT p.permit_no, s.address, other.status AS other FROM construction.permits AS p "
        "JOIN land.sites AS s ON (p.site_no = s.number AND s.district = p.district) "
        "LEFT JOIN construction.permits AS other ON other.permit_no = p.enterprise"
    ),
]
TABLES = {
    "construction.permits": pl.DataFrame(
        {
            "permit_no": ["1", "2", "3", "4", "c2"],
            "status": ["new", None, "old", "new", "odd"],
            "enterprise": ["c1", "c2", None, "c9", "c3"],
            "site_no": [1, 2, None, 1, 1],
            "district": ["east", "east", "east", None, "west"],
        },
        schema_overrides={"site_no": pl.Int32},
    ),
    "market.enterprises": pl.DataFrame(
        {
            "credit_code": ["c1", "c2", "c3"],
            "name": ["one", "two", "three"],
            "status": ["open", None, "closed"],
            "parent": ["c2", None, "c7"],
        }
    ),
    "land.sites": pl.DataFrame(
        {"district": ["east", "west"], "number": [1, 1], "address": ["here", None]},
        schema_overrides={"number": pl.Int32},
    ),
}


@pytest.mark.parametrize("select", SELECTS)
def test_a_joined_view_on_gathered_rows_is_what_duckdb_returns(select: str) -> None:
    view = joined(select)
    (result,) = Evaluation([view], {})(one_batch(gathered(view).to_arrow()))
    with law().cursor() as connection:
        for name, table in TABLES.items():
            connection.register("_".join(name.split(".")), table.to_arrow())
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name.split('.')[1]} AS FROM {'_'.join(name.split('.'))}")
        text = select
        for name in TABLES:
            text = text.replace(name, name.split(".")[1])
        expected = connection.sql(text).to_arrow_table().to_pylist()
    assert sorted(map(str, result.rows.to_pylist())) == sorted(map(str, expected))


def gathered(view: View) -> pl.DataFrame:
    """What the engine is to hand over: the driving rows, and beside them the records that they name."""
    frame = TABLES[str(view.driving)]
    for join in view.joins:
        other = TABLES[str(join.dataset)]
        beside = other.rename({name: f"{join.label}.{name}" for name in other.columns})
        beside = beside.with_columns([pl.col(field.column).alias(f"{field.column}!") for field in join.key])
        left, right = [field.column for field in join.on], [f"{field.column}!" for field in join.key]
        frame = frame.join(beside, left_on=left, right_on=right, how="left")
    return frame
