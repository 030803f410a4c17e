"""Drafts a catalogue entry from the columns of a file, and says what it assumed. Pure: a frame of texts in, text out.

A draft is for a person to finish: digits that name something stay text, nothing but presence becomes a rule, and
the key is never chosen without being told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from civicbus.errors import ConfigurationError
from civicbus.names import NAME, DatasetId
from civicbus.schemas.codec.tree import CARRIERS, Json, Kind, Logical
from civicbus.schemas.datasets import Classification

# Digits in such columns name or locate something; arithmetic on them has no meaning, and zeros in front count.
_NAMING = re.compile(
    r"(^|_)(id|no|nr|num|number|code|zip|zipcode|zip_code|postcode|phone|mobile|tel|fax|account|ward|district|area|"
    r"region|precinct|lei|ref|reference|serial|card|licen[cs]e|permit)$|号|编码|代码|电话|手机|邮编|区划|证件"
)
_PERSONAL = re.compile(
    r"(^|_)(phone|mobile|tel|email|mail|birth|born|birthday|ssn|passport|applicant|petitioner|first_name|last_name|"
    r"id_card|idcard)(_|$)|姓名|电话|手机|身份证|出生|住址|邮箱"
)
_ZEROS = r"^-?0[0-9]"
_WHOLE = r"^-?[0-9]{1,18}$"
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
_LONG = r"[0-9]{19}"
_INT = 2**31
_KEY_COLUMNS = 12
_NEARLY = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry's two files, and in words what was assumed while they were written."""

    dataset: DatasetId
    entry: str
    schema: str
    department: str
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column as it was understood. ``why`` explains a type that is not obvious."""

    heading: str
    name: str
    kind: Kind | Logical
    empty: int
    distinct: int
    why: str = ""

    @property
    def is_name(self) -> bool:
        return bool(_NAMING.search(self.name) or _NAMING.search(self.heading))

    @property
    def avro(self) -> Json:
        kind = self.kind
        plain: Json = (
            {"type": str(CARRIERS[kind]), "logicalType": str(kind)} if isinstance(kind, Logical) else str(kind)
        )
        return ["null", plain] if self.empty else plain


def draft(frame: pl.DataFrame, dataset: DatasetId, key: Sequence[str] = ()) -> Draft:
    """The draft of an entry for a frame of texts, as read from a file with one heading row.

    ``key`` names the key's columns, by heading or by field. Raises ConfigurationError where a heading or the key
    cannot be used.
    """
    headings = _checked_headings(frame)
    texts = frame.select(pl.all().replace("", None))
    filled = texts.filter(~pl.all_horizontal(pl.all().is_null()))
    columns = [
        _column(filled.get_column(heading), name)
        for heading, name in zip(headings, _field_names(headings), strict=True)
    ]
    chosen = [_named(columns, wanted) for wanted in key]
    columns = [_as_key(column) if column in chosen else column for column in columns]
    names = [column.name for column in chosen]
    return Draft(
        dataset=dataset,
        entry=_entry(dataset, columns, names, _candidates(filled, columns)),
        schema=_schema(dataset, columns),
        department=_department(dataset),
        assumptions=tuple(_assumptions(filled, frame.height, columns, chosen)),
    )


def _checked_headings(frame: pl.DataFrame) -> list[str]:
    for number, heading in enumerate(frame.columns, start=1):
        if not heading.strip():
            raise ConfigurationError(f"column {number} has no heading", mend="write one into the first row")
        if heading != heading.strip() or len(heading) > 500 or re.search(r"[\x00-\x1f]", heading):
            raise ConfigurationError(
                f"the heading of column {number} has spaces around it, a line break in it, or over 500 characters",
                mend="shorten it to one line",
            )
    if frame.width == 0:
        raise ConfigurationError("the file has no column", mend="write headings into the first row")
    return frame.columns


def _field_names(headings: Sequence[str]) -> list[str]:
    names: list[str] = []
    for number, heading in enumerate(headings, start=1):
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", heading)
        name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") if heading.isascii() else ""
        if not NAME.match(name) or name in names:
            name = f"field_{number}"
        names.append(name)
    return names


def _column(texts: pl.Series, name: str) -> Column:
    values = texts.drop_nulls()
    heading = texts.name
    kind, why = _kind(values, bool(_NAMING.search(name) or _NAMING.search(heading)))
    empty = texts.null_count()
    return Column(heading=heading, name=name, kind=kind, empty=empty, distinct=values.n_unique(), why=why)


def _kind(values: pl.Series, is_name: bool) -> tuple[Kind | Logical, str]:
    """The narrowest type that keeps every value as it is written."""
    if values.is_empty():
        return Kind.STRING, "it has no value at all"
    if _all(values, _NUMBER):
        return _number_kind(values, is_name)
    if _all(values, _DATE):
        are_dates = values.str.to_date("%Y-%m-%d", strict=False).null_count() == 0
        return (Logical.DATE, "") if are_dates else (Kind.STRING, "some values are no day of the calendar")
    if _all(values, _MOMENT):
        return Logical.TIMESTAMP_MICROS, ""
    return Kind.BOOLEAN if values.is_in(["true", "false"]).all() else Kind.STRING, ""


def _number_kind(values: pl.Series, is_name: bool) -> tuple[Kind, str]:
    if _any(values, _ZEROS):
        return Kind.STRING, "some values begin with 0"
    if is_name:
        return Kind.STRING, "its heading says that the digits name something"
    if not _all(values, _WHOLE):
        return (Kind.STRING, "its numbers are too long") if _any(values, _LONG) else (Kind.DOUBLE, "")
    largest = values.cast(pl.Int64).abs().max()
    fits = isinstance(largest, int) and largest < _INT
    return (Kind.INT, "") if fits else (Kind.LONG, "it has values beyond 2,147,483,647")


def _all(values: pl.Series, form: str) -> bool:
    return bool(values.str.contains(form).all())


def _any(values: pl.Series, form: str) -> bool:
    return bool(values.str.contains(form).any())


def _named(columns: Sequence[Column], wanted: str) -> Column:
    for column in columns:
        if wanted in {column.name, column.heading}:
            return column
    known = ", ".join(column.heading for column in columns)
    raise ConfigurationError(f"the file has no column {wanted}", mend=f"name one of {known}")


def _as_key(column: Column) -> Column:
    """A key is never null, and a number with a fraction is none."""
    kind = Kind.STRING if column.kind is Kind.DOUBLE else column.kind
    return Column(heading=column.heading, name=column.name, kind=kind, empty=0, distinct=column.distinct)


def _candidates(filled: pl.DataFrame, columns: Sequence[Column]) -> list[str]:
    """Columns, or else pairs of them, whose values name one row each; those that sound like names first."""
    usable = [column for column in columns if column.kind is not Kind.DOUBLE and not column.empty]
    usable.sort(key=lambda column: not column.is_name)
    single = [column.name for column in usable if column.distinct == filled.height > 0]
    if single:
        return single
    near = [f"{c.name} ({_rows(filled.height - c.distinct)} repeating a value)" for c in usable if _is_near(c, filled)]
    likely = sorted(usable, key=lambda column: -column.distinct)[:_KEY_COLUMNS]
    pairs = [
        f"{one.name}, {other.name}"
        for one, other in combinations(likely, 2)
        if one.distinct * other.distinct >= filled.height > 0
        and filled.select(pl.struct(one.heading, other.heading).n_unique()).item() == filled.height
    ]
    return near + pairs[:3]


def _is_near(column: Column, filled: pl.DataFrame) -> bool:
    return column.distinct >= _NEARLY * filled.height > 0


def _entry(dataset: DatasetId, columns: Sequence[Column], key: Sequence[str], candidates: Sequence[str]) -> str:
    lines = [
        f"id: {dataset}",
        f"title: {_title(dataset.name)}",
        "listing:",
        "  abstract: {zh: 待填写, en: To be written}",
        "  openness: closed",
        "  condition: {zh: 待填写, en: To be written}",
        "sharing: conditional",
        "update_cycle: irregular",
        "sequence: required",
    ]
    if key:
        lines.append(f"key: [{', '.join(map(_quoted, key))}]")
    else:
        lines.append("# Confirm the key: what names one record, for ever. Candidates:")
        lines += [f"#   {candidate}" for candidate in candidates] or ["#   none: no column or pair names every row"]
        lines.append("key: []")
    lines.append("fields:")
    return "\n".join([*lines, *(line for column in columns for line in _field(column))]) + "\n"


def _field(column: Column) -> Iterator[str]:
    yield f"  - name: {_quoted(column.name)}"
    yield f"    title: {_title(column.heading)}"
    yield f"    classification: {_classification(column)}"
    if column.heading != column.name:
        yield f"    headers: [{_quoted(column.heading)}]"
    if not column.empty:
        yield "    quality: {required: true}"


def _classification(column: Column) -> Classification:
    personal = _PERSONAL.search(column.name) or _PERSONAL.search(column.heading)
    return Classification.PERSONAL if personal else Classification.INTERNAL


def _title(text: str) -> str:
    return f"{{zh: {_quoted(text)}, en: {_quoted(text)}}}"


def _quoted(text: str) -> str:
    # A JSON string is a YAML string, whatever it holds; the bare words no and on are none.
    return json.dumps(text, ensure_ascii=False)


def _schema(dataset: DatasetId, columns: Sequence[Column]) -> str:
    fields: list[str] = []
    for column in columns:
        field: dict[str, Json] = {"name": column.name, "type": column.avro}
        fields.append("    " + json.dumps(field | ({"default": None} if column.empty else {})))
    head = f'"type": "record",\n  "name": "{dataset.name}",\n  "namespace": "civicbus.{dataset.department}"'
    return "{\n  " + head + ',\n  "fields": [\n' + ",\n".join(fields) + "\n  ]\n}\n"


def _department(dataset: DatasetId) -> str:
    name = dataset.department
    return f"id: {_quoted(name)}\ntitle: {_title(name)}\ncode: {_quoted(name)}\n"


def _assumptions(filled: pl.DataFrame, height: int, columns: Sequence[Column], key: Sequence[Column]) -> Iterator[str]:
    if filled.height < height:
        yield f"{_rows(height - filled.height)} entirely empty: refused, having no key"
    for column in columns:
        if column.why:
            yield (
                f"{column.heading}: text, because {column.why}"
                if column.kind is Kind.STRING
                else (f"{column.heading}: {column.kind}, because {column.why}")
            )
        if column.name.startswith("field_") and column.name != column.heading:
            yield f"{column.heading}: called {column.name}; give it an English name, and keep its titles"
        if _classification(column) is Classification.PERSONAL:
            yield f"{column.heading}: personal, because of its heading"
    optional = [column.heading for column in columns if column.empty]
    yield f"may be empty, because they are here: {', '.join(optional) or 'none'}; all others are required"
    yield from _key_assumptions(filled, key)
    yield "every other field is internal, the dataset is shared on condition and closed to the public"
    yield "titles in zh and en are the headings; translate them, and write the abstract and the condition"


def _key_assumptions(filled: pl.DataFrame, key: Sequence[Column]) -> Iterator[str]:
    if not key:
        yield "the key is not chosen; confirm one of the candidates in the entry"
        return
    headings = [column.heading for column in key]
    named = filled.drop_nulls(headings)
    if named.height < filled.height:
        yield f"{_rows(filled.height - named.height)} without a key: refused"
    repeats = named.height - named.select(pl.struct(headings).n_unique()).item()
    if repeats:
        yield f"{_rows(repeats)} repeating a key: the last row of each stays"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
