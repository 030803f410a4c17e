"""The OpenAPI 3.1 document of one department's part of the ingress, made from the catalogue. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from civicbus import __version__
from civicbus.events import deleted, upserted
from civicbus.names import DatasetId, DepartmentId, source_of
from civicbus.producers.http.answers import PROBLEM, STATUSES, TITLES
from civicbus.producers.http.events import BATCH, JSON, LONGEST_ATTRIBUTE, STRUCTURED
from civicbus.producers.http.fates import Fate
from civicbus.producers.http.rejections import Kind
from civicbus.reasons import Reason
from civicbus.schemas.codec.tree import (
    Array,
    Decimal,
    Enum,
    Field,
    Fixed,
    Json,
    Logical,
    Map,
    Nullable,
    Primitive,
    Record,
    Type,
)
from civicbus.schemas.codec.tree import Kind as Avro
from civicbus.schemas.datasets import Dataset, Quality, SequenceRule

Document = dict[str, Json]

_ALWAYS = (Kind.UNAUTHENTICATED, Kind.INTERNAL, Kind.UNAVAILABLE)
_WRITING = (
    *(Kind.MALFORMED, Kind.FORBIDDEN, Kind.CONFLICT, Kind.TOO_LARGE, Kind.MEDIA_TYPE),
    *(Kind.UNPROCESSABLE, Kind.TOO_MANY, *_ALWAYS),
)
_PLAIN: dict[Avro, Document] = {
    Avro.BOOLEAN: {"type": "boolean"},
    Avro.INT: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    Avro.LONG: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    Avro.FLOAT: {"type": "number", "minimum": -3.4028234663852886e38, "maximum": 3.4028234663852886e38},
    Avro.DOUBLE: {"type": "number"},
    Avro.BYTES: {"type": "string", "contentEncoding": "base64"},
    Avro.STRING: {"type": "string"},
}
_DIGITS = {Logical.TIME_MILLIS: 3, Logical.TIMESTAMP_MILLIS: 3, Logical.LOCAL_TIMESTAMP_MILLIS: 3}
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_ZONE = "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"


def document(department: DepartmentId, datasets: Mapping[DatasetId, Dataset], most_events: int) -> Document:
    """Everything that this department may send and may be answered."""
    own = [dataset for _, dataset in sorted(datasets.items()) if dataset.id.department == department]
    paths: Document = {"/v1/receipts/{receipt}": {"get": _receipt()}}
    if own:
        paths["/v1/events"] = {"post": _events(most_events)}
    for dataset in own:
        paths[f"/v1/datasets/{dataset.id}/records"] = {"put": _put(dataset, most_events)}
        paths[f"/v1/datasets/{dataset.id}/records/{{key}}"] = {"delete": _delete(dataset)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"civicbus ingress of {department}",
            "version": __version__,
            "description": "202 means that the broker has the changes. A receipt says what became of one.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key or a token."}},
            "schemas": _schemas(department, own, most_events),
        },
    }


def row_schema(dataset: Dataset) -> Document:
    """The JSON of one record; admission also holds it against the patterns of the catalogue."""
    rules = {item.name: item for item in dataset.fields}
    properties: Document = {}
    for field in dataset.schema.record.fields:
        item = rules[field.name]
        properties[field.name] = _ruled(field.type, item.quality) | {"title": item.title.en}
    return _object(properties, [field.name for field in dataset.schema.record.fields if field.default is None])


def _schemas(department: DepartmentId, own: Sequence[Dataset], most_events: int) -> Document:
    schemas: Document = {"problem": _problem(), "receipt": _receipt_schema(), "receipts": _receipts_schema()}
    for dataset in own:
        schemas[f"{dataset.id}.record"] = row_schema(dataset)
        schemas[f"{dataset.id}.upserted"] = _event(department, dataset, deletion=False)
        schemas[f"{dataset.id}.deleted"] = _event(department, dataset, deletion=True)
    if own:
        events: list[Json] = [_ref(f"{dataset.id}.{what}") for dataset in own for what in ("upserted", "deleted")]
        schemas["event"] = {"oneOf": events}
        schemas["batch"] = {"type": "array", "items": _ref("event"), "maxItems": most_events}
    return schemas


def _event(department: DepartmentId, dataset: Dataset, *, deletion: bool) -> Document:
    type_ = deleted(dataset.id) if deletion else upserted(dataset.id)
    attributes: Document = {
        "specversion": {"const": "1.0"},
        "id": _attribute("Repeat an event with its id and it is published once."),
        "source": {"const": source_of(department)},
        "type": {"const": type_},
        "time": {"type": "string", "format": "date-time", "description": "When the source saw the change."},
        "datacontenttype": {"const": JSON},
        "data": _key_object(dataset) if deletion else _ref(f"{dataset.id}.record"),
    }
    if dataset.sequence is SequenceRule.REQUIRED:
        attributes["sequence"] = {
            "type": "string",
            "pattern": "^[0-9]{1,19}$",
            "description": "Rises with every change of a record; without it the time of arrival stands in its place.",
        }
    return _object(attributes, ["specversion", "id", "source", "type", "data"])


def _key_object(dataset: Dataset) -> Document:
    types = {field.name: field.type for field in dataset.schema.record.fields}
    properties: Document = {name: _key_field(types[name]) for name in dataset.key}
    return {**_object(properties, list(dataset.key)), "additionalProperties": True}


def _key_field(type_: Type) -> Document:
    schema = _type(type_)
    return schema | {"minLength": 1} if schema == _PLAIN[Avro.STRING] else schema


def _events(most_events: int) -> Document:
    attributes: dict[str, Document] = {
        "ce-specversion": {"const": "1.0"},
        "ce-id": _attribute("Of binary mode alone, as the others are."),
        "ce-source": _attribute("The department's."),
        "ce-type": _attribute("Which dataset, and what happened."),
        "ce-time": {"type": "string", "format": "date-time"},
        "ce-sequence": {"type": "string", "pattern": "^[0-9]{1,19}$"},
    }
    headers: list[Json] = [
        {"name": name, "in": "header", "required": False, "schema": schema} for name, schema in attributes.items()
    ]
    content: Document = {
        STRUCTURED: {"schema": _ref("event")},
        BATCH: {"schema": _ref("batch")},
        JSON: {"schema": {"type": "object", "description": "Binary mode: the event's data."}},
    }
    return {
        "operationId": "publishEvents",
        "summary": f"Publish a CloudEvent, or a batch of at most {most_events}: all of them or none.",
        "parameters": headers,
        "requestBody": {"required": True, "content": content},
        "responses": _responses(202, "receipts", *_WRITING),
    }


def _put(dataset: Dataset, most_events: int) -> Document:
    record = _ref(f"{dataset.id}.record")
    records: Document = {"type": "array", "items": record, "maxItems": most_events}
    return {
        "operationId": f"put.{dataset.id}",
        "summary": f"Publish the current state of a record of {dataset.title.en}, or of several.",
        "parameters": [_idempotency_key()],
        "requestBody": {"required": True, "content": {JSON: {"schema": {"oneOf": [record, records]}}}},
        "responses": _responses(202, "receipts", Kind.NOT_FOUND, *_WRITING),
    }


def _delete(dataset: Dataset) -> Document:
    where: Document = {
        "name": "key",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "description": "The record key as it stands on the topic: of several fields a JSON array of texts.",
    }
    return {
        "operationId": f"delete.{dataset.id}",
        "summary": f"Publish that a record of {dataset.title.en} is gone.",
        "parameters": [where, _idempotency_key()],
        "responses": _responses(202, "receipts", Kind.NOT_FOUND, *_WRITING),
    }


def _receipt() -> Document:
    where: Document = {"name": "receipt", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        "operationId": "showReceipt",
        "summary": "Say what became of a change.",
        "parameters": [where],
        "responses": _responses(200, "receipt", Kind.NOT_FOUND, Kind.TOO_MANY, *_ALWAYS),
    }


def _responses(status: int, schema: str, *kinds: Kind) -> Document:
    answers: Document = {
        str(STATUSES[kind]): {"description": TITLES[kind], "content": {PROBLEM: {"schema": _ref("problem")}}}
        for kind in kinds
    }
    answers[str(status)] = {"description": "As asked.", "content": {JSON: {"schema": _ref(schema)}}}
    return answers


def _idempotency_key() -> Document:
    return {"name": "Idempotency-Key", "in": "header", "required": False, "schema": _attribute("Repeat it on a retry.")}


def _attribute(description: str) -> Document:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_ATTRIBUTE,
        "pattern": "^[!-~]+$",
        "description": description,
    }


def _problem() -> Document:
    fault = _object(
        {
            "rule": {"type": "string"},
            "detail": {"type": "string"},
            "mend": {"type": "string"},
            "position": {"type": "integer", "minimum": 0},
            "field": {"type": "string"},
        },
        ["rule", "detail", "mend"],
    )
    return _object(
        {
            "type": {"enum": [f"urn:civicbus:problem:{kind}" for kind in Kind]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": fault},
        },
        ["type", "title", "status", "detail"],
    )


def _receipt_schema() -> Document:
    return _object(
        {
            "id": {"type": "string"},
            "dataset": {"type": "string"},
            "status": {"enum": [fate.value for fate in Fate]},
            "reason": {"enum": [reason.value for reason in Reason]},
            "field": {"type": "string"},
            "detail": {"type": "string"},
            "mend": {"type": "string"},
        },
        ["id", "dataset", "status"],
    )


def _receipts_schema() -> Document:
    receipt = _object({"id": {"type": "string"}, "receipt": {"type": "string"}}, ["id", "receipt"])
    return _object({"receipts": {"type": "array", "items": receipt}}, ["receipts"])


def _object(properties: Document, required: Sequence[str]) -> Document:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _ruled(type_: Type, quality: Quality) -> Document:
    """The JSON of a field's values, with the rules that JSON Schema can say."""
    if isinstance(type_, Nullable) and not quality.required:
        return {"anyOf": [_ruled(type_.inner, quality), {"type": "null"}]}
    schema = _type(type_.inner if isinstance(type_, Nullable) else type_)
    rules: Document = {
        "minLength": max(quality.min_length or 0, int(quality.required)) or None,
        "maxLength": quality.max_length,
        "enum": None if quality.allowed is None else [*quality.allowed],
    }
    if schema.get("type") == "string" and "pattern" not in schema:
        schema |= {name: value for name, value in rules.items() if value is not None}
    bounds: Document = {"minimum": quality.minimum, "maximum": quality.maximum}
    if schema.get("type") in {"integer", "number"}:
        schema |= {name: value for name, value in bounds.items() if value is not None}
    return schema


