"""The manual of the view language, made from its tables of types and functions; ``docs/view-language.md`` holds it."""

from __future__ import annotations

from collections.abc import Iterator

from civicbus.schemas.sql.functions import FUNCTIONS
from civicbus.schemas.sql.operators import CASTABLE
from civicbus.schemas.sql.types import Kind

_HEAD = """\
# The view language

An agreement's SELECT says which rows and columns a subscriber receives. It is kept true: when a record changes, on
whichever side of a join, the inbox follows.

```sql
SELECT p.permit_no, p.status, e.name AS enterprise, mask(p.phone, 3, 4) AS phone, CAST(p.score AS DOUBLE) / 10 AS grade
FROM   construction.permits AS p
LEFT JOIN market.enterprises AS e ON e.credit_code = p.enterprise_code
WHERE  p.status IN ('approved', 'closed') AND p.phone IS NOT NULL
```

- One SELECT from one driving dataset, `<department>.<dataset>`, with an alias if you like. No `*`, DISTINCT, GROUP BY,
  aggregate, window, ORDER BY, LIMIT, WITH, UNION or subquery: a view has one row for each record that passes WHERE.
- Up to four joins, LEFT or INNER, each to the record of another dataset that the row names: ON sets every field of that
  dataset's record key equal to a column of an earlier dataset, of the same type, joined by AND. A dataset may be there
  twice, under two aliases. Every owner of a dataset consents.
- A column is a field or an expression; an expression needs `AS <name>`. Names are `[a-z][a-z0-9_]*`.
- The record key is the key of the inbox: select its fields as they are, or write `key: hashed` in the agreement.
- Nothing depends on the clock or on chance.
- `civicbus agreements check FILE` says everything that is wrong at once, with line, column and what to write instead.

## What it means

The meaning is that of DuckDB 2.0, with `ieee_floating_point_ops` and `error_on_division_by_zero` off and the time
zone UTC, and with NULL where DuckDB would raise: CAST means TRY_CAST, and a whole number that overflows is NULL, as
is a division by zero. Every operator and function below is held to DuckDB by a property test on hostile values.

A date column of a view lies in the years 1 to 9999, as in every row on the bus; a computed date outside is NULL.
Texts are compared by their code points. NaN equals itself and is the greatest number. NULL behaves as in SQL: a row
passes WHERE only where the condition is true.

## Types

| type | in Avro | CAST to |
|---|---|---|"""

_AVRO = {
    Kind.BOOLEAN: "boolean",
    Kind.INTEGER: "int",
    Kind.BIGINT: "long",
    Kind.FLOAT: "float",
    Kind.DOUBLE: "double",
    Kind.DECIMAL: "bytes or fixed, logical type decimal",
    Kind.VARCHAR: "string, enum, and logical type uuid",
    Kind.BLOB: "bytes, fixed",
    Kind.DATE: "int, logical type date",
    Kind.TIME: "logical types time-millis, time-micros",
    Kind.TIMESTAMP: "logical types local-timestamp-millis, local-timestamp-micros",
    Kind.TIMESTAMPTZ: "logical types timestamp-millis, timestamp-micros",
}

_OPERATORS = """\
Fields of several values (arrays, maps, records) cannot be selected. Texts and numbers never meet without a CAST;
whole numbers meet as BIGINT, and with a FLOAT or DOUBLE as that. `'2026-01-31'` is a DATE where it is compared with
one, `'2026-01-31 08:00:00'` a time in UTC. `1.5` is a decimal constant: it meets DOUBLE, FLOAT and DECIMAL columns,
and is compared with whole numbers exactly; write `1.5e0` to calculate with it and a whole number.

## Operators

| operator | takes | gives |
|---|---|---|
| `a = b`, `<>`, `<`, `<=`, `>`, `>=` | two values of one type | BOOLEAN |
| `a IS [NOT] DISTINCT FROM b` | two values of one type; NULL equals NULL | BOOLEAN, never NULL |
| `a IS [NOT] NULL` | any value | BOOLEAN, never NULL |
| `a [NOT] IN (b, …)` | values of one type; NULL in the list as in SQL | BOOLEAN |
| `a [NOT] BETWEEN b AND c` | as `a >= b AND a <= c` | BOOLEAN |
| `a [NOT] LIKE 'pattern' [ESCAPE '!']` | a VARCHAR and a constant, at most 500 long; `%` spans lines | BOOLEAN |
| `AND`, `OR`, `NOT` | conditions, with three truths | BOOLEAN |
| `a + b`, `a - b`, `a * b`, `-a` | numbers; a whole number that overflows is NULL | their common type |
| `a / b` | numbers; NULL for a zero divisor | DOUBLE, or FLOAT of FLOATs |
| `a // b` | whole numbers, towards zero; NULL for a zero divisor | their common type |
| `a % b` | numbers; the sign is that of `a` (`-7 % 3` is -1); NULL for a zero divisor | their common type |
| `date + days`, `date - days` | a DATE and an INTEGER; NULL outside the calendar | DATE |
| `date - date` | two DATEs | BIGINT, the days between |
| `a \\|\\| b` | VARCHARs; NULL makes it NULL | VARCHAR |
| `CASE WHEN … THEN … ELSE … END`, `CASE a WHEN b THEN … END` | values of one type | that type |
| `CAST(a AS type)`, `TRY_CAST(…)`, `a::type` | as the table of types says; NULL where it does not fit | the type |
| `DATE 'YYYY-MM-DD'` | a constant | DATE |

## Functions

This list is closed.

| function | meaning | gives |
|---|---|---|"""

_TAIL = """\

`mask`, `hash` and `age_band` are civicbus's own. `hash` of a record key of one text field is the key that an inbox
of `key: hashed` has for that record."""


def text() -> str:
    """The manual, in Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    for kind, avro in _AVRO.items():
        yield f"| {kind} | {avro} | {', '.join(sorted(CASTABLE.get(kind, frozenset()))) or 'nothing else'} |"
    yield f"\n{_OPERATORS}"
    for function in FUNCTIONS.values():
        yield f"| `{function.usage}` | {function.meaning} | {function.gives} |"
    yield _TAIL
