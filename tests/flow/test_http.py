"""Changes over HTTP reach the records, each once, whatever is killed and however often a client repeats itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest

from civicbus.events import cause_of, deleted, upserted
from civicbus.names import source_of
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset
from support.ingress import RunningIngress, ingress
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
