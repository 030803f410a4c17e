"""One department's changes into another's table, with processes killed on the way, and a log compacted meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from civicbus.cli.activation import activate, published
from civicbus.cli.demo.proof import Proof, prove, unread
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.datasets import Catalogue
from civicbus.secrets import OPERATOR
from civicbus.transport.clients import confluent_admin
from support.agreed import agreed, new_subscriber
from support.platform import Platform
from support.stages import Sender, StageProcess, everything, new_dataset, wait_for

PERMITS = json.dumps(
    {
        "type": "record",
        "name": "permit",
        "fields": [
            {"name": "permit_no", "type": "string"},
            {"name": "status", "type": "string"},
            {"name": "score", "type": ["null", "int"], "default": None},
            {"name": "note", "type": ["null", "string"], "default": None},
        ],
    }
)
KEYS = 400
KILLS = 5


@dataclass(frozen=True)
class Town:
    """A dataset that flows into a subscriber's table, and the three processes on the way."""

    platform: Platform
    sender: Sender
    agreements: list[Agreement]
    catalogue: Catalogue
    processes: list[StageProcess]

    def proofs(self) -> list[Proof]:
        return prove(self.platform.endpoints, self.platform.secrets, self.catalogue, self.agreements, lambda _: None)

    def settled(self) -> list[Proof]:
        """The proofs once all of them hold, or as they stand after too long."""
        deadline = time.monotonic() + 90
        wait_for(
            "admission to decide on everything",
            lambda: unread(self.platform.endpoints, self.platform.secrets, [self.sender.dataset.id]) == 0 or None,
            within_s=90,
        )
        proofs = self.proofs()
        while not all(proof.holds for proof in proofs) and time.monotonic() < deadline:
            time.sleep(0.5)
            proofs = self.proofs()
        return proofs


@pytest.fixture(scope="module")
def town(platform: Platform, running_admission: StageProcess, running_views: StageProcess) -> Iterator[Town]:
    dataset = new_dataset(platform, PERMITS, key=["permit_no"], partitions=2)
    subscriber = new_subscriber(platform)
    selects = {
        "approved": f"SELECT permit_no, score, mask(note, 1, 1) AS note FROM {dataset.id} WHERE status = 'approved'",
        "whole": f"SELECT permit_no, status, score, note FROM {dataset.id}",
    }
    agreements = [
        agreed(name, select, subscriber=subscriber, owners=[dataset.id.department], table=True)
        for name, select in selects.items()
    ]
    activate(platform.endpoints, platform.secrets, agreements)
    catalogue = published(platform.endpoints, platform.secrets).catalogue
    table = StageProcess("civicbus.consumers.table", platform.home, f"table-{subscriber}", ("--department", subscriber))
    table.start()
    sender = Sender(platform, dataset)
    yield Town(platform, sender, agreements, catalogue, [running_admission, running_views, table])
    table.stop()


class Stream(threading.Thread):
    """Sends changes of a few hundred records until it is told to end: upserts, deletions, re-creations."""

    def __init__(self, sender: Sender, per_second: int) -> None:
        super().__init__(daemon=True)
        self.sender, self.per_second = sender, per_second
        self.done = threading.Event()
        self.sent = 0

    def run(self) -> None:
        chance = random.Random(7)
        while not self.done.wait(0.02):
            for _ in range(self.per_second // 50):
                self.send_one(chance)
        self.sender.flush()

    def send_one(self, chance: random.Random) -> None:
        key = f"P{chance.randrange(KEYS):04d}"
        if chance.random() < 0.15:
            self.sender.send(key.encode(), None)
        else:
            row: dict[str, object] = {
                "permit_no": key,
                "status": chance.choice(("approved", "refused")),
                "score": chance.choice((None, 1, 2)),
                "note": chance.choice((None, "", "短", "a longer note")),
            }
            self.sender.upsert(row)
        self.sent += 1


def check(proofs: list[Proof]) -> None:
    assert [(proof.difference, proof.repeats) for proof in proofs] == [(None, 0)] * len(proofs)
    assert all(proof.inbox_rows == proof.table_rows == proof.expected_rows for proof in proofs)


def test_processes_killed_at_random_lose_nothing_and_repeat_nothing(town: Town) -> None:
    stream = Stream(town.sender, per_second=1_000)
    stream.start()
    chance = random.Random(11)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.3, 1.5))  # the moment of the kill is what varies
        victim = chance.choice(town.processes)
        victim.kill()
        victim.start()
    stream.done.set()
    stream.join()
    proofs = town.settled()
    assert stream.sent > KEYS
    check(proofs)
    assert all(proof.expected_rows > 0 for proof in proofs)


def test_records_and_inboxes_compacted_between_a_crash_and_the_restart_still_end_equal(town: Town) -> None:
    views = town.processes[1]
    records = town.sender.dataset.id.records
    compact(town.platform, [records, *(agreement.topic for agreement in town.agreements)])
    stream = Stream(town.sender, per_second=1_000)
    stream.start()
    time.sleep(1.0)  # let some of the stream through before the crash
    views.kill()
    time.sleep(2.0)  # and let records run ahead of the inboxes
    stream.done.set()
    stream.join()
    chance = random.Random(3)

    def compacted() -> bool | None:
        # A segment is closed by the next record, so a few more changes must come.
        stream.send_one(chance)
        town.sender.flush()
        return len(everything(town.platform, records)) < stream.sent / 2 or None

    wait_for("compaction", compacted, within_s=60)
    views.start()
    check(town.settled())


def compact(platform: Platform, topics: list[str]) -> None:
    """Have the broker compact these topics now: close their segments soon, and call any of it dirty enough."""
    admin = confluent_admin(platform.endpoints, platform.secrets.read(OPERATOR))
    prompt = {"segment.ms": "200", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "500"}
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in prompt.items()
            ],
        )
        for topic in topics
    ]
    for future in admin.incremental_alter_configs(resources).values():
        future.result(30)
