"""What a catalogue entry may not say, found before it meets a record. Pure: an entry in, faults out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Decimal, Enum, Field, Json, Kind, Logical, Nullable, Primitive, Type
from civicbus.schemas.compatibility import same_key_text, transitive_breaks, type_text
from civicbus.schemas.datasets import Classification, Dataset, Openness, Quality, SequenceRule, Sharing
from civicbus.schemas.documents import Location, closest
from civicbus.schemas.quality import pattern_fault

_KEY_TYPES = frozenset(
    {
        Primitive(Kind.STRING),
        Primitive(Kind.STRING, Logical.UUID),
        Primitive(Kind.INT),
        Primitive(Kind.LONG),
        Primitive(Kind.BOOLEAN),
        Primitive(Kind.INT, Logical.DATE),
        Primitive(Kind.LONG, Logical.TIMESTAMP_MILLIS),
        Primitive(Kind.LONG, Logical.TIMESTAMP_MICROS),
    }
)
_NUMBERS = frozenset({Primitive(Kind.INT), Primitive(Kind.LONG), Primitive(Kind.FLOAT), Primitive(Kind.DOUBLE)})
_KEPT = frozenset({Classification.PERSONAL, Classification.SENSITIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong at a place in an entry, and the mend."""

    location: Location
    wrong: str
    mend: str


def dataset_faults(dataset: Dataset) -> Iterator[Fault]:
    """Every fault in an entry that is well formed by itself."""
    yield from _schema_faults(dataset)
    yield from _name_faults(dataset)
    yield from _key_faults(dataset)
    yield from _order_faults(dataset)
    yield from _capture_faults(dataset)
    yield from _quality_faults(dataset)
    yield from _sharing_faults(dataset)


def schema_text_faults(text: str) -> Iterator[tuple[str, str]]:
    """What an Avro schema's text says in vain or says badly, as pairs of fault and mend."""
    kept = AvroSchema.parse(text)
    written = Counter(_logical_types(json.loads(text)))
    for logical in sorted((written - Counter(_logical_types(json.loads(kept.text)))).elements()):
        yield f"the logical type {logical} is not applied", "correct its name, its type, precision or scale"
    for field in kept.record.fields:
        if isinstance(field.type, Nullable) and (field.default is None or not field.type.null_first):
            yield f"{field.name} may be null but does not default to null", 'write ["null", …] and "default": null'


def _logical_types(node: Json) -> Iterator[str]:
    match node:
        case dict():
            if isinstance(logical := node.get("logicalType"), str):
                yield logical
            for part in node.values():
                yield from _logical_types(part)
        case list():
            for part in node:
                yield from _logical_types(part)


def _schema_faults(dataset: Dataset) -> Iterator[Fault]:
    wanted = f"civicbus.{dataset.id}"
    if dataset.schema.name != wanted:
        mend = f'write "name": "{dataset.id.name}", "namespace": "civicbus.{dataset.id.department}"'
        yield Fault(location=("schemas",), wrong=f"the Avro record is named {dataset.schema.name}", mend=mend)
    for field in dataset.schema.record.fields:
        if not _is_flat(field.type):
            wrong = f"{field.name} is a {type_text(field.type)} in the .avsc"
            yield Fault(location=("schemas",), wrong=wrong, mend="give each value a field of its own: rows are flat")
    fingerprints = [schema.fingerprint for schema in dataset.schemas]
    if len(set(fingerprints)) != len(fingerprints):
        yield Fault(location=("former_schemas",), wrong="one schema stands in it twice", mend="remove one")
    for _, found in transitive_breaks(dataset.schemas):
        yield Fault(location=("former_schemas",), wrong=f"{found.field}: {found.wrong}", mend=found.mend)


def _is_flat(type_: Type) -> bool:
    match type_:
        case Nullable(inner=inner):
            return _is_flat(inner)
        case Primitive() | Decimal() | Enum():
            return True
        case _:
            return False


def _name_faults(dataset: Dataset) -> Iterator[Fault]:
    names = [field.name for field in dataset.fields]
    yield from (
        Fault(location=("fields", index, "name"), wrong=f"{name} is named twice", mend="remove one")
        for index, name in enumerate(names)
        if name in names[:index]
    )
    known = dataset.schema.field_names
    for index, name in enumerate(names):
        if name not in known:
            mend = closest(name, set(known) - set(names)) or "add it there, or remove it here"
            yield Fault(location=("fields", index, "name"), wrong=f"{name} is not in the .avsc", mend=mend)
    for name in known:
        if name not in names:
            yield Fault(location=("fields",), wrong=f"{name} of the .avsc is missing", mend="add it with its titles")
    yield from _column_faults(dataset)


def _column_faults(dataset: Dataset) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for index, field in enumerate(dataset.fields):
        for column in field.columns():
            other = owners.setdefault(column, field.name)
            if other != field.name:
                wrong = f"the column name {column} is also that of {other}"
                yield Fault(location=("fields", index), wrong=wrong, mend="give them different titles and headers")


