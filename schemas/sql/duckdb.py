"""Writes a typed expression, or a whole view, as the SQL of DuckDB: the law of what it means.

DuckDB raises where a view says NULL (overflow, a CAST that does not fit), so such calls stand in TRY; division by
zero is NULL by :data:`SETTINGS`. Used to prove our evaluation right, and for the rare values that it leaves to
DuckDB itself.
"""

from __future__ import annotations

import atexit
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import duckdb

from civicbus.schemas.sql.nodes import Call, Expression, Field, Literal
from civicbus.schemas.sql.types import DATE, INTEGER, VARCHAR, Kind, Type

Columns = Callable[[Field], str]
Writer = Callable[[Call, list[str]], str]

SETTINGS = (
    "SET ieee_floating_point_ops = false",
    "SET error_on_division_by_zero = false",
    "SET TimeZone = 'UTC'",
)
_BLOCK = hashlib.sha256().block_size


@dataclass(frozen=True, slots=True)
class SyntaxFault:
    """What DuckDB's own parser says against a text, and at which character of it."""

    words: str
    offset: int


def syntax_fault(text: str) -> SyntaxFault | None:
    """Why DuckDB does not read a text; None where it does."""
    try:
        _parser().extract_statements(text)
    except duckdb.ParserException as error:
        said = json.loads(str(error).partition(": ")[2])
        before = text.encode(errors="replace")[: int(said.get("position", 0))]
        return SyntaxFault(said["exception_message"], len(before.decode(errors="ignore")))
    return None


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    # Left to the interpreter's end, DuckDB's binding reports it as leaked.
    atexit.register(_parser.cache_clear)
    return duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False, "errors_as_json": True})


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def expression_sql(expression: Expression, columns: Columns, key: bytes = b"") -> str:
    """The SQL of an expression; ``columns`` says how a field is named, ``key`` is the agreement's for hash."""
    match expression:
        case Field():
            return columns(expression)
        case Literal():
            return _literal(expression)
        case Call(name="hash"):
            return _keyed_hash(expression_sql(expression.arguments[0], columns, key), key)
        case Call():
            operands = [expression_sql(argument, columns, key) for argument in expression.arguments]
            return _WRITERS.get(expression.name, _function)(expression, operands)


def type_sql(kind: Type) -> str:
    return str(kind)


def _literal(literal: Literal) -> str:
    value = literal.value
    if value is None:
        return "NULL" if literal.type.kind is Kind.NULL else f"CAST(NULL AS {type_sql(literal.type)})"
    match literal.type.kind:
        case Kind.VARCHAR:
            return _text(str(value))
        case Kind.BOOLEAN:
            return "true" if value else "false"
        case Kind.DATE:
            return f"(DATE '1970-01-01' + {value})"
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            moment = timedelta(milliseconds=int(value)) if literal.type.millis else timedelta(microseconds=int(value))
            micros = moment // timedelta(microseconds=1)
            return f"CAST(make_timestamp({micros}) AS {type_sql(literal.type)})"
    return f"CAST({_text(str(value))} AS {type_sql(literal.type)})"


def _text(value: str) -> str:
    parts = ["'" + part.replace("'", "''") + "'" for part in value.split("\0")]
    return parts[0] if len(parts) == 1 else "(" + " || chr(0) || ".join(parts) + ")"


def _function(call: Call, operands: list[str]) -> str:
    return f"{call.name}({', '.join(operands)})"


def _tried(call: Call, operands: list[str]) -> str:
    return f"TRY({_function(call, operands)})"


def _infix(call: Call, operands: list[str]) -> str:
    return "(" + f" {call.name} ".join(operands) + ")"


def _tried_infix(call: Call, operands: list[str]) -> str:
    return f"TRY({_infix(call, operands)})"


def _case(_: Call, operands: list[str]) -> str:
    whens = " ".join(f"WHEN {w} THEN {t}" for w, t in zip(operands[:-1:2], operands[1::2], strict=True))
    return f"CASE {whens} ELSE {operands[-1]} END"


def _mask(_: Call, operands: list[str]) -> str:
    text, start, end = operands
    short = f"length({text}) <= {start} + {end}"
    kept = f"left({text}, {start}) || repeat('*', length({text}) - {start} - {end}) || right({text}, {end})"
    return f"CASE WHEN {short} THEN repeat('*', length({text})) ELSE {kept} END"


def _age_band(_: Call, operands: list[str]) -> str:
    born, day, width = operands
    birthday_to_come = f"(month({day}), day({day})) < (month({born}), day({born}))"
    age = f"(year({day}) - year({born}) - CASE WHEN {birthday_to_come} THEN 1 ELSE 0 END)"
    low = f"({age} // {width} * {width})"
    return f"CASE WHEN {age} >= 0 THEN CAST({low} AS VARCHAR) || '-' || CAST({low} + {width} - 1 AS VARCHAR) END"


def _keyed_hash(text: str, key: bytes) -> str:
    """HMAC-SHA-256 (RFC 2104) from DuckDB's SHA-256."""
    padded = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inner, outer = (_blob(bytes(byte ^ pad for byte in padded)) for pad in (0x36, 0x5C))
    return f"sha256({outer} || unhex(sha256({inner} || encode({text}))))"


def _blob(value: bytes) -> str:
    return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"


_WRITERS: dict[str, Writer] = {
    **dict.fromkeys(("and", "or", "=", "<>", "<", "<=", ">", ">=", "||"), _infix),
    **dict.fromkeys(("is distinct from", "is not distinct from"), _infix),
    **dict.fromkeys(("+", "-", "*", "/", "//", "%"), _tried_infix),
    **dict.fromkeys(("abs", "substring", "left"), _tried),
    "date +": lambda _, operands: f"TRY({operands[0]} + {operands[1]})",
    "date -": lambda _, operands: f"TRY({operands[0]} - {operands[1]})",
    "days between": lambda _, operands: f"({operands[0]} - {operands[1]})",
    "neg": lambda _, operands: f"TRY(-{operands[0]})",
    "not": lambda _, operands: f"(NOT {operands[0]})",
    "in": lambda _, operands: f"({operands[0]} IN ({', '.join(operands[1:])}))",
    "like": lambda _, operands: f"({operands[0]} LIKE {' ESCAPE '.join(operands[1:])})",
    "is null": lambda _, operands: f"({operands[0]} IS NULL)",
    "cast": lambda call, operands: f"TRY_CAST({operands[0]} AS {type_sql(call.type)})",
    "case": _case,
    "nullif": lambda _, operands: f"CASE WHEN {operands[1]} THEN NULL ELSE {operands[0]} END",
    "mask": _mask,
    "age_band": _age_band,
}


def own_functions(key: bytes) -> tuple[str, ...]:
    """Statements that teach DuckDB civicbus's own functions, so that it runs an agreement's SELECT as it is written."""
    text, day, other = Field("", "a", VARCHAR, True), Field("", "a", DATE, True), Field("", "b", DATE, True)
    width, start, end = (Field("", name, INTEGER, False) for name in ("c", "b", "c"))
    bodies = {
        "mask(a, b := 0, c := 0)": Call("mask", (text, start, end), VARCHAR, True),
        "age_band(a, b, c)": Call("age_band", (day, other, width), VARCHAR, True),
        "hash(a)": Call("hash", (text,), VARCHAR, True),
    }
    return tuple(
        f"CREATE OR REPLACE MACRO {head} AS {expression_sql(body, _parameter, key)}" for head, body in bodies.items()
    )


def _parameter(field: Field) -> str:
    return f"CAST({field.name} AS {type_sql(field.type)})"
