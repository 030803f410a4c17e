"""What the catalogue says of a dataset: its owner, key, fields, rules and schemas, and who may have it.

Plain records. The same document stands in a catalogue file (as YAML) and on ``platform.catalogue`` (as JSON);
pydantic reads both and refuses what it does not know. ``load_catalogue`` in ``catalogue_files`` checks more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import (
    BeforeValidator,
    ConfigDict,
    GetPydanticSchema,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic import Field as Bounds

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.keys import KEY_BYTES, KeyValue, is_unicode, record_key
from civicbus.names import DatasetId, DepartmentId, department_id
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema

MIB = 1024 * 1024

_CLOSED = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def _dataset_id(value: object) -> DatasetId:
    if isinstance(value, str):
        try:
            return DatasetId.parse(value)
        except ConfigurationError as fault:
            raise ValueError(str(fault)) from None
    raise ValueError("write <department>.<dataset>")


def _department_id(value: object) -> DepartmentId:
    if isinstance(value, str):
        try:
            return department_id(value)
        except ConfigurationError as fault:
            raise ValueError(str(fault)) from None
    raise ValueError("write the department's name")


def _schema(value: object) -> AvroSchema:
    if isinstance(value, str):
        try:
            return AvroSchema.parse(value)
        except (ConfigurationError, Unacceptable) as fault:
            raise ValueError(str(fault)) from None
    raise ValueError("write the schema as text")


FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}\z")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^\S([^\x00-\x1f]*\S)?\z")]
TableName = Annotated[str, StringConstraints(pattern=r"^[^.\s\x00]{1,63}\.[^.\s\x00]{1,63}\z")]
ADataset = Annotated[DatasetId, BeforeValidator(_dataset_id), PlainSerializer(str, return_type=str)]
ADepartment = Annotated[DepartmentId, BeforeValidator(_department_id)]
ASchema = Annotated[
    AvroSchema,
    GetPydanticSchema(lambda _, handler: handler(object)),  # what a schema is made of is no business of pydantic's
    BeforeValidator(_schema),
    PlainSerializer(lambda schema: schema.text, return_type=str),
]
Bound = Annotated[float, Bounds(allow_inf_nan=False)]
Length = Annotated[int, Bounds(ge=0)]
Days = Annotated[int, Bounds(ge=1, le=3650)]


class SequenceRule(StrEnum):
    """Whether a dataset's changes carry ``ce_sequence``; never mixed."""

    REQUIRED = "required"
    UNUSED = "unused"


