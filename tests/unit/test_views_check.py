"""A wrong agreement is refused with every finding at once: its place, and what to write instead."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from civicbus.errors import CheckFailed
from civicbus.names import DatasetId, DepartmentId
from civicbus.schemas.agreement import Agreement, KeyMode
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Primitive
from civicbus.schemas.datasets import Catalogue, Department, Sharing
from civicbus.schemas.sql.types import avro_type
from civicbus.schemas.views import View, check, examine
from support.samples import PERMITS, TITLE, agreement, permits
from support.view_language import COLUMNS

FROM = "FROM construction.permits"
ONE_ROW = "a view has one row a record; the subscriber aggregates its table"


def findings(select: str, **changes: object) -> list[str]:
    """What is wrong with an agreement that has this SELECT."""
    result = examine(replace(agreement("one", select), **changes), catalogue())
    assert not isinstance(result, View), "it passes"
    return [str(finding) for finding in result]


def catalogue(**changes: object) -> Catalogue:
    dataset = replace(permits(), **changes)
    names = [DepartmentId(name) for name in ("construction", "health")]
    return Catalogue(
        departments={name: Department(id=name, title=TITLE, code=name) for name in names}, datasets={PERMITS: dataset}
    )


WIDE = "'许可许可' AS 名"
WRONG = {
    "words that are no SQL, after wide characters": (
        f"SELECT permit_no, {WIDE} {FROM}\nWHERE '🌳' = status AND",
        'select 2:20: this is no SQL: syntax error at or near "AND"; correct the words here',
    ),
    "words that are no SQL, at the end of a long line": (
        f"SELECT permit_no,\n{', '.join(['status'] * 30)} {FROM} WHERE WHERE",
        'select 2:272: this is no SQL: syntax error at or near "WHERE"; correct the words here',
    ),
    "names of columns in FROM": (
        f"SELECT permit_no {FROM} AS p(status, permit_no)",
        "select 1:23: columns get their names in the SELECT list; write AS p, without them",
    ),
    "a name in one pair of quotes": (
        'SELECT permit_no FROM "construction.permits"',
        (
            "select 1:23: construction.permits names no department;"
            " write <department>.construction.permits, each in quotes of its own"
        ),
    ),
    "IN with nothing in it": (
        f"SELECT permit_no {FROM} WHERE score IN ()",
        "select 1:50: IN has nothing in its parentheses; write IN (value, …)",
    ),
    "a CAST to no type": (
        f"SELECT permit_no, CAST(score AS STRNG) AS s {FROM}",
        "select 1:24: there is no CAST to STRNG; write one of BOOLEAN, INTEGER, BIGINT, FLOAT, DOUBLE, VARCHAR, DATE",
    ),
    "an exponent without digits": (
        f"SELECT permit_no, 1e AS x {FROM}",
        "select 1:19: 1e is no number; write its exponent: 1e3",
    ),
    "a CASE of too many branches": (
        f"SELECT permit_no, CASE score {'WHEN 1 THEN 2 ' * 201} END AS x {FROM}",
        "select 1:24: a CASE has at most 200 branches; JOIN a dataset that has them",
    ),
    "what doubles with each level": (
        f"SELECT permit_no, {'nullif(' * 16}score{', 1)' * 16} AS x {FROM}",
        (
            "select 1:19: this has more than 20000 parts, each value counted wherever it is used;"
            " write it shorter, or JOIN a dataset that has what it spells out"
        ),
    ),
    "a day against a number": (
        f"SELECT permit_no {FROM} WHERE DATE '2024-01-01' > 5",
        (
            "select 1:55: DATE and INTEGER do not meet; compare like with like;"
            " `civicbus agreements language` says what CAST makes of DATE and INTEGER"
        ),
    ),
    "an unknown column": (
        f"SELECT permit_no, statsu {FROM}",
        "select 1:19: there is no column statsu; write status",
    ),
    "an unknown column in WHERE, on its line": (
        f"SELECT permit_no\n{FROM}\nWHERE score > 3\n  AND colour = 'red'",
        "select 4:7: there is no column colour; write score",
    ),
    "an unknown alias": (
        f"SELECT x.permit_no {FROM} AS p",
        "select 1:8: there is no x here; qualify by p",
    ),
    "the dataset's name where it has an alias": (
        "SELECT permits.permit_no FROM construction.permits AS p",
        "select 1:8: there is no permits here; qualify by p",
    ),
    "a missing dataset": (
        "SELECT permit_no FROM construction.permit",
        "select 1:23: the catalogue has no dataset construction.permit; write construction.permits",
    ),
    "a dataset without its department": (
        "SELECT permit_no FROM permits",
        "select 1:23: permits names no department; write <department>.permits",
    ),
    "a file in place of a dataset": (
        "SELECT permit_no FROM read_csv('/etc/passwd')",
        "select 1:23: this is no dataset; name a dataset: <department>.<dataset>",
    ),
    "SELECT *": (
        f"SELECT * {FROM}",
        "select 1:8: * names no column; name the columns: permit_no, status, score, phone",
    ),
    "SELECT p.*": (
        f"SELECT p.* {FROM} AS p",
        "select 1:8: * names no column; name the columns: permit_no, status, score, phone",
    ),
    "an aggregate": (
        f"SELECT permit_no, count(*) AS n {FROM}",
        f"select 1:19: a view has no aggregate (count); {ONE_ROW}",
    ),
    "GROUP BY": (
        f"SELECT permit_no {FROM} GROUP BY permit_no",
        f"select 1:53: a view has no GROUP BY; {ONE_ROW}",
    ),
    "ORDER BY": (
        f"SELECT permit_no {FROM} ORDER BY score",
        "select 1:53: a view has no ORDER BY; an inbox is keyed, not ordered; leave ORDER BY out",
    ),
    "LIMIT": (
        f"SELECT permit_no {FROM} LIMIT 10",
        "select 1:50: a view has no LIMIT; write a condition in WHERE",
    ),
    "DISTINCT": (
        f"SELECT DISTINCT permit_no {FROM}",
        "select 1:8: a view has no DISTINCT; every record key is in the view once; leave DISTINCT out",
    ),
    "UNION": (
        f"SELECT permit_no {FROM} UNION SELECT permit_no {FROM}",
        "select 1:8: a view has no UNION; write one SELECT, or one agreement for each",
    ),
    "WITH": (
        f"WITH a AS (SELECT 1) SELECT permit_no {FROM}",
        "select 1:6: a view has no WITH; write the expression where it is used",
    ),
    "a subquery in FROM": (
        f"SELECT permit_no FROM (SELECT permit_no {FROM})",
        "select 1:31: a view has no subquery; name a dataset: <department>.<dataset>",
    ),
    "a subquery in WHERE": (
        f"SELECT permit_no {FROM} WHERE score IN (SELECT 1)",
        "select 1:50: a view has no subquery; list the values: IN ('a', 'b')",
    ),
    "a window": (
        f"SELECT permit_no, row_number() OVER () AS n {FROM}",
        "select 1:19: a view has no window function; a view has one row a record; leave OVER out",
    ),
    "a function that is not on the list": (
        f"SELECT permit_no, uper(status) AS s {FROM}",
        "select 1:19: uper is not on the list of functions; write upper",
    ),
    "a function under another name": (
        f"SELECT permit_no, ifnull(status, 'x') AS s {FROM}",
        "select 1:19: ifnull is not on the list of functions; write coalesce",
    ),
    "the clock": (
        f"SELECT permit_no {FROM} WHERE now() > status",
        "select 1:50: now depends on the clock or on chance; write a constant or a column instead",
    ),
    "the clock without parentheses": (
        f"SELECT permit_no, current_date AS today {FROM}",
        "select 1:19: current_date depends on the clock or on chance; write a constant or a column instead",
    ),
    "chance": (
        f"SELECT permit_no, random() AS r {FROM}",
        "select 1:19: random depends on the clock or on chance; write a constant or a column instead",
    ),
    "one name twice": (
        f"SELECT permit_no, status, score AS status {FROM}",
        "select 1:27: status is there twice; rename one of them with AS",
    ),
    "an expression without a name": (
        f"SELECT permit_no, score + 1 {FROM}",
        "select 1:19: this column has no name; add AS <name>",
    ),
    "a name that no table may have": (
        f'SELECT permit_no, score AS "Score!" {FROM}',
        "select 1:19: Score! is no name for a column; use [a-z][a-z0-9_]*, at most 60 characters",
    ),
    "no key": (
        f"SELECT status {FROM}",
        (
            "select 1:8: the key of construction.permits is neither selected as it is nor hashed: permit_no; "
            "select permit_no, or write `key: hashed` in the agreement"
        ),
    ),
    "a masked key": (
        f"SELECT mask(permit_no) AS permit_no {FROM}",
        (
            "select 1:8: the key of construction.permits is neither selected as it is nor hashed: permit_no; "
            "select permit_no, or write `key: hashed` in the agreement"
        ),
    ),
    "a number and a text compared": (
        f"SELECT permit_no {FROM} WHERE score = '3x'",
        (
            "select 1:50: INTEGER and VARCHAR do not meet; CAST the text to INTEGER, or the other one to VARCHAR; "
            "a constant text stands in quotes"
        ),
    ),
    "a text where a number belongs": (
        f"SELECT permit_no, abs(status) AS a {FROM}",
        "select 1:19: abs does not take (VARCHAR); write abs(number)",
    ),
    "a number where a condition belongs": (
        f"SELECT permit_no {FROM} WHERE score",
        "select 1:50: WHERE takes a condition, not INTEGER; write a comparison",
    ),
    "branches of two types": (
        f"SELECT permit_no, CASE WHEN score > 1 THEN score ELSE status END AS c {FROM}",
        (
            "select 1:29: INTEGER and VARCHAR do not meet; CAST the text to INTEGER, or the other one to VARCHAR; "
            "a constant text stands in quotes"
        ),
    ),
    "decimals times whole numbers": (
        f"SELECT permit_no, score * 1.5 AS c {FROM}",
        (
            "select 1:19: INTEGER and DECIMAL(2,1) do not meet; write the constant with an exponent (1.5e0), "
            "or CAST both to DOUBLE"
        ),
    ),
    "a day that does not exist": (
        f"SELECT permit_no, DATE '2023-02-29' AS d {FROM}",
        "select 1:24: '2023-02-29' is no date; write 'YYYY-MM-DD'",
    ),
    "a type that is not there": (
        f"SELECT permit_no, CAST(score AS TINYINT) AS t {FROM}",
        "select 1:24: there is no CAST to TINYINT; write one of BOOLEAN, INTEGER, BIGINT, FLOAT, DOUBLE, VARCHAR, DATE",
    ),
    "ILIKE": (
        f"SELECT permit_no {FROM} WHERE status ILIKE 'a%'",
        "select 1:50: ILIKE is not in the view language; write lower(text) LIKE 'pattern%'",
    ),
    "NULL without a type": (
        f"SELECT permit_no, NULL AS nothing {FROM}",
        "select 1:19: this column has no type; write CAST(NULL AS <type>)",
    ),
    "no SQL": (
        f"SELECT permit_no,, status {FROM}",
        'select 1:18: this is no SQL: syntax error at or near ","; correct the words here',
    ),
    "what DuckDB itself does not read": (
        f"SELECT permit_no {FROM} WHERE status LIKE 'a' IS NULL IS NULL LIKE 'b'",
        None,
    ),
    "no SELECT": (
        "DELETE FROM construction.permits",
        "select 1:1: an agreement has a SELECT and nothing else; write SELECT … FROM … WHERE …",
    ),
    "two statements": (
        f"SELECT permit_no {FROM}; DROP TABLE x",
        "select 1:1: an agreement has one SELECT; write one SELECT, and no second statement",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_select_is_refused_at_its_place_with_its_mend(case: str) -> None:
    select, expected = WRONG[case]
    found = findings(select)
    assert found if expected is None else found == [expected]


def test_every_finding_is_told_at_once_in_the_order_of_the_text() -> None:
    found = findings(
        f"SELECT permitno, foo(1) AS f,\n  count(*) AS n {FROM}\nWHERE scor = 1 ORDER BY 1",
        valid_until=date(2025, 1, 1),
    )
    assert [finding.split(": ")[0] for finding in found] == [
        *("agreement", "select 1:8", "select 1:18", "select 2:3", "select 3:7", "select 3:25")
    ]


def test_an_expression_with_a_fault_inside_is_not_blamed_again() -> None:
    assert findings(f"SELECT permit_no {FROM} WHERE upper(lower(statsu)) || 'x' = 'y'") == [
        "select 1:62: there is no column statsu; write status"
    ]


@pytest.mark.parametrize("deep", ["(" * 2000 + "score" + ")" * 2000, " + ".join(["score"] * 3000)])
def test_a_select_without_end_is_refused(deep: str) -> None:
    assert any("nested too deeply" in finding for finding in findings(f"SELECT permit_no, {deep} AS x {FROM}"))


def test_a_view_has_no_more_columns_than_a_schema() -> None:
    columns = ", ".join(f"score AS c{number}" for number in range(1000))
    place = len("SELECT permit_no, " + columns) - len("score AS c999") + 1
    assert findings(f"SELECT permit_no, {columns} {FROM}") == [
        f"select 1:{place}: a view has at most 1000 columns; divide the agreement into several"
    ]


def test_a_subscriber_needs_the_consent_of_each_owner() -> None:
    alone = replace(agreement("one", f"SELECT permit_no {FROM}"), owner_consents=())
    with pytest.raises(CheckFailed, match=r"construction, which owns construction\.permits, has not consented; add"):
        check(alone, catalogue())
    own = replace(alone, subscriber=DepartmentId("construction"))
    assert check(own, catalogue()).subscriber == "construction"


def test_what_is_not_shared_stays_with_its_owner() -> None:
    wanted = agreement("one", f"SELECT permit_no {FROM}")
    with pytest.raises(CheckFailed, match=r"select 1:23: construction\.permits is not shared; ask construction"):
        check(wanted, catalogue(sharing=Sharing.REFUSED))


def test_an_agreement_holds_from_its_first_day_to_its_last() -> None:
    wanted = agreement("one", f"SELECT permit_no {FROM}")
    assert check(wanted, catalogue(), on=wanted.valid_until)
    with pytest.raises(CheckFailed, match="the agreement expired on 2036-01-01; agree on a later valid_until"):
        check(wanted, catalogue(), on=date(2036, 1, 2))
    with pytest.raises(CheckFailed, match="valid_until lies before valid_from"):
        check(replace(wanted, valid_until=date(2025, 12, 31)), catalogue())
    assert [wanted.in_force(day) for day in (date(2025, 12, 31), wanted.valid_from, wanted.valid_until)] == [
        False,
        True,
        True,
    ]


def test_parties_stand_in_the_catalogue() -> None:
    assert findings(f"SELECT permit_no {FROM}", subscriber=DepartmentId("healt"))[0] == (
        "agreement: the catalogue has no department healt; write subscriber: health"
    )


def test_a_hashed_key_need_not_be_selected() -> None:
    view = check(agreement("one", f"SELECT status {FROM}", key=KeyMode.HASHED), catalogue())
    assert (view.key_mode, view.output.field_names) == (KeyMode.HASHED, ("status",))


def test_the_schema_of_an_inbox_follows_from_its_sources() -> None:
    view = check(everything(), everything_catalogue())
    fields = {field["name"]: field["type"] for field in json.loads(view.output.text)["fields"]}
    assert view.output.name == "civicbus.inbox.health.one"
    assert fields["id"] == "string"
    assert fields["day"] == ["null", {"type": "int", "logicalType": "date"}]
    assert fields["moment_ms"] == ["null", {"type": "long", "logicalType": "timestamp-millis"}]
    assert fields["money"][1]["logicalType"] == "decimal"
    assert fields["reference"] == {"type": "string", "logicalType": "uuid"}
    assert fields["kind"] == "string"
    assert fields["twice"] == ["null", "long"]
    assert fields["named"] == "string"
    assert fields["half"] == ["null", "double"]


def test_lineage_says_which_field_shows_feeds_and_filters() -> None:
    select = f"SELECT permit_no, upper(status) || phone AS contact {FROM} WHERE score > 3"
    links = check(agreement("one", select), catalogue()).lineage
    assert {(str(link.dataset), link.field, str(link.use), link.column) for link in links} == {
        ("construction.permits", "permit_no", "shows", "permit_no"),
        ("construction.permits", "status", "feeds", "contact"),
        ("construction.permits", "phone", "feeds", "contact"),
        ("construction.permits", "score", "filters", ""),
    }


def everything() -> Agreement:
    columns = [name for name in COLUMNS if name not in ("single2", "real2")]
    computed = ["big * 2 AS twice", "coalesce(text, 'none') AS named", "small / 2 AS half", "reference", "kind"]
    return agreement("one", f"SELECT id, {', '.join([*columns, *computed])} FROM construction.everything")


def everything_catalogue() -> Catalogue:
    """A dataset with a field of every type that a view can show, and one that it cannot."""
    schema = AvroSchema.parse(
        json.dumps(
            {
                "type": "record",
                "name": "everything",
                "fields": [
                    {"name": "id", "type": "string"},
                    {"name": "reference", "type": {"type": "string", "logicalType": "uuid"}},
                    {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["a", "b"]}},
                    {"name": "tags", "type": {"type": "array", "items": "string"}},
                    *({"name": name, "type": ["null", _avro(name)]} for name in COLUMNS),
                ],
            }
        )
    )
    name = DatasetId.parse("construction.everything")
    dataset = replace(permits(), id=name, key=("id",), schemas=(schema,))
    return replace(catalogue(), datasets={name: dataset})


def _avro(name: str) -> object:
    match avro_type(COLUMNS[name]):
        case Primitive(logical=None) as plain:
            return plain.kind
        case Primitive() as logical:
            return {"type": logical.kind, "logicalType": logical.logical}
        case decimal:
            return {"type": "bytes", "logicalType": "decimal", "precision": decimal.precision, "scale": decimal.scale}


def test_a_field_of_lists_cannot_be_selected() -> None:
    wanted = replace(everything(), select="SELECT id, tags FROM construction.everything")
    with pytest.raises(CheckFailed, match="tags holds several values"):
        check(wanted, everything_catalogue())
