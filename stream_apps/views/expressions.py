"""Compiles the typed expressions of a view to Polars, with DuckDB's meaning and never through SQL text.

Total: nothing that a row holds makes an expression raise. Where Polars agrees with DuckDB on plain values only, the
others are asked of DuckDB itself, and never reach Polars.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from itertools import compress
from operator import add, eq, ge, gt, le, lt, mul, ne, sub

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from civicbus.schemas.sql.nodes import Call, Expression, Field, Literal
from civicbus.schemas.sql.operators import MIRRORED
from civicbus.schemas.sql.types import BIGINT, Kind, Type
from civicbus.stream_apps.views.exact import asked

Compile = Callable[[Call, list[pl.Expr]], pl.Expr]

_DTYPES: dict[Kind, pl.DataType] = {
    Kind.NULL: pl.Null(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.INTEGER: pl.Int32(),
    Kind.BIGINT: pl.Int64(),
    Kind.FLOAT: pl.Float32(),
    Kind.DOUBLE: pl.Float64(),
    Kind.VARCHAR: pl.String(),
    Kind.BLOB: pl.Binary(),
    Kind.DATE: pl.Date(),
    Kind.TIME: pl.Time(),
}
# Constants of these kinds are kept as numbers.
_NUMBERED: dict[Kind, pl.DataType] = {
    Kind.DATE: pl.Int32(),
    Kind.TIMESTAMP: pl.Int64(),
    Kind.TIMESTAMPTZ: pl.Int64(),
}
_SEES_NULL = frozenset(
    {"and", "or", "in", "is null", "is distinct from", "is not distinct from", "case", "coalesce", "nullif", "concat"}
)
_EPOCH = date(1970, 1, 1)
_FIRST_DAY = (date(1, 1, 1) - _EPOCH).days
_LAST_DAY = (date(9999, 12, 31) - _EPOCH).days
_INFINITE_DAY = 2**31 - 1
# Every character of Unicode's class Zs, which is what DuckDB's trim means by a space.
_SPACES = " \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u202f\u205f\u3000"
# Scripts in which Polars and DuckDB agree on the case of every character: Latin without ß, Cyrillic, CJK.
_PLAIN_CASE = r"^[\x00-\x7F\u00A0-\u00DE\u00E0-\u00FF\u0400-\u045F\u2010-\u205E\u3000-\u9FFF\uFF00-\uFFEF]*$"
_FARTHEST_MILLIS = (2**63 - 1) // 1000
_REACH = (-(2**32), 2**32 - 1)


def dtype(kind: Type) -> pl.DataType:
    """The Polars type that holds this type."""
    match kind.kind:
        case Kind.DECIMAL:
            return pl.Decimal(kind.precision, kind.scale)
        case Kind.TIMESTAMP:
            return pl.Datetime("ms" if kind.millis else "us")
        case Kind.TIMESTAMPTZ:
            return pl.Datetime("ms" if kind.millis else "us", "UTC")
    return _DTYPES[kind.kind]


def compiled(expression: Expression, key: bytes | None = None) -> pl.Expr:
    """The Polars expression over a frame whose columns are named as :attr:`Field.column` says.

    ``key`` is the agreement's own, which ``hash`` needs.
    """
    return _compiled(folded(expression, key), key)


def folded(expression: Expression, key: bytes | None = None) -> Expression:
    """The expression with what reads no field evaluated, once and for all; what a NULL makes NULL is NULL."""
    if not isinstance(expression, Call):
        return expression
    call = replace(expression, arguments=tuple(folded(argument, key) for argument in expression.arguments))
    constants = [argument for argument in call.arguments if isinstance(argument, Literal)]
    if call.name not in _SEES_NULL and any(constant.value is None for constant in constants):
        return Literal(None, call.type)
    if len(constants) < len(call.arguments):
        return _turned(call)
    value = pl.select(_compiled(call, key)).to_series()
    return Literal(value.cast(_NUMBERED.get(call.type.kind, value.dtype)).to_list()[0], call.type)


def _turned(call: Call) -> Call:
    """A comparison with its constant on the right.

    On the left, Polars takes a column that is one value throughout for that one value, and breaks.
    """
    if call.name in MIRRORED and isinstance(call.arguments[0], Literal):
        return replace(call, name=MIRRORED[call.name], arguments=call.arguments[::-1])
    return call


def _compiled(expression: Expression, key: bytes | None) -> pl.Expr:
    return _weighed(expression, key)[0]


# These name an operand several times in what Polars is given, and Polars evaluates it as often.
_NAME_OFTEN = frozenset(
    {"/", "//", "%", "lower", "upper", "substring", "left", "right", "round", "mask", "age_band"}
    | {"date +", "date -", "year", "month", "day", "cast"}
)
_TIMES = 8
_HEAVY = _TIMES**2


def _weighed(expression: Expression, key: bytes | None) -> tuple[pl.Expr, int]:
    """The Polars expression, and how many evaluations of a column or a constant it takes at most."""
    match expression:
        case Field():
            return pl.col(expression.column), 1
        case Literal():
            return _literal(expression), 1
        case Call():
            weighed = [_weighed(argument, key) for argument in expression.arguments]
            operands, weights = [operand for operand, _ in weighed], [weight for _, weight in weighed]
            times = _TIMES if expression.name in _NAME_OFTEN else 1
            if times > 1 and max(weights) > _HEAVY:
                return _staged(expression, operands), sum(weights)
            return _called(expression, operands, key), times * sum(weights)


def _called(call: Call, operands: list[pl.Expr], key: bytes | None) -> pl.Expr:
    if call.name != "hash":
        return COMPILED[call.name](call, operands)
    if key is None:
        raise KeyError("hash needs the agreement's key")
    return operands[0].map_batches(_keyed(key), return_dtype=pl.String())


def _staged(call: Call, operands: Sequence[pl.Expr]) -> pl.Expr:
    """A call on operands that are evaluated before it, once, however often it names them."""
    read = [n for n, argument in enumerate(call.arguments) if not isinstance(argument, Literal)]
    inner = [pl.col(str(n)) if n in read else operand for n, operand in enumerate(operands)]
    result = COMPILED[call.name](call, inner).alias("")

    def evaluate(rows: pl.Series) -> pl.Series:
        return rows.struct.unnest().select_seq(result).to_series()

    sides = pl.struct(*(operands[n].alias(str(n)) for n in read))
    return sides.map_batches(evaluate, return_dtype=dtype(call.type))


def keyed_hash(key: bytes, text: bytes) -> str:
    """What ``hash`` gives, and what names a record in an inbox of ``key: hashed``: HMAC-SHA-256, hexadecimal."""
    return hmac.digest(key, text, "sha256").hex()


def _keyed(key: bytes) -> Callable[[pl.Series], pl.Series]:
    def evaluate(texts: pl.Series) -> pl.Series:
        hashes = [None if text is None else keyed_hash(key, text.encode()) for text in texts.to_list()]
        return pl.Series(hashes, dtype=pl.String())

    return evaluate


def _literal(literal: Literal) -> pl.Expr:
    target = dtype(literal.type)
    return pl.lit(literal.value, _NUMBERED.get(literal.type.kind, target)).cast(target)


def _exactly(call: Call, operands: Sequence[pl.Expr], wanted: pl.Expr) -> pl.Expr:
    named = [operand.alias(str(n)) for n, operand in enumerate(operands)]
    rows = pl.struct([*named, wanted.alias("wanted")])
    return rows.map_batches(asked(call, dtype(call.type)), return_dtype=dtype(call.type))


def _by_duckdb(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    return _exactly(call, operands, pl.lit(True))


def _of_moment(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    """DuckDB counts microseconds; milliseconds that it has no room for are NULL."""
    moment = operands[0]
    if call.arguments[0].type.millis:
        moment = pl.when(moment.cast(pl.Int64()).is_between(-_FARTHEST_MILLIS, _FARTHEST_MILLIS)).then(moment)
    return _by_duckdb(call, [moment])


def _where_plain(fast: Compile, plain: Callable[[pl.Expr], pl.Expr]) -> Compile:
    """``fast`` where every operand of the first one's type is plain (or NULL), DuckDB elsewhere.

    ``fast`` sees the others too: it may say anything of them, but must not break.
    """

    def evaluate(call: Call, operands: list[pl.Expr]) -> pl.Expr:
        judged = [argument.type == call.arguments[0].type for argument in call.arguments]
        odd = _all([plain(operand).fill_null(True) for operand in compress(operands, judged)]).not_()
        return pl.when(odd).then(_exactly(call, operands, odd)).otherwise(fast(call, operands))

    return evaluate


def _all(conditions: Sequence[pl.Expr]) -> pl.Expr:
    return _halved(conditions, lambda left, right: left & right)


def _halved(operands: Sequence[pl.Expr], join: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> pl.Expr:
    """Joins many operands in a tree of little depth."""
    if len(operands) == 1:
        return operands[0]
    middle = len(operands) // 2
    return join(_halved(operands[:middle], join), _halved(operands[middle:], join))


def _chain(join: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Compile:
    return lambda _, operands: _halved(operands, join)


def _pair(operation: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Compile:
    return lambda _, operands: operation(operands[0], operands[1])


def _in(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    value, listed = operands[0], call.arguments[1:]
    constants = [item.value for item in listed if isinstance(item, Literal) and item.value is not None]
    if len(constants) < len(listed) or call.arguments[0].type.kind not in (Kind.VARCHAR, Kind.INTEGER, Kind.BIGINT):
        # Polars wants a constant on the right; see _turned.
        pairs = [(item, value) if isinstance(call.arguments[0], Literal) else (value, item) for item in operands[1:]]
        return _halved([left == right for left, right in pairs], lambda left, right: left | right)
    return value.is_in(pl.lit(pl.Series(constants, dtype=dtype(call.arguments[0].type))).implode())


def _case(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    chosen = operands[-1]
    for condition, value in reversed(list(zip(operands[:-1:2], operands[1::2], strict=True))):
        chosen = pl.when(condition).then(value).otherwise(chosen)
    return chosen


def _wide(kind: Type) -> pl.DataType:
    return pl.Int128() if kind == BIGINT else pl.Int64()


def _checked(whole: Callable[[pl.Expr, pl.Expr], pl.Expr], real: Callable[[pa.Array, pa.Array], pa.Array]) -> Compile:
    """Whole numbers in a wider type, NULL where the result does not come back; floats by Arrow."""

    def evaluate(call: Call, operands: list[pl.Expr]) -> pl.Expr:
        if call.type.is_float:
            return _by_arrow(real, operands[0], operands[1], dtype(call.type))
        left, right = (operand.cast(_wide(call.type)) for operand in operands)
        return whole(left, right).cast(dtype(call.type), strict=False)

    return evaluate


def _divided(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    return _over(operands[0], operands[1], dtype(call.type))


def _over(left: pl.Expr, right: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Division, NULL for a divisor of zero."""
    return _by_arrow(pc.divide, left, pl.when(right != 0).then(right), kind)