class Classification(StrEnum):
    """How closely a field is kept; ``personal`` and ``sensitive`` values appear in no log, error or header."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PERSONAL = "personal"
    SENSITIVE = "sensitive"


class Sharing(StrEnum):
    """共享类型: whether other departments may have a dataset."""

    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"
    REFUSED = "refused"


class Openness(StrEnum):
    """开放属性: whether the public may have a dataset."""

    OPEN = "open"
    CONDITIONAL = "conditional"
    CLOSED = "closed"


class UpdateCycle(StrEnum):
    """更新周期: how often the owner promises to publish."""

    REALTIME = "realtime"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"
    IRREGULAR = "irregular"


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """A name or a sentence in both languages."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    zh: Line
    en: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """A party on the bus, as the catalogue names it. ``code`` is what the government's registers call it."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    id: ADepartment
    title: Title
    code: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The rules that a field's value keeps. A null keeps every rule but ``required``.

    ``pattern`` is a regular expression for the whole value, in the syntax that Polars runs in linear time (no
    look-around, no back-references); lengths count characters; ``required`` refuses null and the empty string.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    required: bool = False
    pattern: str | None = None
    allowed: tuple[str, ...] | None = None
    minimum: Bound | None = None
    maximum: Bound | None = None
    min_length: Length | None = None
    max_length: Length | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field (信息项) of a dataset. ``headers`` are further names that its column may have in a file."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    name: FieldName
    title: Title
    classification: Classification
    quality: Quality = field(default_factory=Quality)
    headers: tuple[Line, ...] = ()

    def columns(self) -> tuple[str, ...]:
        """The names that this field's column may have in a file: its own, its titles, its further headers."""
        return tuple(dict.fromkeys((self.name, self.title.zh, self.title.en, *self.headers)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the directory of shared datasets says beyond the dataset's own technical facts."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    abstract: Title
    openness: Openness = Openness.CLOSED
    condition: Title | None = None
    published: date | None = None
    related: tuple[ADataset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long changes and parked records are kept. Deletions stay 30 days on every topic (DESIGN §5 rule 6)."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    changes_days: Days = 7
    quarantine_days: Days = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The file that a dataset is fed from.

    ``order_by`` set: the file holds several versions of one record; its rows are taken in the order of these
    fields (nulls first, ties in file order), the last stays, and a repeated key is no fault. Empty: file order,
    the last row of a key wins, and a repeated key is reported.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    file: Line
    order_by: tuple[FieldName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """The table of the owner's own PostgreSQL whose changes are captured.

    ``columns`` names the column of each field whose column is not called like the field.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    table: TableName
    columns: Mapping[FieldName, Line] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One kind of record that one department owns and publishes.

    ``schemas`` are the only ones that admission accepts, oldest first, the current one last.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    id: ADataset
    title: Title
    listing: Listing
    key: Annotated[tuple[FieldName, ...], Bounds(min_length=1)]
    fields: Annotated[tuple[Field, ...], Bounds(min_length=1)]
    schemas: Annotated[tuple[ASchema, ...], Bounds(min_length=1)]
    sharing: Sharing
    update_cycle: UpdateCycle
    sequence: SequenceRule = SequenceRule.REQUIRED
    partitions: Annotated[int, Bounds(ge=1, le=200)] = 4
    max_bytes: Annotated[int, Bounds(ge=1024, le=4 * MIB)] = MIB
    retention: Retention = field(default_factory=Retention)
    source: Source | None = None
    capture: Capture | None = None

    @property
    def schema(self) -> AvroSchema:
        """The current schema: what the owner's producers write and the views read."""
        return self.schemas[-1]

    @property
    def file(self) -> str:
        """The name of the file that feeds this dataset."""
        return f"{self.id}.csv" if self.source is None else self.source.file

    @property
    def order_by(self) -> tuple[str, ...]:
        """The fields that put a file's rows in order; see :class:`Source`."""
        return () if self.source is None else self.source.order_by

    def columns(self) -> dict[str, str]:
        """Every name that a column may have in a file, and the field it fills."""
        return {header: item.name for item in self.fields for header in item.columns()}

    def key_of(self, row: Mapping[str, object]) -> bytes:
        """The record key of a row; raises Unacceptable naming the key field that is empty, mistyped or too long."""
        key = record_key([_key_value(row, name) for name in self.key])
        if len(key) > KEY_BYTES:
            raise Unacceptable(Reason.TOO_LARGE, f"the key has more than {KEY_BYTES} bytes", field=self.key[0])
        return key

    def to_json(self) -> bytes:
        """The value of ``platform.catalogue``; equal datasets give equal bytes."""
        return _adapter().dump_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Raises ConfigurationError where the document is no dataset."""
        try:
            return _adapter().validate_json(text)  # type: ignore[return-value]  # nobody derives from Dataset
        except ValidationError as error:
            places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigurationError(
                f"a document on platform.catalogue is no dataset: {places}", mend="run `civicbus catalogue apply`"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every department and dataset that the bus knows."""

    departments: Mapping[DepartmentId, Department]
    datasets: Mapping[DatasetId, Dataset]


def _key_value(row: Mapping[str, object], name: str) -> KeyValue:
    match row.get(name):
        case None | "":
            raise Unacceptable(Reason.KEY_MISSING, f"key field {name} is empty", field=name)
        case str() as text if not is_unicode(text):
            raise Unacceptable(Reason.BYTES, "it holds half a surrogate pair", field=name)
        case str() | int() | date() | datetime() | UUID() as value:
            return value
        case _:
            raise Unacceptable(Reason.BYTES, f"key field {name} has a type that no key may have", field=name)


@cache
def _adapter() -> TypeAdapter[Dataset]:
    return TypeAdapter(Dataset)
