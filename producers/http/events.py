"""CloudEvents 1.0 over HTTP, binary, structured and batched, and plain records, as the changes they ask for. Pure.

What is checked here needs no catalogue: the event's attributes, that it is JSON, that the sender speaks for
itself. Whether ``data`` is a record of the dataset is found where it is encoded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from urllib.parse import unquote

from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.events import EARLIEST, ID_CHARACTERS, deleted, parse_sequence, parse_time, upserted
from civicbus.names import DatasetId, DepartmentId, source_of
from civicbus.producers.http.rejections import Fault, Kind, Rejected
from civicbus.schemas.codec.from_json import NotJson, parse_json
from civicbus.schemas.codec.tree import Kind as Avro
from civicbus.schemas.codec.tree import Primitive, Type
from civicbus.schemas.datasets import Dataset

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"

MOST_FAULTS = 20
LONGEST_ATTRIBUTE = ID_CHARACTERS
_PREFIX = "ce-"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One change that a request asks for. ``data`` is the record, or of a deletion its key fields."""

    event_id: str
    source: str
    dataset: DatasetId
    deletion: bool
    data: object
    time: datetime | None = None
    sequence: int | None = None
    traceparent: str | None = None

    def digest(self) -> bytes:
        """Equal for events that say the same, however their JSON is written."""
        said = [str(self.dataset), self.deletion, str(self.time), self.sequence, self.data]
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), default=_number)
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


def asked_by(department: DepartmentId, headers: Mapping[str, str], body: bytes) -> list[Asked]:
    """The changes that the events of a request ask for; raises Rejected with every fault found."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    match media_type:
        case _ if media_type == BATCH:
            documents = _list(_parsed(body))
        case _ if media_type == STRUCTURED:
            documents = [_parsed(body)]
        case _ if media_type == JSON:
            documents = [_binary(headers, body)]
        case _:
            raise Rejected(Kind.MEDIA_TYPE, f"write Content-Type: {BATCH}, {STRUCTURED}, or {JSON} with ce- headers")
    return _all(department, documents)


def records_of(dataset: DatasetId, body: bytes, media_type: str, stem: str) -> list[Asked]:
    """The upserts of a request that has one record or an array of them; event ids are ``stem`` and the position."""
    if media_type.partition(";")[0].strip().lower() != JSON:
        raise Rejected(Kind.MEDIA_TYPE, f"write Content-Type: {JSON}")
    found = _parsed(body)
    records = found if isinstance(found, list) else [found]
    source = source_of(dataset.department)
    return [
        Asked(event_id=f"{stem}-{position}", source=source, dataset=dataset, deletion=False, data=record)
        for position, record in enumerate(records)
    ]


def deletion_of(dataset: Dataset, key: str, event_id: str) -> Asked:
    """The deletion of the record with this key, written as it stands on the topic; raises Rejected for no such key."""
    data = key_fields(dataset, key)
    if data is None:
        raise Rejected(Kind.NOT_FOUND, f"this is no record key of {dataset.id}")
    source = source_of(dataset.id.department)
    return Asked(event_id=event_id, source=source, dataset=dataset.id, deletion=True, data=data)


def key_fields(dataset: Dataset, key: str) -> dict[str, object] | None:
    """The key fields of a record key, as JSON has them; None where it is no key of the dataset."""
    texts = [key] if len(dataset.key) == 1 else _texts(key)
    if len(texts) != len(dataset.key):
        return None
    types = {field.name: field.type for field in dataset.schema.record.fields}
    return {name: _key_value(types[name], text) for name, text in zip(dataset.key, texts, strict=True)}


def _texts(key: str) -> list[str]:
    try:
        found = parse_json(key.encode("utf-8", "replace"))
    except NotJson:
        return []
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _key_value(type_: Type, text: str) -> object:
    match type_:
        case Primitive(kind=Avro.INT | Avro.LONG, logical=None) if re.fullmatch(r"-?[0-9]{1,19}", text):
            return int(text)
        case Primitive(kind=Avro.BOOLEAN) if text in {"true", "false"}:
            return text == "true"
        case _:
            return text


def is_attribute(text: str) -> bool:
    """Whether a text may be an event's id or source: printable and not too long."""
    return len(text) <= LONGEST_ATTRIBUTE and _PRINTABLE.fullmatch(text) is not None


def raise_faults(kind: Kind, faults: Sequence[Fault]) -> None:
    """Raises Rejected where there are faults."""
    if faults:
        raise rejection(kind, faults)


def rejection(kind: Kind, faults: Sequence[Fault]) -> Rejected:
    """Why these events, and with them the whole request, are not taken; the first faults are named."""
    events = len({fault.position for fault in faults})
    return Rejected(kind, f"{events} of the events cannot be taken; nothing was published", faults[:MOST_FAULTS])


def _number(value: object) -> object:
    return {"number": str(value)} if isinstance(value, Decimal) else str(value)


def _parsed(body: bytes) -> object:
    try:
        return parse_json(body)
    except NotJson as fault:
        place = "" if fault.position is None else f", at byte {fault.position}"
        raise Rejected(Kind.MALFORMED, f"the body is no JSON: {fault.detail}{place}") from None


def _list(found: object) -> list[object]:
    if isinstance(found, list):
        return found
    raise Rejected(Kind.MALFORMED, "a batch is a JSON array of events")