def _type(type_: Type) -> Document:  # noqa: PLR0911 - one for each kind of type
    match type_:
        case Primitive():
            return {**_PLAIN[type_.kind]} if type_.logical is None else _logical(type_.logical)
        case Decimal():
            return _decimal(type_)
        case Fixed():
            return {"type": "string", "contentEncoding": "base64", "description": f"{type_.size} bytes"}
        case Enum():
            return {"enum": [*type_.symbols]}
        case Array():
            return {"type": "array", "items": _type(type_.items)}
        case Map():
            return {"type": "object", "additionalProperties": _type(type_.values)}
        case Nullable():
            return {"anyOf": [_type(type_.inner), {"type": "null"}]}
        case Record():
            return _record(type_.fields)


def _record(fields: Sequence[Field]) -> Document:
    required = [field.name for field in fields if field.default is None]
    return _object({field.name: _type(field.type) for field in fields}, required)


def _decimal(type_: Decimal) -> Document:
    whole = max(type_.precision - type_.scale, 1)
    fraction = f"(\\.[0-9]{{1,{type_.scale}}})?" if type_.scale else ""
    return {"type": "string", "pattern": f"^-?[0-9]{{1,{whole}}}{fraction}$"}


def _logical(logical: Logical) -> Document:
    fraction = f"(\\.[0-9]{{1,{_DIGITS.get(logical, 6)}}})?"
    match logical:
        case Logical.DATE:
            return {"type": "string", "format": "date", "pattern": f"^{_DATE}$"}
        case Logical.TIME_MILLIS | Logical.TIME_MICROS:
            return {"type": "string", "pattern": f"^{_CLOCK}{fraction}$"}
        case Logical.TIMESTAMP_MILLIS | Logical.TIMESTAMP_MICROS:
            return {"type": "string", "format": "date-time", "pattern": f"^{_DATE}T{_CLOCK}{fraction}{_ZONE}$"}
        case Logical.LOCAL_TIMESTAMP_MILLIS | Logical.LOCAL_TIMESTAMP_MICROS:
            return {"type": "string", "pattern": f"^{_DATE}T{_CLOCK}{fraction}$"}
        case Logical.UUID:
            return {"type": "string", "format": "uuid", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
