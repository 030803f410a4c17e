"""The closed list of functions: what each takes, gives and means.

A function is here only where our evaluation equals DuckDB's on every value; a property test holds each to it.
``docs/view-language.md`` is made from this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from civicbus.schemas.sql.coercion import Misfit, converted, fits
from civicbus.schemas.sql.nodes import Call, Expression, Literal
from civicbus.schemas.sql.operators import Resolver, any_nullable, coalesce, nullif
from civicbus.schemas.sql.types import BIGINT, BOOLEAN, DATE, DOUBLE, FLOAT, INTEGER, VARCHAR, Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One operand of a function. ``constant``: a literal; with a ``default`` it may be left out."""

    name: str
    type: Type
    constant: bool = False
    optional: bool = False
    default: Expression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """One way to call a function. ``partial``: it may give NULL though no operand is."""

    parameters: tuple[Parameter, ...]
    gives: Type
    partial: bool = False
    repeats: bool = False

    def takes(self, arguments: Sequence[Expression]) -> bool:
        required = [p for p in self.parameters if not p.optional]
        if len(arguments) < len(required) or (len(arguments) > len(self.parameters) and not self.repeats):
            return False
        return all(
            fits(argument, parameter.type) and (not parameter.constant or isinstance(argument, Literal))
            for parameter, argument in zip(self._for(arguments), arguments, strict=False)
        )

    def call(self, name: str, arguments: Sequence[Expression]) -> Call:
        given = [converted(a, p.type) for p, a in zip(self._for(arguments), arguments, strict=False)]
        defaults = [p.default for p in self.parameters[len(given) :] if p.default is not None]
        return Call(name, (*given, *defaults), self.gives, self.partial or any_nullable(given))

    def _for(self, arguments: Sequence[Expression]) -> list[Parameter]:
        more = len(arguments) - len(self.parameters)
        return [*self.parameters, *[self.parameters[-1]] * more]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function of the list. ``usage``, ``gives`` and ``meaning`` are what the documentation says of it."""

    name: str
    usage: str
    meaning: str
    gives: str
    overloads: tuple[Overload, ...] = ()
    resolver: Resolver | None = None

    def resolve(self, arguments: Sequence[Expression]) -> Expression:
        """The call of this function on these operands; raises Misfit where it does not take them."""
        if self.resolver is not None:
            return self.resolver(self.name, arguments)
        for overload in self.overloads:
            if overload.takes(arguments):
                return overload.call(self.name, arguments)
        raise refused(self.name, arguments, self.usage)


def refused(name: str, arguments: Sequence[Expression], usage: str) -> Misfit:
    """A function does not take these operands."""
    given = ", ".join(str(argument.type) for argument in arguments)
    return Misfit(f"{name} does not take ({given})", f"write {usage}")


_TEXT = Parameter(name="text", type=VARCHAR)
_OTHER = Parameter(name="other", type=VARCHAR)
_CHARACTERS = Parameter(name="characters", type=VARCHAR, constant=True, optional=True)
_COUNT = Parameter(name="count", type=BIGINT)
_START = Parameter(name="start", type=BIGINT)
_LENGTH = Parameter(name="length", type=BIGINT, optional=True)
_DAY = Parameter(name="date", type=DATE)
_ZERO = Literal(0, INTEGER)


def _number(kind: Type) -> Parameter:
    return Parameter(name="number", type=kind)


def _kept(name: str) -> Parameter:
    return Parameter(name=name, type=INTEGER, constant=True, optional=True, default=_ZERO)


def _texts(*parameters: Parameter, gives: Type = VARCHAR) -> tuple[Overload, ...]:
    return (Overload(parameters=parameters, gives=gives),)


def _reaching(usage: str, *parameters: Parameter) -> Resolver:
    """Positions beyond 2^32 raise in DuckDB and are NULL here; an INTEGER cannot get there."""
    overload = Overload(parameters=(_TEXT, *parameters), gives=VARCHAR)

    def resolve(name: str, arguments: Sequence[Expression]) -> Expression:
        if not overload.takes(arguments):
            raise refused(name, arguments, usage)
        beyond = any(argument.type == BIGINT for argument in arguments[1:])
        return replace(overload, partial=beyond).call(name, arguments)

    return resolve


def _mask(_: str, arguments: Sequence[Expression]) -> Expression:
    overload = Overload(parameters=(_TEXT, _kept("keep_start"), _kept("keep_end")), gives=VARCHAR)
    kept = [argument.value for argument in arguments[1:] if isinstance(argument, Literal)]
    if overload.takes(arguments) and all(isinstance(value, int) and value >= 0 for value in kept):
        return overload.call("mask", arguments)
    raise refused("mask", arguments, "mask(text) or mask(text, 3, 4), with constants from 0")


def _age_band(_: str, arguments: Sequence[Expression]) -> Expression:
    width = Parameter(name="width", type=INTEGER, constant=True)
    overload = Overload(parameters=(_DAY, _DAY, width), gives=VARCHAR, partial=True)
    if overload.takes(arguments) and isinstance(arguments[2], Literal) and arguments[2].value in range(1, 151):
        return overload.call("age_band", arguments)
    raise refused("age_band", arguments, "age_band(birth, DATE '2026-01-01', 10), width 1 to 150")


_LIST = (
    Function(
        name="lower",
        usage="lower(text)",
        gives="VARCHAR",
        meaning="Lower case, one character for one character.",
        overloads=_texts(_TEXT),
    ),
    Function(
        name="upper",
        usage="upper(text)",
        gives="VARCHAR",
        meaning="Upper case, one character for one character: `upper('ß')` is `ẞ`.",
        overloads=_texts(_TEXT),
    ),
    Function(
        name="trim",
        usage="trim(text [, characters])",
        gives="VARCHAR",
        meaning="Without leading and trailing spaces of any script (not tabs or line ends), or these characters.",
        overloads=_texts(_TEXT, _CHARACTERS),
    ),
    Function(
        name="ltrim",
        usage="ltrim(text [, characters])",
        gives="VARCHAR",
        meaning="As `trim`, leading ones only.",
        overloads=_texts(_TEXT, _CHARACTERS),
    ),
    Function(
        name="rtrim",
        usage="rtrim(text [, characters])",
        gives="VARCHAR",
        meaning="As `trim`, trailing ones only.",
        overloads=_texts(_TEXT, _CHARACTERS),
    ),
    Function(
        name="length",
        usage="length(text)",
        gives="BIGINT",
        meaning="The number of characters (Unicode code points).",
        overloads=_texts(_TEXT, gives=BIGINT),
    ),
    Function(
        name="substring",
        usage="substring(text, start [, length])",
        gives="VARCHAR",
        meaning="From character `start`, counted from 1, or from the end where it is negative; "
        "a negative length goes backwards.",
        resolver=_reaching("substring(text, start, length)", _START, _LENGTH),
    ),
    Function(
        name="left",
        usage="left(text, count)",
        gives="VARCHAR",
        meaning="The first `count` characters; all but the last ones where it is negative.",
        resolver=_reaching("left(text, count)", _COUNT),
    ),
    Function(
        name="right",
        usage="right(text, count)",
        gives="VARCHAR",
        meaning="The last `count` characters; all but the first ones where it is negative.",
        overloads=_texts(_TEXT, _COUNT),
    ),
    Function(
        name="concat",
        usage="concat(text, …)",
        gives="VARCHAR",
        meaning="The texts in a row; NULL counts as empty (with `||` it makes the whole NULL).",
        resolver=lambda _, arguments: _concat(arguments),
    ),
    Function(
        name="replace",
        usage="replace(text, from, to)",
        gives="VARCHAR",
        meaning="Every `from` replaced by `to`; an empty `from` replaces nothing.",
        overloads=_texts(_TEXT, _OTHER, _OTHER),
    ),
    Function(
        name="starts_with",
        usage="starts_with(text, other)",
        gives="BOOLEAN",
        meaning="Whether the text begins with the other.",
        overloads=_texts(_TEXT, _OTHER, gives=BOOLEAN),
    ),
    Function(
        name="ends_with",
        usage="ends_with(text, other)",
        gives="BOOLEAN",
        meaning="Whether the text ends with the other.",
        overloads=_texts(_TEXT, _OTHER, gives=BOOLEAN),
    ),
    Function(
        name="contains",
        usage="contains(text, other)",
        gives="BOOLEAN",
        meaning="Whether the other stands in the text.",
        overloads=_texts(_TEXT, _OTHER, gives=BOOLEAN),
    ),
    Function(
        name="coalesce",
        usage="coalesce(value, …)",
        gives="their type",
        meaning="The first value that is not NULL; all of one type.",
        resolver=coalesce,
    ),
    Function(
        name="nullif",
        usage="nullif(value, other)",
        gives="the value's type",
        meaning="The value, or NULL where it equals the other.",
        resolver=nullif,
    ),
    Function(
        name="abs",
        usage="abs(number)",
        gives="the number's type",
        meaning="Without its sign; NULL where that overflows.",
        overloads=(
            *(Overload(parameters=(_number(kind),), gives=kind, partial=True) for kind in (INTEGER, BIGINT)),
            *(Overload(parameters=(_number(kind),), gives=kind) for kind in (FLOAT, DOUBLE)),
        ),
    ),
    Function(
        name="round",
        usage="round(number [, digits])",
        gives="DOUBLE",
        meaning="Rounded half away from zero, to a constant number of digits from -15 to 15.",
        resolver=lambda _, arguments: _round(arguments),
    ),
    Function(
        name="floor",
        usage="floor(number)",
        gives="the number's type",
        meaning="The next whole number below a DOUBLE or FLOAT.",
        overloads=tuple(Overload(parameters=(_number(kind),), gives=kind) for kind in (FLOAT, DOUBLE)),
    ),
    Function(
        name="ceil",
        usage="ceil(number)",
        gives="the number's type",
        meaning="The next whole number above a DOUBLE or FLOAT.",
        overloads=tuple(Overload(parameters=(_number(kind),), gives=kind) for kind in (FLOAT, DOUBLE)),
    ),
    *(
        Function(
            name=name,
            usage=f"{name}(date)",
            gives="BIGINT",
            meaning=f"The {name} of a date; NULL for an infinite date.",
            overloads=(Overload(parameters=(_DAY,), gives=BIGINT, partial=True),),
        )
        for name in ("year", "month", "day")
    ),
    Function(
        name="mask",
        usage="mask(text [, keep_start [, keep_end]])",
        gives="VARCHAR",
        meaning="Every character replaced by `*`, except the first `keep_start` and the last `keep_end` (both 0 "
        "unless given); a text not longer than both together is masked whole.",
        resolver=_mask,
    ),
    Function(
        name="hash",
        usage="hash(text)",
        gives="VARCHAR",
        meaning="HMAC-SHA-256 of the text's UTF-8 under the agreement's own key, in hexadecimal: equal texts give "
        "equal hashes within one agreement, and tell nothing across agreements.",
        overloads=_texts(_TEXT),
    ),
    Function(
        name="age_band",
        usage="age_band(date, as_of, width)",
        gives="VARCHAR",
        meaning="The band of `width` years in which the age on the day `as_of` lies, such as `30-39`; NULL before "
        "the date.",
        resolver=_age_band,
    ),
)


def _concat(arguments: Sequence[Expression]) -> Expression:
    overload = Overload(parameters=(_TEXT,), gives=VARCHAR, repeats=True)
    if not overload.takes(arguments):
        raise refused("concat", arguments, "concat(text, …), with CAST(… AS VARCHAR) where needed")
    call = overload.call("concat", arguments)
    return Call(call.name, call.arguments, call.type, False)


def _round(arguments: Sequence[Expression]) -> Expression:
    digits = Parameter(name="digits", type=INTEGER, constant=True, optional=True, default=_ZERO)
    overload = Overload(parameters=(_number(DOUBLE), digits), gives=DOUBLE)
    wanted = arguments[1] if len(arguments) > 1 else _ZERO
    is_real = bool(arguments) and not arguments[0].type.is_integer and arguments[0].type != FLOAT
    if is_real and overload.takes(arguments) and isinstance(wanted, Literal) and wanted.value in range(-15, 16):
        return overload.call("round", arguments)
    raise refused("round", arguments, "round(number, 2) on a DOUBLE; CAST other numbers to DOUBLE")


FUNCTIONS: dict[str, Function] = {function.name: function for function in _LIST}

CLOCK_AND_CHANCE = frozenset(
    {
        *("now", "today", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"),
        *("get_current_timestamp", "get_current_time", "transaction_timestamp", "age", "current_localtimestamp"),
        *("random", "setseed", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "nextval", "currval"),
    }
)
AGGREGATES = frozenset(
    {
        *("count", "sum", "avg", "mean", "min", "max", "median", "mode", "first", "last", "any_value", "arg_max"),
        *("arg_min", "string_agg", "group_concat", "listagg", "array_agg", "list", "stddev", "variance", "quantile"),
        *("bool_and", "bool_or", "approx_count_distinct", "product", "histogram", "count_star", "min_by", "max_by"),
    }
)
SYNONYMS = {
    **dict.fromkeys(("substr", "mid", "array_slice"), "substring"),
    **dict.fromkeys(("len", "char_length", "character_length", "strlen"), "length"),
    **dict.fromkeys(("lcase",), "lower"),
    **dict.fromkeys(("ucase", "initcap"), "upper"),
    **dict.fromkeys(("prefix", "startswith"), "starts_with"),
    **dict.fromkeys(("suffix", "endswith"), "ends_with"),
    **dict.fromkeys(("ceiling",), "ceil"),
    **dict.fromkeys(("ifnull", "nvl", "isnull"), "coalesce"),
    **dict.fromkeys(("instr", "strpos", "position", "regexp_matches"), "contains"),
    **dict.fromkeys(("md5", "sha256", "sha1"), "hash"),
    **dict.fromkeys(("if", "iff", "iif", "decode"), "CASE WHEN … THEN … ELSE … END"),
    **dict.fromkeys(("date_part", "datepart", "extract"), "year, month or day"),
    **dict.fromkeys(("date_add", "date_sub", "dateadd", "date_diff", "datediff"), "date + days, or date - date"),
    **dict.fromkeys(("to_date", "strptime", "date"), "CAST(… AS DATE)"),
    **dict.fromkeys(("concat_ws",), "concat"),
}
