"""What CloudEvents over HTTP ask for, and what is wrong with those that ask for nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from civicbus.names import DatasetId, DepartmentId
from civicbus.producers.http.events import BATCH, JSON, STRUCTURED, Asked, asked_by, key_fields, records_of
from civicbus.producers.http.rejections import Kind, Rejected
from support.samples import permits

PARKS = DepartmentId("parks")
TREES = DatasetId(PARKS, "trees")
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "urn:civicbus:parks",
    "type": "civicbus.parks.trees.upserted",
    "data": {"tree_no": "T1"},
}


def asked(document: object, media_type: str = STRUCTURED) -> list[Asked]:
    return asked_by(PARKS, {"content-type": media_type}, json.dumps(document).encode())


def rejected(document: object, media_type: str = STRUCTURED) -> Rejected:
    with pytest.raises(Rejected) as found:
        asked(document, media_type)
    return found.value


def test_all_modes_ask_for_the_same() -> None:
    attributes = {"time": "2024-02-29T10:00:00+08:00", "sequence": "18446744073709551615", "subject": "x"}
    event = EVENT | attributes
    (structured,) = asked(event)
    headers = {f"ce-{name}": value for name, value in event.items() if name != "data"} | {"content-type": JSON}
    binary = asked_by(PARKS, headers, json.dumps(event["data"]).encode())
    assert binary == asked([event], f"{BATCH}; charset=utf-8") == [structured]
    assert structured.time == datetime(2024, 2, 29, 2, tzinfo=UTC)
    assert (structured.sequence, structured.dataset, structured.deletion) == (2**64 - 1, TREES, False)


def test_a_header_of_binary_mode_is_percent_decoded() -> None:
    headers = {f"ce-{name}": value for name, value in EVENT.items() if name != "data"}
    headers |= {"content-type": JSON, "ce-id": "%E6%A0%91%20%25"}
    assert asked_by(PARKS, headers, b"{}")[0].event_id == "树 %"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "a\x00b"}, "id"),
        ({"id": "\ud800"}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"source": None}, "source"),
        ({"type": "civicbus.parks.trees.changed"}, "type"),
        ({"type": "civicbus.parks.upserted"}, "type"),
        ({"type": "com.example.created"}, "type"),
        ({"time": "2024-02-29T10:00:00"}, "time"),
        ({"time": "20240229T100000Z"}, "time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({"time": "1969-12-31T23:59:59Z"}, "time"),
        ({"time": 5}, "time"),
        ({"sequence": "-1"}, "sequence"),
        ({"sequence": "18446744073709551616"}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"sequence": "٣"}, "sequence"),
        ({"datacontenttype": "text/plain"}, "datacontenttype"),
        ({"data_base64": "e30="}, "datacontenttype"),
        ({"Upper": "x"}, "Upper"),
    ],
)
def test_a_fault_names_its_attribute_and_its_place(changed: dict[str, object], field: str) -> None:
    found = rejected([EVENT, {**EVENT, **changed}], BATCH)
    assert found.kind is Kind.UNPROCESSABLE
    assert {(fault.position, fault.field) for fault in found.faults} == {(1, field)}


@pytest.mark.parametrize("name", list(EVENT))
def test_nothing_that_is_needed_may_be_missing(name: str) -> None:
    found = rejected({key: value for key, value in EVENT.items() if key != name})
    assert {fault.field for fault in found.faults} == {name}


@pytest.mark.parametrize(
    "changed", [{"source": "urn:civicbus:parks_2"}, {"type": "civicbus.health.trees.upserted"}, {"source": "parks"}]
)
def test_a_department_speaks_for_itself_alone(changed: dict[str, object]) -> None:
    assert rejected({**EVENT, **changed}).kind is Kind.FORBIDDEN


def test_a_department_may_name_its_systems() -> None:
    assert asked({**EVENT, "source": "urn:civicbus:parks:gis"})[0].source == "urn:civicbus:parks:gis"


@pytest.mark.parametrize(
    ("document", "media_type", "kind"),
    [
        (EVENT, BATCH, Kind.MALFORMED),
        ([EVENT], STRUCTURED, Kind.UNPROCESSABLE),
        ([1, None], BATCH, Kind.UNPROCESSABLE),
        (EVENT, JSON, Kind.UNPROCESSABLE),
        (EVENT, "application/cloudevents+avro", Kind.MEDIA_TYPE),
        (EVENT, "", Kind.MEDIA_TYPE),
    ],
)
def test_a_body_of_another_mode_is_no_event(document: object, media_type: str, kind: Kind) -> None:
    assert rejected(document, media_type).kind is kind


def test_a_digest_is_of_what_is_said_and_not_of_how() -> None:
    (one,) = asked(EVENT)
    (reordered,) = asked(dict(reversed(EVENT.items())))
    assert one.digest() == reordered.digest()
    others = [{"data": {"tree_no": "T2"}}, {"type": "civicbus.parks.trees.deleted"}, {"sequence": "1"}]
    assert len({one.digest(), *(asked({**EVENT, **other})[0].digest() for other in others)}) == 4


def test_records_have_ids_by_their_place() -> None:
    body = json.dumps([{"tree_no": "T1"}, {"tree_no": "T2"}]).encode()
    assert [one.event_id for one in records_of(TREES, body, JSON, "run-7")] == ["run-7-0", "run-7-1"]


def test_a_key_of_the_topic_gives_its_fields() -> None:
    dataset = permits()
    assert key_fields(dataset, "P/1") == {"permit_no": "P/1"}


def test_the_faults_of_a_batch_are_told_up_to_a_number() -> None:
    found = rejected([{**EVENT, "id": ""}] * 1_000, BATCH)
    assert [fault.position for fault in found.faults] == list(range(20))
