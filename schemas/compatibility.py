"""Whether rows written with former schemas are read rightly with the current one (BACKWARD_TRANSITIVE).

Avro's own rules, by ``avro.compatibility``, and what they ignore: logical types, precision and scale, text that
turns into bytes, and a field renamed without an alias, whose values would silently become its default. Nor may rows
that stand already be read otherwise than before, since nothing says that they changed: a default and the aliases of
a field are for good.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import avro.schema
from avro.compatibility import (
    ReaderWriterCompatibilityChecker,
    SchemaCompatibilityResult,
    SchemaCompatibilityType,
    SchemaIncompatibilityType,
    check_schema_names,
    lookup_writer_field,
)

from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Array, Decimal, Field, Kind, Map, Nullable, Primitive, Record, Type

_MENDS = {
    SchemaIncompatibilityType.name_mismatch: "keep the name, or list the former one in its aliases",
    SchemaIncompatibilityType.fixed_size_mismatch: "keep the size, or add a new field",
    SchemaIncompatibilityType.missing_enum_symbols: "keep the symbols, or give the enum a default",
    SchemaIncompatibilityType.reader_field_missing_default_value: "give it a default",
    SchemaIncompatibilityType.type_mismatch: "keep the type, and null where it was allowed, or add a new field",
    SchemaIncompatibilityType.missing_union_branch: "keep the type, and null where it was allowed, or add a new field",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One way in which a schema cannot read what a former one wrote. ``field`` is empty for the row itself."""

    field: str
    wrong: str
    mend: str

    def __str__(self) -> str:
        return f"{self.field or 'the record'}: {self.wrong}; {self.mend}"


def transitive_breaks(schemas: Sequence[AvroSchema]) -> list[tuple[int, Break]]:
    """Every break between a former schema and a later one, with the index of the later; oldest first."""
    found = [
        (later, one)
        for later, reader in enumerate(schemas)
        for earlier, writer in enumerate(schemas[:later])
        for one in (*breaks(writer, reader), *(_steps(writer, reader) if earlier == later - 1 else ()))
    ]
    return list(dict.fromkeys(found))


def breaks(former: AvroSchema, current: AvroSchema) -> list[Break]:
    """Every way in which ``current`` cannot rightly read what ``former`` wrote."""
    found = list(_avro_breaks(former, current))
    blamed = {one.field for one in found}
    meaning = _meaning_breaks(former.record, current.record, "")
    return found + [one for one in meaning if one.field.partition(".")[0] not in blamed]


def _steps(former: AvroSchema, current: AvroSchema) -> Iterator[Break]:
    """What may not happen from one schema to the next."""
    yield from renames(former, current)
    yield from rereadings(former, current)


def rereadings(former: AvroSchema, current: AvroSchema) -> Iterator[Break]:
    """Fields of which rows that stand already would have other values from one schema to the next."""
    before, after = _by_name(former.record), _by_name(current.record)
    for name in [name for name in after if name in before]:
        if before[name].default not in (None, after[name].default):
            yield Break(field=name, wrong="has another default", mend="keep it: rows without the field have that value")
        for alias in sorted(set(after[name].aliases) - set(before[name].aliases)):
            yield Break(
                field=name, wrong=f"has a new alias {alias}", mend="give a field its aliases in the version it comes in"
            )


def renames(former: AvroSchema, current: AvroSchema) -> list[Break]:
    """Fields that look renamed from one schema to the next without an alias, and aliases that were dropped."""
    before, after = _by_name(former.record), _by_name(current.record)
    taken = {name for field in after.values() for name in (field.name, *field.aliases)}
    gone = [field for field in before.values() if field.name not in taken]
    new = [field for field in after.values() if not {field.name, *field.aliases} & before.keys()]
    return [
        Break(
            field=one.name,
            wrong=f"is new and {other.name}, of the same type, is gone: a rename would lose its values",
            mend=f'add "aliases": ["{other.name}"], or remove and add them in two versions',
        )
        for one in new
        for other in gone
        if _bare(one.type) == _bare(other.type)
    ] + [
        Break(field=name, wrong=f"lost its alias {alias}", mend="keep it: older rows are still read with it")
        for name in before.keys() & after.keys()
        for alias in sorted(set(before[name].aliases) - set(after[name].aliases))
    ]


