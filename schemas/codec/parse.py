"""Reads the text of an Avro schema into its tree, and refuses what must never reach a decoder.

Refused, with the place named: a type that contains itself, types that take no bytes (null alone, an empty
record, a fixed of size 0), unions other than of null and one type, and everything beyond the bounds below. A
named type that is used often counts every time, so that a short text cannot stand for a huge tree. Logical
types that Avro says to ignore are ignored; so are unknown attributes and documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, TypeGuard

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.defaults import BadDefault, row_value
from civicbus.schemas.codec.tree import (
    CARRIERS,
    Array,
    Attributes,
    Decimal,
    Default,
    Enum,
    Field,
    Fixed,
    Json,
    Kind,
    Logical,
    Map,
    Named,
    Nullable,
    Primitive,
    Record,
    Type,
)

TEXT_BYTES = 2**20
DEPTH = 32
FIELDS = 1000
SYMBOLS = 10_000
NAME_LENGTH = 255
FIXED_BYTES = 4096
DECIMAL_DIGITS = 38
# What the defaults of missing fields may unfold to in one default: its length in JSON times the type's fields.
DEFAULT_VALUES = 1_000_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PRIMITIVES = frozenset(Kind) | {"null"}
_RESERVED = _PRIMITIVES | {"record", "error", "enum", "array", "map", "fixed", "union"}
_LOGICAL = frozenset(Logical)


def parse(text: str) -> Record:
    """The tree of a schema's text; raises Unacceptable with SCHEMA_UNSAFE."""
    try:
        return _Reading().row(_json(text))
    except RecursionError:
        _refuse("schema", f"it nests deeper than {DEPTH}")


def _json(text: str) -> Json:
    if len(text) > TEXT_BYTES or len(text.encode("utf-8", "replace")) > TEXT_BYTES:
        _refuse("schema", f"its text is longer than {TEXT_BYTES} bytes")
    try:
        # json.loads is declared to return Any; what it returns is Json.
        document: Json = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except ValueError:
        _refuse("schema", "it is no JSON, or repeats a key")
    return document


def _object(pairs: Sequence[tuple[str, Json]]) -> Attributes:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is repeated")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refuse(path: str, detail: str) -> NoReturn:
    raise Unacceptable(Reason.SCHEMA_UNSAFE, f"{path}: {detail}", field=path)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the reading is: its path for messages, its depth, and the namespace that names inherit."""

    path: str
    depth: int = 0
    namespace: str = ""

    def below(self, step: str = "") -> _Place:
        if self.depth >= DEPTH:
            _refuse(self.path, f"it nests deeper than {DEPTH}")
        return replace(self, path=f"{self.path}.{step}" if step else self.path, depth=self.depth + 1)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A named type that was read, and what each use of it adds."""

    type: Named
    fields: int
    symbols: int
    height: int


