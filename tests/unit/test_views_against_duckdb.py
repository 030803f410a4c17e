"""Whole SELECTs: what is evaluated equals what DuckDB returns, for random ones over random rows."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from civicbus.names import DatasetId
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.schema import AvroSchema, document
from civicbus.schemas.codec.tree import Nullable
from civicbus.schemas.datasets import Catalogue
from civicbus.schemas.sql.duckdb import expression_sql, quoted
from civicbus.schemas.sql.nodes import Expression
from civicbus.schemas.sql.types import avro_type
from civicbus.schemas.views import Column, View, check
from civicbus.stream_apps.views.evaluate import Evaluation
from civicbus.stream_apps.views.law import by_duckdb
from support.samples import agreement, catalogue, permits
from support.view_language import COLUMNS, KEY, law, one_batch, ours, plain, tables, typed

SEED = int(os.environ.get("CIVICBUS_TEST_SEED", "0"))
EXAMPLES = int(os.environ.get("CIVICBUS_TEST_EXAMPLES", "120"))
DATASET = DatasetId.parse("construction.everything")
run = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))

# What an expression of each type may be made of; {} is an expression of the type that stands in it.
_FORMS = {
    "VARCHAR": [
        *("text", "other", "'a'", "'许é'", "NULL::VARCHAR", "lower({VARCHAR})", "upper({VARCHAR})", "trim({VARCHAR})"),
        *("{VARCHAR} || {VARCHAR}", "concat({VARCHAR}, {VARCHAR})", "mask({VARCHAR}, 1, 1)", "hash({VARCHAR})"),
        *("substring({VARCHAR}, {INTEGER}, {INTEGER})", "left({VARCHAR}, {INTEGER})", "right({VARCHAR}, {BIGINT})"),
        *("replace({VARCHAR}, 'a', {VARCHAR})", "coalesce({VARCHAR}, {VARCHAR})", "nullif({VARCHAR}, {VARCHAR})"),
        *(
            "CASE WHEN {BOOLEAN} THEN {VARCHAR} ELSE {VARCHAR} END",
            "CAST({DATE} AS VARCHAR)",
            "age_band({DATE}, {DATE}, 9)",
        ),
        *("CAST({BIGINT} AS VARCHAR)", "CAST({DOUBLE} AS VARCHAR)", "CAST({BOOLEAN} AS VARCHAR)"),
    ],
    "INTEGER": [
        *(
            "small",
            "less",
            "7",
            "-2147483647",
            "{INTEGER} + {INTEGER}",
            "{INTEGER} - {INTEGER}",
            "{INTEGER} * {INTEGER}",
        ),
        *(
            "{INTEGER} // {INTEGER}",
            "{INTEGER} % {INTEGER}",
            "-{INTEGER}",
            "abs({INTEGER})",
            "CAST({DOUBLE} AS INTEGER)",
        ),
        *("CAST({VARCHAR} AS INTEGER)", "CAST({BIGINT} AS INTEGER)", "coalesce({INTEGER}, {INTEGER})"),
    ],
    "BIGINT": [
        *("big", "bigger", "3000000000", "{BIGINT} + {INTEGER}", "{BIGINT} - {BIGINT}", "{BIGINT} * {BIGINT}"),
        *("{BIGINT} // {BIGINT}", "{BIGINT} % {BIGINT}", "length({VARCHAR})", "year({DATE})", "{DATE} - {DATE}"),
        *("CAST({VARCHAR} AS BIGINT)", "CASE {INTEGER} WHEN {INTEGER} THEN {BIGINT} WHEN 2 THEN {INTEGER} END"),
    ],
    "DOUBLE": [
        *(
            "real",
            "real2",
            "1.5e0",
            "{DOUBLE} + {DOUBLE}",
            "{DOUBLE} - {BIGINT}",
            "{DOUBLE} * 2.5",
            "{BIGINT} / {BIGINT}",
        ),
        *("{DOUBLE} / {DOUBLE}", "round({DOUBLE}, 2)", "floor({DOUBLE})", "ceil({DOUBLE})", "abs({DOUBLE})"),
        *("CAST({VARCHAR} AS DOUBLE)", "CAST(money AS DOUBLE)", "-{DOUBLE}", "nullif({DOUBLE}, {DOUBLE})"),
    ],
    "DATE": ["day", "day2", "DATE '2024-02-29'", "{DATE} + {INTEGER}", "{DATE} - 30", "CAST(trim({VARCHAR}) AS DATE)"],
    "BOOLEAN": [
        *("flag", "flag2", "TRUE", "{VARCHAR} = {VARCHAR}", "{VARCHAR} < {VARCHAR}", "{INTEGER} <> {BIGINT}"),
        *("{DOUBLE} >= {DOUBLE}", "{DATE} > {DATE}", "money <= 12.5", "moment > '2020-01-01'", "{INTEGER} < 2.5"),
        *("{VARCHAR} IS NULL", "{DOUBLE} IS NOT NULL", "{VARCHAR} IS DISTINCT FROM {VARCHAR}", "NOT {BOOLEAN}"),
        *(
            "{BOOLEAN} AND {BOOLEAN}",
            "{BOOLEAN} OR {BOOLEAN}",
            "{VARCHAR} LIKE '%a_%'",
            "contains({VARCHAR}, {VARCHAR})",
        ),
        *(
            "{VARCHAR} IN ('a', {VARCHAR}, NULL)",
            "{INTEGER} NOT IN (1, 2, 3)",
            "{BIGINT} BETWEEN {INTEGER} AND {BIGINT}",
        ),
        *("starts_with({VARCHAR}, 'a')", "CAST({VARCHAR} AS BOOLEAN)", "CAST({DOUBLE} AS BOOLEAN)"),
    ],
}


@cache
def expressions(kind: str, depth: int) -> st.SearchStrategy[str]:
    """Texts of this type, every part in parentheses."""
    forms = [form for form in _FORMS[kind] if depth or "{" not in form]
    return st.sampled_from(forms).flatmap(lambda form: _filled(form, depth))


def _filled(form: str, depth: int) -> st.SearchStrategy[str]:
    pieces = form.replace("}", "{").split("{")
    parts = [
        st.just(piece) if n % 2 == 0 else expressions(piece, depth - 1).map(_wrapped) for n, piece in enumerate(pieces)
    ]
    return st.tuples(*parts).map("".join)


def _wrapped(text: str) -> str:
    return f"({text})"


@st.composite
def selects(draw: st.DrawFn) -> str:
    kinds = draw(st.lists(st.sampled_from(sorted(_FORMS)), min_size=1, max_size=3))
    computed = [f"{draw(expressions(kind, 2))} AS c{n}" for n, kind in enumerate(kinds)]
    plain_columns = draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=3, unique=True))
    where = draw(st.one_of(st.just(""), expressions("BOOLEAN", 2).map(" WHERE {}".format)))
    return f"SELECT id, {', '.join([*plain_columns, *computed])} FROM construction.everything{where}"


def rows_of(size: int) -> st.SearchStrategy[pa.Table]:
    """Rows of the dataset; their ids are their numbers."""
    return tables(sorted(COLUMNS), max_size=size, of_rows=True).map(
        lambda rows: rows.append_column("id", pa.array([str(n) for n in range(rows.num_rows)], pa.string()))
    )


@cache
def everything() -> Catalogue:
    kinds = {name: document(Nullable(inner=avro_type(kind), null_first=True), set()) for name, kind in COLUMNS.items()}
    fields = [{"name": "id", "type": "string"}, *({"name": name, "type": kind} for name, kind in sorted(kinds.items()))]
    schema = AvroSchema.parse(json.dumps({"type": "record", "name": "everything", "fields": fields}))
    return catalogue(replace(permits(), id=DATASET, key=("id",), schemas=(schema,)))


def views_of(texts: Sequence[str]) -> list[View]:
    return [check(agreement(f"view_{n}", text), everything()) for n, text in enumerate(texts)]


def duckdb_rows(view: View, rows: pa.Table) -> dict[str, list[object]]:
    """What DuckDB returns for a view, column by column."""

    def sql(expression: Expression) -> str:
        return expression_sql(expression, lambda field: quoted(field.name), KEY)

    relation = law().from_arrow(rows)
    chosen = relation if view.where is None else relation.filter(sql(view.where))
    columns = ", ".join(f"{_in_calendar(column, sql(column.expression))} AS {column.name}" for column in view.columns)
    answer = chosen.project(columns).to_arrow_table()
    return {name: plain(answer.column(name)) for name in answer.column_names}


def has_nan(rows: pa.RecordBatch) -> bool:
    """NaN is not equal to itself in Arrow."""
    return any(pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py() for column in rows.columns)


def _in_calendar(column: Column, sql: str) -> str:
    if not column.may_leave_calendar:
        return sql
    return f"CASE WHEN ({sql}) BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN {sql} END"


@seed(SEED)
@run
@given(st.lists(selects(), min_size=1, max_size=3), rows_of(12))
def test_what_is_evaluated_is_what_duckdb_returns(texts: list[str], rows: pa.Table) -> None:
    views = views_of(texts)
    batch = one_batch(rows)
    results = Evaluation(views, {view.agreement: KEY for view in views})(batch)
    for view, result in zip(views, results, strict=True):
        expected = duckdb_rows(view, rows)
        mine = {name: plain(result.rows.column(name)) for name in result.rows.schema.names}
        assert mine == expected
        assert batch.filter(pa.array(result.passes)).column("id").to_pylist() == expected["id"]
        passes, slowly = by_duckdb(view, KEY, batch)
        assert passes.tolist() == result.passes.tolist()
        assert slowly.equals(result.rows) or has_nan(slowly)


@seed(SEED)
@run
@given(selects(), rows_of(12))
def test_the_rows_are_what_the_codec_takes_and_null_only_where_the_schema_says(text: str, rows: pa.Table) -> None:
    (view,) = views_of([text])
    (result,) = Evaluation([view], {view.agreement: KEY})(one_batch(rows))
    assert result.rows.schema == arrow_schema(view.output)
    result.rows.validate(full=True)
    for field, column in zip(result.rows.schema, result.rows.columns, strict=True):
        assert field.nullable or column.null_count == 0
    codec = ColumnCodec(view.output)
    again = codec.decode(codec.encode(result.rows))
    assert {name: plain(again.batch.column(name)) for name in again.batch.schema.names} == {
        name: plain(result.rows.column(name)) for name in result.rows.schema.names
    }


_OPERATORS = [
    *("+", "-", "*", "/", "//", "%", "=", "<>", "<", ">=", "AND", "OR", "||", "IS DISTINCT FROM"),
    "IS NOT DISTINCT FROM",
    *("IS NULL", "IS NOT NULL", "LIKE 'a%'", "NOT LIKE '_%'", "IN (1, 2)", "NOT IN ('a')", "::VARCHAR", "::BIGINT"),
    *("BETWEEN 1 AND", "NOT BETWEEN -1 AND"),
]
_SIGNS = ["", "", "", "NOT ", "-"]
_OPERANDS = ["small", "less", "big", "flag", "text", "real", "2", "2.5", "'a'", "TRUE"]


@st.composite
def chains(draw: st.DrawFn) -> str:
    """Operators in a row without parentheses: what binds closer is for the parser to know."""
    parts = [draw(st.sampled_from(_SIGNS)) + draw(st.sampled_from(_OPERANDS))]
    for _ in range(draw(st.integers(1, 3))):
        operator = draw(st.sampled_from(_OPERATORS))
        parts.append(operator)
        if (operator[-1].isalpha() and operator[-4:] not in ("NULL", "CHAR", "GINT")) or (
            not operator[-1].isalnum() and operator[-1] not in "')"
        ):
            parts.append(draw(st.sampled_from(_SIGNS)) + draw(st.sampled_from(_OPERANDS)))
    return " ".join(parts)


@seed(SEED)
@settings(run, max_examples=1500)
@given(chains())
def test_operators_bind_as_they_do_in_duckdb(text: str) -> None:
    try:
        expression = typed(text)
    except AssertionError:
        return
    try:
        answer = law().from_arrow(_few_rows()).project(f"({text}) AS answer").to_arrow_table().column("answer")
    except duckdb.Error:
        return
    assert ours(expression, _few_rows()) == plain(answer)


@pytest.mark.parametrize(
    "layers",
    [
        ["({} % 7)", "({} // -3)", "abs({} * 2)"],
        ["upper(left({}, 30))", "substring(lower({}), 2)", "right(trim({}), 20)"],
        ["CASE WHEN {} > 1 THEN {} ELSE 3 END"],
    ],
)
def test_what_is_nested_deeply_is_evaluated_once_a_level(layers: list[str]) -> None:
    inner = "text" if "upper" in layers[0] else "small"
    for number in range(3 if len(layers) == 1 else 10):
        inner = layers[number % len(layers)].replace("{}", inner)
    answer = law().from_arrow(_few_rows()).project(f"({inner}) AS answer").to_arrow_table().column("answer")
    assert ours(typed(inner), _few_rows()) == plain(answer)


@cache
def _few_rows() -> pa.Table:
    numbers = [None, -3, -1, 0, 1, 2, 5]
    table = pl.DataFrame({"small": numbers}, schema={"small": pl.Int32})
    others = {
        "less": numbers[::-1],
        "flag": [None, True, False],
        "text": [None, "a", "b", "", "ab"],
        "real": [None, -1.5, 2.0],
    }
    for name, values in others.items():
        table = table.join(pl.DataFrame({name: values}), how="cross")
    return table.with_columns(pl.col("less").cast(pl.Int32), big=pl.col("small").cast(pl.Int64)).to_arrow()