def same_key_text(former: Type, current: Type) -> bool:
    """Whether a key field of these types has the same canonical text for the same record."""
    one, other = _bare(former), _bare(current)
    return one == other or (one == Primitive(Kind.INT) and other == Primitive(Kind.LONG))


def type_text(type_: Type) -> str:
    """A type as people call it: ``date``, ``decimal(10, 2)``, ``string or null``."""
    match type_:
        case Nullable(inner=inner):
            return f"{type_text(inner)} or null"
        case Decimal(precision=precision, scale=scale):
            return f"decimal({precision}, {scale})"
        case Primitive(kind=kind, logical=logical):
            return str(logical or kind)
        case _:
            return type(type_).__name__.lower()


def _avro_breaks(former: AvroSchema, current: AvroSchema) -> Iterator[Break]:
    writer, reader = _avro(former), _avro(current)
    yield from _explained("", check_schema_names(reader, writer, []))
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro left it without types
    for field in reader.fields:
        written = lookup_writer_field(writer, field)
        if written is not None:
            yield from _explained(field.name, checker.get_compatibility(field.type, written.type))
        elif not field.has_default:
            kind = SchemaIncompatibilityType.reader_field_missing_default_value
            yield Break(field=field.name, wrong="is new and has no default", mend=_MENDS[kind])


def _explained(field: str, result: SchemaCompatibilityResult) -> Iterator[Break]:
    if result.compatibility is SchemaCompatibilityType.incompatible:
        mends = dict.fromkeys(_MENDS[kind] for kind in result.incompatibilities)
        yield Break(field=field, wrong=", ".join(sorted(result.messages)), mend=", ".join(mends))


def _avro(schema: AvroSchema) -> avro.schema.RecordSchema:
    with warnings.catch_warnings(action="ignore"):  # logical types that Avro's own library does not know
        parsed = avro.schema.parse(schema.text)
    assert isinstance(parsed, avro.schema.RecordSchema)  # noqa: S101 - AvroSchema holds nothing else
    return parsed


def _meaning_breaks(former: Record, current: Record, path: str) -> Iterator[Break]:
    before = _by_name(former)
    for field in current.fields:
        name = next((name for name in (field.name, *field.aliases) if name in before), None)
        if name is not None:
            yield from _type_breaks(before[name].type, field.type, f"{path}{field.name}")


def _type_breaks(former: Type, current: Type, path: str) -> Iterator[Break]:
    match _bare(former), _bare(current):
        case Record() as one, Record() as other:
            yield from _meaning_breaks(one, other, f"{path}.")
        case (Array(items=one), Array(items=other)) | (Map(values=one), Map(values=other)):
            yield from _type_breaks(one, other, path)
        case one, other if _meaning(one) != _meaning(other):
            wrong = f"changed from {type_text(one)} to {type_text(other)}, which Avro would read without a word"
            yield Break(field=path, wrong=wrong, mend="keep the type, or add a new field")


def _meaning(type_: Type) -> str:
    """What the bytes of a type stand for beyond Avro's own types; Avro itself compares the rest."""
    match type_:
        case Primitive(kind=Kind.BYTES):
            return "bytes"
        case Primitive(kind=Kind.STRING, logical=None):
            return "text"
        case Primitive(logical=None):
            return ""
        case Primitive() | Decimal():
            return type_text(type_)
        case _:
            return ""


def _bare(type_: Type) -> Type:
    return type_.inner if isinstance(type_, Nullable) else type_


def _by_name(record: Record) -> dict[str, Field]:
    return {field.name: field for field in record.fields}