def _key_faults(dataset: Dataset) -> Iterator[Fault]:
    for index, name in enumerate(dataset.key):
        location = ("key", index)
        field = _field(dataset.schema, name)
        if name in dataset.key[:index]:
            yield Fault(location=location, wrong=f"{name} is named twice", mend="remove one")
        elif field is None:
            mend = closest(name, dataset.schema.field_names)
            yield Fault(location=location, wrong=f"{name} is no field", mend=mend)
        elif field.type not in _KEY_TYPES:
            wrong = f"{name} is {type_text(field.type)}, which no key may be"
            mend = "use a string, int, long, boolean, date, timestamp or uuid that is never null"
            yield Fault(location=location, wrong=wrong, mend=mend)
        else:
            yield from _key_change_faults(dataset, location, field)


def _key_change_faults(dataset: Dataset, location: Location, field: Field) -> Iterator[Fault]:
    for schema in dataset.schemas[:-1]:
        names = (field.name, *field.aliases)
        before = next((found for name in names if (found := _field(schema, name)) is not None), None)
        if before is None or not same_key_text(before.type, field.type):
            wrong = f"{field.name} changes the keys of records that a former schema wrote"
            yield Fault(location=location, wrong=wrong, mend="publish a new dataset instead")


def _order_faults(dataset: Dataset) -> Iterator[Fault]:
    for index, name in enumerate(dataset.order_by):
        if name not in dataset.schema.field_names:
            location = ("source", "order_by", index)
            yield Fault(location=location, wrong=f"{name} is no field", mend=closest(name, dataset.schema.field_names))


def _capture_faults(dataset: Dataset) -> Iterator[Fault]:
    columns = {} if dataset.capture is None else dataset.capture.columns
    for name in columns:
        if name not in dataset.schema.field_names:
            location = ("capture", "columns", name)
            yield Fault(location=location, wrong=f"{name} is no field", mend=closest(name, dataset.schema.field_names))
    if dataset.capture is not None and dataset.sequence is SequenceRule.UNUSED:
        yield Fault(
            location=("sequence",),
            wrong="a capture numbers its changes by the place in the log",
            mend="write `sequence: required`, or remove `capture`",
        )


def _quality_faults(dataset: Dataset) -> Iterator[Fault]:
    for index, field in enumerate(dataset.fields):
        described = _field(dataset.schema, field.name)
        if described is not None:
            for key, wrong, mend in _rule_faults(field.quality, described.type):
                yield Fault(location=("fields", index, "quality", key), wrong=wrong, mend=mend)


def _rule_faults(quality: Quality, type_: Type) -> Iterator[tuple[str, str, str]]:
    bare = type_.inner if isinstance(type_, Nullable) else type_
    is_text = isinstance(bare, Enum) or bare in {Primitive(Kind.STRING), Primitive(Kind.STRING, Logical.UUID)}
    is_number = isinstance(bare, Decimal) or bare in _NUMBERS
    for key in ("pattern", "allowed", "min_length", "max_length"):
        if getattr(quality, key) is not None and not is_text:
            yield key, f"does not apply to {type_text(type_)}", "remove it; it is a rule for text"
    for key in ("minimum", "maximum"):
        if getattr(quality, key) is not None and not is_number:
            yield key, f"does not apply to {type_text(type_)}", "remove it; it is a rule for numbers"
    if quality.pattern is not None and (fault := pattern_fault(quality.pattern)):
        yield "pattern", f"is no regular expression here: {fault}", "use the syntax that docs/catalogue.md describes"
    if quality.allowed is not None and not quality.allowed:
        yield "allowed", "allows nothing", "list the values, or remove it"
    if _reversed(quality.minimum, quality.maximum):
        yield "minimum", "is above the maximum", "swap them"
    if _reversed(quality.min_length, quality.max_length):
        yield "min_length", "is above max_length", "swap them"


def _reversed(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low > high


def _sharing_faults(dataset: Dataset) -> Iterator[Fault]:
    if dataset.sharing is not Sharing.UNCONDITIONAL and dataset.listing.condition is None:
        wrong = f"is missing while sharing is {dataset.sharing}"
        mend = "say under which condition it is shared, or which rule forbids it, in zh and en"
        yield Fault(location=("listing", "condition"), wrong=wrong, mend=mend)
    kept = [field.name for field in dataset.fields if field.classification in _KEPT]
    if dataset.listing.openness is Openness.OPEN and kept:
        wrong = f"is open to the public but {', '.join(kept)} is personal or sensitive"
        yield Fault(location=("listing", "openness"), wrong=wrong, mend="write conditional or closed")


def _field(schema: AvroSchema, name: str) -> Field | None:
    return next((field for field in schema.record.fields if field.name == name), None)