@dataclass(slots=True)
class _Reading:
    """One pass over a schema: the named types so far, those still open, and the counts."""

    named: dict[str, _Seen] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    fields: int = 0
    symbols: int = 0
    deepest: int = 0

    def row(self, document: Json) -> Record:
        if not (isinstance(document, dict) and document.get("type") == "record"):
            _refuse("schema", "the top level is no record, so it describes no row")
        record = self._type(document, _Place("schema"))
        assert isinstance(record, Record)  # noqa: S101 - the check above says so to people, this to mypy
        return record

    def _type(self, document: Json, place: _Place) -> Type:
        self.deepest = max(self.deepest, place.depth)
        match document:
            case str():
                return self._by_name(document, place)
            case list():
                return self._union(document, place)
            case dict() if isinstance(name := document.get("type"), str):
                return self._by_attributes(name, document, place)
        _refuse(place.path, "it is no type")

    def _by_name(self, name: str, place: _Place) -> Type:
        if name in _PRIMITIVES:
            return _primitive(name, {}, place)
        full = name if "." in name or not place.namespace else f"{place.namespace}.{name}"
        if full in self.open:
            _refuse(place.path, f"{_shown(full)} contains itself")
        seen = self.named.get(full)
        if seen is None:
            _refuse(place.path, f"{_shown(full)} is no type that stands before it")
        self._count(seen.fields, seen.symbols, place)
        if place.depth + seen.height > DEPTH:
            _refuse(place.path, f"it nests deeper than {DEPTH}")
        self.deepest = max(self.deepest, place.depth + seen.height)
        return seen.type

    def _by_attributes(self, name: str, document: Attributes, place: _Place) -> Type:
        match name:
            case "record":
                return self._named(document, place, self._record)
            case "enum":
                return self._named(document, place, self._enum)
            case "fixed":
                return self._named(document, place, _fixed)
            case "array":
                return Array(self._type(document.get("items"), place.below("items")))
            case "map":
                return Map(self._type(document.get("values"), place.below("values")))
            case _ if name in _PRIMITIVES:
                return _primitive(name, document, place)
        return self._by_name(name, place)

    def _union(self, branches: list[Json], place: _Place) -> Nullable:
        nulls = [branch in ("null", {"type": "null"}) for branch in branches]
        if sorted(nulls) != [False, True]:
            _refuse(place.path, "a union is of null and one other type; write wider ones as optional fields")
        inner = self._type(branches[nulls.index(False)], place.below())
        if isinstance(inner, Nullable):
            _refuse(place.path, "a union stands directly in a union")
        return Nullable(inner=inner, null_first=nulls[0])

    def _named(
        self, document: Attributes, place: _Place, read: Callable[[_Naming, Attributes, _Place], Named]
    ) -> Named:
        naming = _naming(document, place)
        if naming.name in self.named or naming.name in self.open:
            _refuse(place.path, f"{naming.name} is defined twice")
        fields, symbols, deepest, self.deepest = self.fields, self.symbols, self.deepest, place.depth
        self.open.add(naming.name)
        type_ = read(naming, document, replace(place, namespace=naming.namespace))
        self.open.remove(naming.name)
        self.named[naming.name] = _Seen(type_, self.fields - fields, self.symbols - symbols, self.deepest - place.depth)
        self.deepest = max(deepest, self.deepest)
        return type_

    def _record(self, naming: _Naming, document: Attributes, place: _Place) -> Record:
        documents = document.get("fields")
        if not isinstance(documents, list) or not documents:
            _refuse(place.path, "a record has a list of at least one field")
        self._count(len(documents), 0, place)
        fields = tuple(self._field(one, place) for one in documents)
        if len({one.name for one in fields}) != len(fields):
            _refuse(place.path, "two fields have one name")
        return Record(name=naming.name, fields=fields, aliases=naming.aliases)

    def _field(self, document: Json, place: _Place) -> Field:
        if not isinstance(document, dict):
            _refuse(place.path, "a field is no object")
        name = _simple_name(document.get("name"), place)
        below, fields = place.below(name), self.fields
        type_ = self._type(document.get("type"), below)
        default = self._default(document, type_, self.fields - fields, below)
        aliases = tuple(_simple_name(alias, below) for alias in _list(document, "aliases", below))
        return Field(name=name, type=type_, default=default, aliases=aliases)

    def _enum(self, naming: _Naming, document: Attributes, place: _Place) -> Enum:
        symbols = tuple(_simple_name(symbol, place) for symbol in _list(document, "symbols", place))
        if not symbols or len(set(symbols)) != len(symbols):
            _refuse(place.path, "an enum has different symbols, at least one")
        self._count(0, len(symbols), place)
        default = document.get("default")
        if default is not None and not (isinstance(default, str) and default in symbols):
            _refuse(place.path, "an enum's default is one of its symbols")
        return Enum(name=naming.name, symbols=symbols, default=default, aliases=naming.aliases)

    def _default(self, document: Attributes, type_: Type, fields: int, place: _Place) -> Default | None:
        """The default of a field whose type has so many fields inside."""
        if "default" not in document:
            return None
        default = document["default"]
        if len(json.dumps(default)) * fields > DEFAULT_VALUES:
            _refuse(place.path, "its default is too large for a type of so many fields")
        try:
            row_value(type_, default)
        except BadDefault as fault:
            _refuse(place.path, str(fault))
        return Default(default)

    def _count(self, fields: int, symbols: int, place: _Place) -> None:
        """Adds what a use of a type adds, so that a short text cannot stand for a huge tree."""
        self.fields += fields
        self.symbols += symbols
        if self.fields > FIELDS:
            _refuse(place.path, f"it has more than {FIELDS} fields, counting a type at each of its uses")
        if self.symbols > SYMBOLS:
            _refuse(place.path, f"it has more than {SYMBOLS} symbols, counting an enum at each of its uses")


