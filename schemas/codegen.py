"""Typed records of a department's datasets, as the source of a Python module. Pure: one catalogue gives one text.

A record is a TypedDict, since that is what a publisher takes, a plain dict when the program runs, and what mypy holds
against the dataset before it does: names, types, what may be left out, what may be null, allowed values.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from civicbus.schemas.codec.tree import (
    Array,
    Decimal,
    Enum,
    Field,
    Fixed,
    Kind,
    Logical,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)
from civicbus.schemas.datasets import Dataset, Quality

_LINE = 116
_KINDS = {
    Kind.BOOLEAN: "bool",
    Kind.INT: "int",
    Kind.LONG: "int",
    Kind.FLOAT: "float",
    Kind.DOUBLE: "float",
    Kind.BYTES: "bytes",
    Kind.STRING: "str",
}
_LOGICAL = {
    Logical.DATE: "datetime.date",
    Logical.TIME_MILLIS: "datetime.time",
    Logical.TIME_MICROS: "datetime.time",
    Logical.UUID: "uuid.UUID | str",
}
_MOMENT = "datetime.datetime"
_MODULES = ("datetime", "decimal", "typing", "uuid")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One field of a generated class."""

    name: str
    type: str
    comment: str = ""


@dataclass(slots=True)
class _Module:
    """What was generated so far, and the names that are taken."""

    classes: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def name(self, stem: str) -> str:
        name = "".join(word[:1].upper() + word[1:] for word in stem.replace(".", "_").split("_"))
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def add(self, name: str, said: str, items: Sequence[_Item]) -> str:
        self.classes.append("\n".join(_class(name, said, items)))
        return name


def module_of(datasets: Sequence[Dataset], command: str) -> str:
    """The module of these datasets; ``command`` is what makes it again."""
    module = _Module()
    for dataset in datasets:
        _add(module, dataset)
    body = "\n\n\n".join(module.classes)
    imports = [f"import {name}" for name in _MODULES if f"{name}." in body]
    head = f'"""Records as the catalogue describes them; made by `{command}`."""'
    return "\n".join([head, "", *imports, "", "", body, ""])


def _add(module: _Module, dataset: Dataset) -> None:
    stem = module.name(dataset.id.name)
    described = {one.name: one for one in dataset.fields}
    items = []
    for one in dataset.schema.record.fields:
        entry = described[one.name]
        comment = f"{entry.title.zh} · {entry.title.en}"
        items.append(_Item(name=one.name, type=_field_type(module, stem, one, entry.quality), comment=comment))
    module.add(stem, f"A record of {dataset.id}: {dataset.title.zh} · {dataset.title.en}.", items)
    keys = [
        _Item(name=one.name, type=_type(module, stem, _bare(one.type)))
        for name in dataset.key
        for one in dataset.schema.record.fields
        if one.name == name
    ]
    module.add(module.name(f"{dataset.id.name}_key"), f"What names a record of {dataset.id}, for a deletion.", keys)


def _field_type(module: _Module, stem: str, one: Field, quality: Quality) -> str:
    type_ = _bare(one.type) if quality.required else one.type
    if quality.allowed is not None and _is_text(_bare(one.type)):
        text = _literal(quality.allowed) + (" | None" if isinstance(type_, Nullable) else "")
    else:
        text = _type(module, stem, type_)
    return text if one.default is None or quality.required else f"typing.NotRequired[{text}]"


def _type(module: _Module, stem: str, type_: Type) -> str:
    match type_:
        case Primitive(logical=None):
            return _KINDS[type_.kind]
        case Primitive():
            return _LOGICAL.get(type_.logical, _MOMENT) if type_.logical else _MOMENT
        case Decimal():
            return "decimal.Decimal"
        case Fixed():
            return "bytes"
        case Enum():
            return _literal(type_.symbols)
        case Array():
            return f"list[{_type(module, stem, type_.items)}]"
        case Map():
            return f"dict[str, {_type(module, stem, type_.values)}]"
        case Nullable():
            return f"{_type(module, stem, type_.inner)} | None"
        case Record():
            return _nested(module, stem, type_)


def _nested(module: _Module, stem: str, record: Record) -> str:
    items = [_Item(name=one.name, type=_field_type(module, stem, one, Quality())) for one in record.fields]
    name = module.name(f"{stem}_{record.name.rpartition('.')[2]}")
    return module.add(name, f"The record {record.name} inside a {stem}.", items)


def _class(name: str, said: str, items: Sequence[_Item]) -> Iterator[str]:
    """In the class's own form; a field that Python has as a keyword, or would rename, needs the other one."""
    if all(not keyword.iskeyword(item.name) and not item.name.startswith("__") for item in items):
        yield f"class {name}(typing.TypedDict):"
        yield f'    """{_quoted(said)}"""'
        yield ""
        for item in items:
            yield from _commented(f"    {item.name}: {item.type}", item.comment)
        return
    yield f"# {said}"
    yield f"{name} = typing.TypedDict("
    yield f'    "{name}",'
    yield "    {"
    for item in items:
        yield from _commented(f'        "{item.name}": {item.type},', item.comment)
    yield "    },"
    yield ")"


def _commented(line: str, comment: str) -> Iterator[str]:
    if not comment:
        yield line
    elif len(line) + len(comment) + 4 <= _LINE:
        yield f"{line}  # {comment}"
    else:
        yield f"{line[: len(line) - len(line.lstrip())]}# {comment}"
        yield line


def _literal(texts: Sequence[str]) -> str:
    return f"typing.Literal[{', '.join(json.dumps(text, ensure_ascii=False) for text in texts)}]"


def _quoted(text: str) -> str:
    """Text inside a docstring."""
    return text.replace("\\", "\\\\").replace('"', "'")


def _bare(type_: Type) -> Type:
    return type_.inner if isinstance(type_, Nullable) else type_


def _is_text(type_: Type) -> bool:
    return isinstance(type_, Enum) or type_ == Primitive(Kind.STRING)