def _by_arrow(
    operation: Callable[[pa.Array, pa.Array], pa.Array], left: pl.Expr, right: pl.Expr, kind: pl.DataType
) -> pl.Expr:
    """Arithmetic of floats, as the processor does it.

    Polars takes short cuts where one side is one number: it multiplies by the reciprocal, which rounds twice, and
    leaves -0.0 + 0.0 as it is.
    """

    def evaluate(sides: pl.Series) -> pl.Series:
        return pl.Series(operation(*(sides.struct.field(name).to_arrow() for name in ("left", "right"))))

    return pl.struct(left.alias("left"), right.alias("right")).map_batches(evaluate, return_dtype=kind)


def _quotient(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    """Towards zero; NULL for a divisor of zero and where the quotient overflows."""
    left, right = (operand.cast(_wide(call.type)) for operand in operands)
    divisor = pl.when(right != 0).then(right)
    floor = left // divisor
    upwards = (floor * divisor != left) & ((left < 0) ^ (divisor < 0))
    return (floor + upwards.cast(_wide(call.type))).cast(dtype(call.type), strict=False)


def _remainder(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    if call.type.is_float:
        return _by_duckdb(call, operands)
    left, right = (operand.cast(_wide(call.type)) for operand in operands)
    quotient = _quotient(call, operands).cast(_wide(call.type))
    return (left - quotient * right).cast(dtype(call.type), strict=False)


def _negated(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    if call.type.is_float:
        return -operands[0]
    return (pl.lit(0, _wide(call.type)) - operands[0].cast(_wide(call.type))).cast(dtype(call.type), strict=False)


def _absolute(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    if call.type.is_float:
        return operands[0].abs()
    return operands[0].cast(_wide(call.type)).abs().cast(dtype(call.type), strict=False)


def _moved(sign: int) -> Compile:
    def evaluate(_: Call, operands: list[pl.Expr]) -> pl.Expr:
        day = operands[0].cast(pl.Int32()).cast(pl.Int64())
        moved = day + sign * operands[1].cast(pl.Int64())
        finite = moved.is_between(-(2**31), 2**31 - 1) & (moved.abs() != _INFINITE_DAY)
        stays = (day.abs() == _INFINITE_DAY) & operands[1].is_not_null()
        return pl.when(stays).then(day).when(finite).then(moved).cast(pl.Int32()).cast(pl.Date())

    return evaluate


def _days_between(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    left, right = (operand.cast(pl.Int32()).cast(pl.Int64()) for operand in operands)
    return left - right


def _like(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    pattern, *escape = (str(constant(argument)) for argument in call.arguments[1:])
    return operands[0].str.contains(like_regex(pattern, escape[0] if escape else ""))


def like_regex(pattern: str, escape: str) -> str:
    """The regular expression that matches what a LIKE pattern does: across lines, case by case."""
    parts: list[str] = []
    letters = iter(pattern)
    for letter in letters:
        if escape and letter == escape:
            parts.append(re.escape(next(letters)))
        else:
            parts.append({"%": ".*", "_": "."}.get(letter) or re.escape(letter))
    return f"(?s)^{''.join(parts)}$"


def _trimmed(strip: Callable[[pl.Expr, str], pl.Expr]) -> Compile:
    def evaluate(call: Call, operands: list[pl.Expr]) -> pl.Expr:
        characters = _SPACES if len(operands) == 1 else str(constant(call.arguments[1]))
        return strip(operands[0], characters) if characters else operands[0]

    return evaluate


def _length(text: pl.Expr) -> pl.Expr:
    return text.str.len_chars().cast(pl.Int64())


def _substring(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    text, start, length = operands if len(operands) == 3 else (*operands, pl.lit(_REACH[1], pl.Int64()))
    # Position 0 is the one before the first.
    first = pl.when(start < 0).then(_length(text) + start).otherwise(start - 1)
    end = first + length
    low, high = pl.min_horizontal(first, end).clip(0), pl.max_horizontal(first, end)
    reachable = start.is_between(*_REACH) & length.is_between(*_REACH)
    return pl.when(reachable).then(text.str.slice(low, (high - low).clip(0).cast(pl.UInt64(), strict=False)))


def _left(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    text, count = operands
    dropped = (_length(text) + count.clip(_REACH[0])).clip(0)
    kept = pl.when(count < 0).then(dropped).when(count <= _REACH[1]).then(count)
    return pl.when(kept.is_not_null()).then(text.str.slice(0, kept.cast(pl.UInt64())))


def _right(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    text, count = operands[0], operands[1].clip(*_REACH)
    return text.str.slice(pl.when(count >= 0).then((_length(text) - count).clip(0)).otherwise(-count))


def _replaced(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    old, new = call.arguments[1:]
    if not isinstance(old, Literal) or not isinstance(new, Literal):
        return _by_duckdb(call, operands)
    if old.value == "":
        return operands[0]
    return operands[0].str.replace_all(str(constant(old)), str(constant(new)), literal=True)


def _rounded(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    digits = int(constant(call.arguments[1]))
    number, power = operands[0], float(10 ** abs(digits))
    if digits == 0:
        return _nearest(number)
    divisor, kind = pl.lit(power, pl.Float64()), pl.Float64()
    if digits > 0:
        rounded = _over(_nearest(number * power), divisor, kind)
    else:
        rounded = _nearest(_over(number, divisor, kind)) * power
    return pl.when(rounded.is_finite()).then(rounded).otherwise(number)


def _nearest(number: pl.Expr) -> pl.Expr:
    return number.round(0, mode="half_away_from_zero")


def is_plain_day(day: pl.Expr) -> pl.Expr:
    """Whether a date lies in the years 1 to 9999, as every date in a row does."""
    return day.cast(pl.Int32()).is_between(_FIRST_DAY, _LAST_DAY)


def _mask(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    text, (keep_start, keep_end) = operands[0], (int(constant(a)) for a in call.arguments[1:])
    length = _length(text)
    whole = pl.lit("").str.pad_end(length, "*")
    if keep_start + keep_end == 0:
        return whole
    middle = text.str.slice(0, keep_start).str.pad_end((length - keep_end).clip(0), "*")
    parts = middle + text.str.slice((length - keep_end).clip(0)) if keep_end else middle
    return pl.when(length > keep_start + keep_end).then(parts).otherwise(whole)


def _age_band(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    born, day = operands[0].dt, operands[1].dt
    birthday_to_come = (_within_year(operands[1]) - _within_year(operands[0])) < 0
    width = int(constant(call.arguments[2]))
    age = day.year() - born.year() - birthday_to_come.cast(pl.Int32())
    low = (age // width) * width
    return pl.when(age >= 0).then(
        pl.concat_str([low.cast(pl.String()), pl.lit("-"), (low + width - 1).cast(pl.String())])
    )


def _within_year(day: pl.Expr) -> pl.Expr:
    return day.dt.month().cast(pl.Int32()) * 100 + day.dt.day()


def _cast(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    source, target = call.arguments[0].type, call.type
    special = _CASTS.get((source.kind, target.kind))
    return operands[0].cast(dtype(target), strict=False) if special is None else special(call, operands)


def _truth(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    return operands[0] != 0


def _whole(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    return operands[0].cast(pl.Float64()).round(0, mode="half_to_even").cast(dtype(call.type), strict=False)


def _narrowed(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    number = operands[0].cast(pl.Float32(), strict=False)
    return pl.when(number.is_infinite() & operands[0].is_finite()).then(None).otherwise(number)


def _day_text(_: Call, operands: list[pl.Expr]) -> pl.Expr:
    # Polars breaks on the others.
    return pl.when(is_plain_day(operands[0])).then(operands[0]).dt.to_string("%Y-%m-%d")


def _like_a_number(text: pl.Expr) -> pl.Expr:
    return text.str.contains(r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$")


def _like_whole(text: pl.Expr) -> pl.Expr:
    return text.str.contains("^-?[0-9]{1,18}$")


def _like_a_date(text: pl.Expr) -> pl.Expr:
    return text.str.contains("^[0-9]{4}-[0-9]{2}-[0-9]{2}$") & text.str.starts_with("0000").not_()


def _parsed_whole(call: Call, operands: list[pl.Expr]) -> pl.Expr:
    return operands[0].cast(pl.Int64(), strict=False).cast(dtype(call.type), strict=False)


_PARSED_WHOLE = _where_plain(_parsed_whole, _like_whole)
_WHOLE = dict.fromkeys(
    ((real, whole) for real in (Kind.FLOAT, Kind.DOUBLE) for whole in (Kind.INTEGER, Kind.BIGINT)), _whole
)
_CASTS: dict[tuple[Kind, Kind], Compile] = {
    **_WHOLE,
    **dict.fromkeys(((kind, Kind.BOOLEAN) for kind in (Kind.INTEGER, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE)), _truth),
    **dict.fromkeys(((kind, Kind.VARCHAR) for kind in (Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL)), _by_duckdb),
    **dict.fromkeys(((Kind.DECIMAL, kind) for kind in (Kind.INTEGER, Kind.BIGINT, Kind.DOUBLE)), _by_duckdb),
    **dict.fromkeys(
        ((kind, to) for kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ) for to in (Kind.DATE, Kind.VARCHAR)), _of_moment
    ),
    (Kind.DOUBLE, Kind.FLOAT): _narrowed,
    (Kind.DATE, Kind.VARCHAR): _where_plain(_day_text, is_plain_day),
    (Kind.VARCHAR, Kind.BOOLEAN): _by_duckdb,
    (Kind.VARCHAR, Kind.INTEGER): _PARSED_WHOLE,
    (Kind.VARCHAR, Kind.BIGINT): _PARSED_WHOLE,
    (Kind.VARCHAR, Kind.FLOAT): _by_duckdb,
    (Kind.VARCHAR, Kind.DOUBLE): _where_plain(
        lambda _, operands: operands[0].cast(pl.Float64(), strict=False), _like_a_number
    ),
    (Kind.VARCHAR, Kind.DATE): _where_plain(
        lambda _, operands: operands[0].str.to_date("%Y-%m-%d", strict=False), _like_a_date
    ),
}


def constant(expression: Expression) -> str | int:
    """The value of an operand that the check takes only as a constant, and not NULL."""
    assert isinstance(expression, Literal)  # noqa: S101
    assert isinstance(expression.value, str | int)  # noqa: S101
    return expression.value


def _day_part(part: Callable[[pl.Expr], pl.Expr]) -> Compile:
    return _where_plain(lambda _, operands: part(operands[0]).cast(pl.Int64()), is_plain_day)


def _plain_case(text: pl.Expr) -> pl.Expr:
    return text.str.contains(_PLAIN_CASE)


COMPILED: dict[str, Compile] = {
    "=": _pair(eq),
    "<>": _pair(ne),
    "<": _pair(lt),
    "<=": _pair(le),
    ">": _pair(gt),
    ">=": _pair(ge),
    "is distinct from": _pair(lambda left, right: left.ne_missing(right)),
    "is not distinct from": _pair(lambda left, right: left.eq_missing(right)),
    "and": _chain(lambda left, right: left & right),
    "or": _chain(lambda left, right: left | right),
    "not": lambda _, operands: operands[0].not_(),
    "in": _in,
    "is null": lambda _, operands: operands[0].is_null(),
    "like": _like,
    "case": _case,
    "cast": _cast,
    "coalesce": lambda _, operands: pl.coalesce(operands),
    "nullif": lambda _, operands: pl.when(operands[1]).then(None).otherwise(operands[0]),
    "+": _checked(add, pc.add),
    "-": _checked(sub, pc.subtract),
    "*": _checked(mul, pc.multiply),
    "/": _divided,
    "//": _quotient,
    "%": _remainder,
    "neg": _negated,
    "date +": _moved(1),
    "date -": _moved(-1),
    "days between": _days_between,
    "||": lambda _, operands: pl.concat_str(operands),
    "lower": _where_plain(lambda _, operands: operands[0].str.to_lowercase(), _plain_case),
    "upper": _where_plain(lambda _, operands: operands[0].str.to_uppercase(), _plain_case),
    "trim": _trimmed(lambda text, characters: text.str.strip_chars(characters)),
    "ltrim": _trimmed(lambda text, characters: text.str.strip_chars_start(characters)),
    "rtrim": _trimmed(lambda text, characters: text.str.strip_chars_end(characters)),
    "length": lambda _, operands: _length(operands[0]),
    "substring": _substring,
    "left": _left,
    "right": _right,
    "concat": lambda _, operands: pl.concat_str(operands, ignore_nulls=True),
    "replace": _replaced,
    "starts_with": _pair(lambda text, other: text.str.starts_with(other)),
    "ends_with": _pair(lambda text, other: text.str.ends_with(other)),
    "contains": _pair(lambda text, other: text.str.contains(other, literal=True)),
    "abs": _absolute,
    "round": _rounded,
    "floor": lambda _, operands: operands[0].floor(),
    "ceil": lambda _, operands: operands[0].ceil(),
    "year": _day_part(lambda day: day.dt.year()),
    "month": _day_part(lambda day: day.dt.month()),
    "day": _day_part(lambda day: day.dt.day()),
    "mask": _mask,
    "age_band": _where_plain(_age_band, is_plain_day),
}