@dataclass(frozen=True, slots=True)
class _Naming:
    """The full names of a named type."""

    name: str
    aliases: tuple[str, ...]

    @property
    def namespace(self) -> str:
        return self.name.rpartition(".")[0]


def _naming(document: Attributes, place: _Place) -> _Naming:
    namespace = document.get("namespace", place.namespace)
    if not isinstance(namespace, str) or (namespace and not _is_full_name(namespace)):
        _refuse(place.path, "its namespace is no name")
    name = _full_name(document.get("name"), namespace, place)
    if place.namespace and "." not in name:
        _refuse(place.path, f"{name} has no namespace, but stands inside {place.namespace}")
    inherited = name.rpartition(".")[0]
    aliases = tuple(_full_name(alias, inherited, place) for alias in _list(document, "aliases", place))
    return _Naming(name, aliases)


def _full_name(name: Json, namespace: str, place: _Place) -> str:
    if not isinstance(name, str) or not _is_full_name(name):
        _refuse(place.path, "a type has no valid name")
    if name in _RESERVED:
        _refuse(place.path, f"a type is named {name}")
    full = name if "." in name or not namespace else f"{namespace}.{name}"
    if len(full) > NAME_LENGTH:
        _refuse(place.path, f"a name is longer than {NAME_LENGTH}")
    return full


def _is_full_name(name: str) -> bool:
    return len(name) <= NAME_LENGTH and all(_NAME.match(part) for part in name.split("."))


def _simple_name(name: Json, place: _Place) -> str:
    if not isinstance(name, str) or len(name) > NAME_LENGTH or not _NAME.match(name):
        _refuse(place.path, "a field has no valid name")
    return name


def _list(document: Attributes, attribute: str, place: _Place) -> list[Json]:
    value = document.get(attribute, [])
    if not isinstance(value, list):
        _refuse(place.path, f"its {attribute} are no list")
    return value


def _shown(name: str) -> str:
    return name if _is_full_name(name) else "a type"


def _fixed(naming: _Naming, document: Attributes, place: _Place) -> Fixed | Decimal:
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= FIXED_BYTES:
        _refuse(place.path, f"a fixed takes 1 to {FIXED_BYTES} bytes")
    fixed = Fixed(name=naming.name, size=size, aliases=naming.aliases)
    return _decimal(document, fixed, 8 * size - 1, place) or fixed


def _primitive(name: str, document: Attributes, place: _Place) -> Primitive | Decimal:
    if name == "null":
        _refuse(place.path, "null takes no bytes; it stands only in a union with one other type")
    kind = Kind(name)
    if kind is Kind.BYTES:
        return _decimal(document, None, None, place) or Primitive(kind)
    wanted = document.get("logicalType")
    logical = Logical(wanted) if isinstance(wanted, str) and wanted in _LOGICAL else None
    return Primitive(kind, logical if logical is not None and CARRIERS[logical] is kind else None)


def _decimal(document: Attributes, fixed: Fixed | None, bits: int | None, place: _Place) -> Decimal | None:
    """The decimal that the attributes describe; None where there is none, or one that Avro says to ignore."""
    if document.get("logicalType") != "decimal":
        return None
    precision, scale = document.get("precision"), document.get("scale", 0)
    if not _is_count(precision) or not _is_count(scale) or precision == 0 or scale > precision:
        return None
    if precision > DECIMAL_DIGITS:
        _refuse(place.path, f"a decimal has more than {DECIMAL_DIGITS} digits")
    if bits is not None and 10**precision > 2**bits:
        return None
    return Decimal(precision=precision, scale=scale, fixed=fixed)


def _is_count(value: Json) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
