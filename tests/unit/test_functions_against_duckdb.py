"""Every operator and function of the view language gives what DuckDB gives, on hostile values."""

from __future__ import annotations

import os

import polars as pl
import pytest
from hypothesis import HealthCheck, given, seed, settings

from civicbus.schemas.sql.functions import FUNCTIONS
from civicbus.schemas.sql.nodes import Call, fields_of, walk
from civicbus.schemas.sql.operators import OPERATORS
from civicbus.stream_apps.views.expressions import COMPILED, keyed_hash
from support.view_language import assert_same, duckdb_column, ours, table, tables, typed

SEED = int(os.environ.get("CIVICBUS_TEST_SEED", "0"))

EXPRESSIONS = {
    "lower": ["lower(text)"],
    "upper": ["upper(text)", "upper('straße')"],
    "trim": ["trim(text)", "trim(text, 'a b')", "trim(text, '')"],
    "ltrim": ["ltrim(text)", "ltrim(text, '许é')"],
    "rtrim": ["rtrim(text)", "rtrim(text, '\n')"],
    "length": ["length(text)"],
    "substring": [
        *("substring(text, 2)", "substring(text, 0)", "substring(text, -2)", "substring(text, small)"),
        *("substring(text, 2, 3)", "substring(text, 0, 3)", "substring(text, -2, 3)", "substring(text, -2, -3)"),
        *("substring(text, small, less)", "substring(text, big, bigger)", "substring(text, big)"),
    ],
    "left": ["left(text, 2)", "left(text, -2)", "left(text, small)", "left(text, big)"],
    "right": ["right(text, 2)", "right(text, -2)", "right(text, small)", "right(text, big)"],
    "concat": ["concat(text, other, 'x')", "concat(text)", "concat(text, NULL)"],
    "||": ["text || other || 'x'", "text || NULL"],
    "replace": [
        *("replace(text, 'a', 'b$1')", "replace(text, '', 'b')", "replace(text, 'a', '')", "replace(text, other, 'b')"),
        *("replace(text, 'a', other)", "replace(text, '.', '\\0')"),
    ],
    "starts_with": ["starts_with(text, other)", "starts_with(text, '')", "starts_with(text, 'a')"],
    "ends_with": ["ends_with(text, other)", "ends_with(text, 'a')"],
    "contains": ["contains(text, other)", "contains(text, '.')", "contains('a.b', text)"],
    "coalesce": [
        "coalesce(text, other, 'x')",
        "coalesce(small, big)",
        "coalesce(real, single, 1.5)",
        "coalesce(NULL, day)",
    ],
    "nullif": ["nullif(text, other)", "nullif(real, real2)", "nullif(small, big)", "nullif(real, 0.0)"],
    "abs": ["abs(small)", "abs(big)", "abs(single)", "abs(real)"],
    "round": [f"round(real, {digits})" for digits in (-15, -2, 0, 1, 2, 7, 15)] + ["round(real)"],
    "floor": ["floor(real)", "floor(single)"],
    "ceil": ["ceil(real)", "ceil(single)"],
    "year": ["year(day)"],
    "month": ["month(day)"],
    "day": ["day(day)"],
    "mask": ["mask(text)", "mask(text, 1, 2)", "mask(text, 0, 1)", "mask(text, 3)"],
    "hash": ["hash(text)"],
    "age_band": [
        "age_band(day, day2, 10)",
        "age_band(day, '2024-02-29', 7)",
        "age_band('2004-02-29', coalesce(day, day2), 1)",
    ],
    "+": [
        "small + less",
        "big + bigger",
        "small + big",
        "single + single2",
        "single + small",
        "real + 0",
        "real + big",
    ],
    "-": ["small - less", "big - bigger", "real - real2", "single - single2", "0 - real"],
    "*": ["small * less", "big * bigger", "real * real2", "single * single2", "real * 1.5", "0 * real"],
    "/": [
        "small / less",
        "big / bigger",
        "real / real2",
        "real / 3e0",
        "small / 7",
        "single / 3.3",
        "1 / real",
        "big / 0",
    ],
    "//": ["small // less", "big // bigger", "small // 3", "small // -1", "big // 0"],
    "%": ["small % less", "big % bigger", "real % real2", "single % single2", "small % 3", "small % -1"],
    "neg": ["-small", "-big", "-real", "-single"],
    "date +": ["day + small", "small + day", "day + 1"],
    "date -": ["day - small"],
    "days between": ["day - day2", "DATE '2024-02-29' - day"],
    "=": ["text = other", "real = real2", "big = real", "day = '2020-01-01'", "small = 2.5", "bytes = bytes2"],
    "<>": ["text <> other", "real <> single", "small <> 2.5", "flag <> flag2", "small <> 3"],
    "<": [
        "text < other",
        "small < big",
        "day < day2",
        "moment < moment2",
        "flag < flag2",
        "bytes < bytes2",
        "text < NULL",
    ],
    "<=": ["text <= other", "money <= 7", "small <= -2.5", "single <= 0.1"],
    ">": ["real > real2", "money > 12.5", "2.5 > small", "single > small", "real > 0.1"],
    ">=": ["real >= real2", "moment >= '2020-01-01'", "moment_ms >= '2020-01-01 10:00:00'", "money >= money2"],
    "is distinct from": ["text IS DISTINCT FROM other", "real IS DISTINCT FROM real2", "small IS DISTINCT FROM NULL"],
    "is not distinct from": ["small IS NOT DISTINCT FROM less", "real IS NOT DISTINCT FROM 0.0"],
    "and": ["flag AND flag2", "flag AND NULL", "flag AND small > 3 AND flag2"],
    "or": ["flag OR flag2", "flag OR NULL", "flag OR NOT flag2 AND small > 3"],
    "not": ["NOT flag", "NOT NULL"],
    "in": [
        *("text IN ('a', '', '12')", "text IN ('a', NULL)", "text NOT IN ('a', NULL)", "small IN (1, 2, less)"),
        *("small IN (1, 3000000000)", "real IN (1, real2, 2.5)", "real IN (0.0)", "day IN ('1970-01-01', day2)"),
        *("NULL IN (1, 2)", "'a' IN (coalesce(text, 'a'), other)", "flag IN (TRUE, NULL)", "money IN (0, 1.5)"),
    ],
    "between": [
        "text BETWEEN 'a' AND other",
        "small BETWEEN 1 AND less",
        "small BETWEEN 1.5 AND big",
        "real BETWEEN 0.5 AND real2",
    ],
    "like": [
        *("text LIKE 'a%'", "text LIKE '%a'", "text LIKE '%a%'", "text LIKE 'a_'", "text LIKE '_'", "text LIKE ''"),
        *(
            "text LIKE '%'",
            "text LIKE '%\\%'",
            "text LIKE 'a!%%' ESCAPE '!'",
            "text NOT LIKE '%.*[a'",
            "text LIKE 'a\n%'",
        ),
    ],
    "is null": ["text IS NULL", "real IS NOT NULL", "(text = other) IS NULL"],
    "case": [
        "CASE WHEN flag THEN text WHEN flag2 THEN other END",
        "CASE small WHEN 1 THEN 'one' WHEN less THEN 'same' ELSE text END",
        "CASE WHEN flag THEN small ELSE big END",
        "CASE WHEN NULL THEN 1 ELSE 2 END",
    ],
    "cast": [
        *("CAST(small AS BIGINT)", "CAST(small AS FLOAT)", "CAST(small AS DOUBLE)", "CAST(small AS BOOLEAN)"),
        *("CAST(small AS VARCHAR)", "CAST(big AS INTEGER)", "CAST(big AS FLOAT)", "CAST(big AS DOUBLE)"),
        *("CAST(big AS BOOLEAN)", "CAST(big AS VARCHAR)", "CAST(single AS INTEGER)", "CAST(single AS BIGINT)"),
        *("CAST(single AS DOUBLE)", "CAST(single AS BOOLEAN)", "CAST(single AS VARCHAR)", "CAST(real AS INTEGER)"),
        *("CAST(real AS BIGINT)", "CAST(real AS FLOAT)", "CAST(real AS BOOLEAN)", "CAST(real AS VARCHAR)"),
        *("CAST(flag AS INTEGER)", "CAST(flag AS BIGINT)", "CAST(flag AS VARCHAR)", "CAST(day AS VARCHAR)"),
        *("CAST(money AS VARCHAR)", "CAST(money AS DOUBLE)", "CAST(money AS INTEGER)", "CAST(money AS BIGINT)"),
        *("CAST(text AS INTEGER)", "CAST(text AS BIGINT)", "CAST(text AS DOUBLE)", "CAST(text AS FLOAT)"),
        *(
            "CAST(text AS BOOLEAN)",
            "TRY_CAST(text AS DATE)",
            "CAST(moment AS DATE)",
            "CAST(moment AS VARCHAR)",
            "CAST(moment_ms AS DATE)",
        ),
        *("CAST(NULL AS DATE)", "text::INTEGER", "CAST(2.5e0 AS INTEGER)"),
    ],
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_it_gives_what_duckdb_gives(name: str) -> None:
    expressions = [typed(text) for text in EXPRESSIONS[name]]
    columns = sorted({field.name for expression in expressions for field in fields_of(expression)})

    @seed(SEED)
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(tables(columns))
    def holds(rows: object) -> None:
        for expression in expressions:
            assert_same(expression, rows)

    holds()


def test_every_function_and_operator_is_among_them() -> None:
    tried = {
        node.name
        for texts in EXPRESSIONS.values()
        for text in texts
        for node in walk(typed(text))
        if isinstance(node, Call)
    }
    assert set(COMPILED) - tried == set()
    assert set(FUNCTIONS) - set(EXPRESSIONS) == set()
    assert set(OPERATORS) - set(EXPRESSIONS) == {"is"}


@pytest.mark.parametrize("call", ["lower('Σ' || text)", "upper(text)", "trim(text || 'a' || text)", "length(text)"])
def test_every_character_there_is_is_treated_as_duckdb_treats_it(call: str) -> None:
    letters = [chr(point) for point in range(1, 0x110000) if not 0xD800 <= point < 0xE000]
    rows = table(["text"], [[letter] for letter in letters])
    assert ours(typed(call), rows) == duckdb_column(call, rows)


def test_a_hash_is_hmac_sha_256_and_depends_on_the_key() -> None:
    # RFC 4231, test case 2.
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert keyed_hash(b"Jefe", b"what do ya want for nothing?") == expected
    assert keyed_hash(b"other", b"what do ya want for nothing?") != expected


def test_values_that_would_break_polars_are_nothing_special() -> None:
    farthest = table(["moment_ms"], [[2**63 - 1], [-(2**63)]])
    assert ours(typed("CAST(moment_ms AS DATE)"), farthest) == [("day", None), ("day", None)]
    beyond = pl.Series([2**31 - 1, -(2**31), None], dtype=pl.Int32).cast(pl.Date)
    rows = table(["day", "small"], [(day, 1) for day in beyond.cast(pl.Int32)])
    assert ours(typed("CAST(day AS VARCHAR)"), rows) == ["infinity", "5877642-06-23 (BC)", None]
    assert ours(typed("year(day)"), rows) == [None, -5877641, None]