def _binary(headers: Mapping[str, str], body: bytes) -> object:
    """The event of binary mode as structured mode would write it."""
    attributes: dict[str, object] = {
        name.removeprefix(_PREFIX): unquote(value, errors="surrogateescape")
        for name, value in headers.items()
        if name.startswith(_PREFIX)
    }
    if "traceparent" in headers:
        attributes.setdefault("traceparent", headers["traceparent"])
    return attributes | {"data": _parsed(body)}


def _all(department: DepartmentId, documents: Sequence[object]) -> list[Asked]:
    asked: list[Asked] = []
    faults: list[Fault] = []
    foreign: list[Fault] = []
    for position, document in enumerate(documents):
        if isinstance(document, dict):
            attributes = {name: value for name, value in document.items() if name not in ("data", "data_base64")}
            found = list(_faults(attributes, document, position))
            theirs = list(_foreign(department, attributes, position)) if not found else []
            faults += found
            foreign += theirs
            what = _what(str(attributes.get("type")))
            if what is not None and not found and not theirs:
                asked.append(_asked(attributes, what, document["data"]))
        else:
            faults.append(_fault(None, "an event is a JSON object", "Write the event's attributes and data.", position))
        if len(faults) + len(foreign) >= MOST_FAULTS:
            break
    raise_faults(Kind.UNPROCESSABLE, faults)
    raise_faults(Kind.FORBIDDEN, foreign)
    return asked


def _faults(attributes: dict[str, object], document: Mapping[str, object], position: int) -> Iterator[Fault]:
    """What is wrong with an event, whoever sends it."""
    yield from _specification_faults(attributes, position)
    for name in ("id", "source", "type"):
        text = attributes.get(name)
        if isinstance(text, str) and text and not is_attribute(text):
            detail = f"{name} is longer than {LONGEST_ATTRIBUTE} characters, or holds one that cannot be printed"
            yield _fault(name, detail, "Use a short text without control characters.", position)
    if isinstance(attributes.get("type"), str) and attributes["type"] and _what(str(attributes["type"])) is None:
        mend = "Write civicbus.<department>.<dataset>.upserted, or .deleted."
        yield _fault("type", "type is no change of a dataset", mend, position)
    if "sequence" in attributes and _sequence(attributes["sequence"]) is None:
        yield _fault("sequence", "sequence is no unsigned 64-bit decimal", "Write its digits, as text.", position)
    if attributes.get("datacontenttype", JSON) != JSON or "data_base64" in document:
        yield _fault("datacontenttype", "data is not JSON", f"Send data as {JSON}.", position)
    if "data" not in document:
        yield _fault("data", "data is missing", "Write the record, or of a deletion its key fields.", position)


def _specification_faults(attributes: dict[str, object], position: int) -> Iterator[Fault]:
    """What CloudEvents 1.0 itself does not allow, as its own library finds it."""
    wanted = ("specversion", "id", "source", "type")
    missing = [name for name in wanted if name not in attributes]
    yield from (_fault(name, f"{name} is missing", f"Set {name}.", position) for name in missing)
    moment = {"time": _moment(attributes["time"])} if "time" in attributes else {"time": EARLIEST}
    try:
        CloudEvent({**dict.fromkeys(missing, "1.0"), **attributes, **moment})
    except CloudEventValidationError as error:
        for name in error.errors:
            yield _fault(name, f"{name} is not as CloudEvents 1.0 wants it", f"Correct {name}.", position)


def _foreign(department: DepartmentId, attributes: Mapping[str, object], position: int) -> Iterator[Fault]:
    """Whether the event speaks for another department than the sender."""
    own, source = source_of(department), str(attributes["source"])
    if source != own and not source.startswith(f"{own}:"):
        yield _fault("source", f"source is not {own}", f"Set source to {own}.", position)
    what = _what(str(attributes["type"]))
    if what is not None and what[0].department != department:
        yield _fault("type", "type names a dataset of another department", "Publish your own datasets.", position)


def _asked(attributes: Mapping[str, object], what: tuple[DatasetId, bool], data: object) -> Asked:
    """The change of an event in which nothing is wrong."""
    traceparent = attributes.get("traceparent")
    return Asked(
        event_id=str(attributes["id"]),
        source=str(attributes["source"]),
        dataset=what[0],
        deletion=what[1],
        data=data,
        time=_moment(attributes["time"]) if "time" in attributes else None,
        sequence=_sequence(attributes["sequence"]) if "sequence" in attributes else None,
        traceparent=traceparent if isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent) else None,
    )


@lru_cache(maxsize=1024)
def _what(type_: str) -> tuple[DatasetId, bool] | None:
    """The dataset of an event's type, and whether it is a deletion."""
    parts = type_.split(".")
    if len(parts) != 4:
        return None
    try:
        dataset = DatasetId.parse(f"{parts[1]}.{parts[2]}")
    except ConfigurationError:
        return None
    return {upserted(dataset): (dataset, False), deleted(dataset): (dataset, True)}.get(type_)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return None
    try:
        return parse_time(value.upper())
    except Unacceptable:
        return None


def _sequence(value: object) -> int | None:
    text = str(value) if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)) else ""
    try:
        return parse_sequence(text.encode("utf-8", "replace"))
    except Unacceptable:
        return None


def _fault(field: str | None, detail: str, mend: str, position: int) -> Fault:
    return Fault(rule="cloudevents", detail=detail, mend=mend, position=position, field=field)
