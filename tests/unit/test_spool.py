"""A publisher with a spool, while its bus is away, slow, full or dies: what it keeps, in which order, what it says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civicbus.errors import AccessDenied, ConfigurationError, Unacceptable, Unavailable
from civicbus.names import DatasetId
from civicbus.producers import spooling as spooling_module
from civicbus.producers.async_publisher import AsyncPublisher
from civicbus.producers.journal import Journal
from civicbus.producers.publisher import Publisher
from civicbus.producers.sources import sequence_of
from civicbus.producers.spool import Spool, Spooled
from civicbus.producers.spooling import Spooling
from civicbus.reasons import Reason
from civicbus.schemas.datasets import SequenceRule
from civicbus.secrets import Credentials, Principal
from civicbus.settings import Endpoints
from civicbus.testing import FakeBus
from civicbus.transport.outgoing import Position
from civicbus.transport.promises import Promise
from support.samples import PERMITS, permits
from support.supervision import until

DATASET = permits()


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    """A second between two looks at a bus that is away is long for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spooling_module, "_LOOK_S", 0.01)
        patch.setattr(spooling_module, "_AGAIN_S", 0.01)
        yield


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus(DATASET)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "permits.spool"


def permit(number: str, status: str = "new") -> dict[str, object]:
    return {"permit_no": number, "status": status}


def numbers(bus: FakeBus) -> list[str]:
    return [one.key.decode() for one in bus.changes(DATASET)]


def test_changes_made_while_the_bus_is_away_arrive_in_order_before_newer_ones(bus, place):
    bus.go_away()
    with bus.publisher(DATASET, spool=place) as publisher:
        receipts = [publisher.upsert(permit(f"A{number % 3}", "abcdefghi"[number])) for number in range(9)]
        assert (publisher.waiting(), numbers(bus)) == (9, [])
        assert not any(receipt.done for receipt in receipts)
        bus.come_back()
        receipts.append(publisher.upsert(permit("last")))
        publisher.flush()
        assert [receipt.result(0).offset for receipt in receipts] == list(range(10))
    assert numbers(bus) == [*["A0", "A1", "A2"] * 3, "last"]
    assert bus.parked(DATASET) == []


def test_what_an_ended_program_left_is_sent_by_the_next_one_with_its_ids_and_sequences(bus, place):
    bus.go_away()
    with bus.publisher(DATASET, spool=place) as publisher:
        until(lambda: publisher._outlet._away is not None, "the bus is found away")
        receipts = [publisher.upsert(permit("A"), sequence=5), publisher.upsert(permit("B"))]
    bus.come_back()
    with bus.publisher(DATASET, spool=place) as publisher:
        newer = publisher.upsert(permit("B", "approved"))
        publisher.flush()
    assert [one.event.id for one in bus.changes(DATASET)] == [one.event_id for one in (*receipts, newer)]
    assert [one.event.sequence for one in bus.changes(DATASET)] == [5, receipts[1].sequence, newer.sequence]


def test_the_default_sequence_rises_above_all_that_the_spool_ever_held(bus, place):
    with bus.publisher(DATASET, spool=place) as publisher:
        publisher.upsert(permit("A"), sequence=2**63 + 5)
        publisher.flush()
    with bus.publisher(DATASET, spool=place) as publisher:
        assert publisher.upsert(permit("A", "approved")).sequence == 2**63 + 6


def test_a_full_spool_refuses_with_the_mend_and_takes_changes_again_when_the_bus_is_back(bus, place):
    bus.go_away()
    with bus.publisher(DATASET, spool=place, spool_bytes=2_000) as publisher:
        until(lambda: publisher._outlet._away is not None, "the bus is found away")
        taken = []
        with pytest.raises(Unavailable, match=r"spool is full.*larger spool"):
            taken.extend(publisher.upsert(permit(f"A{number}")) for number in range(50))
        assert 0 < publisher.waiting() < 10
        bus.come_back()
        publisher.flush()
        publisher.upsert(permit("B"))
    assert numbers(bus)[-1] == "B"


def test_a_flush_that_runs_out_of_time_says_how_many_wait_and_where(bus, place):
    bus.go_away()
    with bus.publisher(DATASET, spool=place) as publisher:
        publisher.upsert(permit("A"))
        with pytest.raises(Unavailable, match=rf"1 changes .* wait in {place}"):
            publisher.flush(timeout_s=0)


def test_an_error_never_tells_a_value(bus, place):
    bus.go_away()
    with bus.publisher(DATASET, spool=place, spool_bytes=300) as publisher:
        until(lambda: publisher._outlet._away is not None, "the bus is found away")
        publisher.upsert(permit("secret-1"))
        with pytest.raises(Unavailable) as full:
            publisher.upsert(permit("secret-2", "secret-2" * 30))
    assert "secret" not in f"{full.value!r}"


def test_without_a_spool_a_publisher_does_not_open_while_the_bus_is_away(bus):
    bus.go_away()
    with pytest.raises(Unavailable):
        bus.publisher(DATASET)


def test_a_slow_bus_makes_the_publisher_wait_and_no_more_is_on_its_way_than_the_limit(bus):
    with bus.publisher(DATASET, in_flight_bytes=3_000) as publisher:
        bus.hold()
        publishing = threading.Thread(target=lambda: [publisher.upsert(permit(f"A{number}")) for number in range(20)])
        publishing.start()
        until(publisher.would_wait, "the limit")
        assert 0 < publisher.waiting() < 6
        bus.release()
        publishing.join(20)
    assert numbers(bus) == [f"A{number}" for number in range(20)]


def test_an_awaited_publisher_lets_other_tasks_go_on_while_it_waits_for_a_slow_bus(bus):
    async def publish() -> list[str]:
        told: list[str] = []
        async with AsyncPublisher(bus.publisher(DATASET, in_flight_bytes=1_500)) as publisher:
            bus.hold()

            async def send() -> None:
                for number in range(9):
                    await publisher.upsert(permit(f"A{number}"))
                told.append("all sent")

            sending = asyncio.create_task(send())
            while publisher.waiting() < 2:
                await asyncio.sleep(0)
            told.append("another task ran")
            bus.release()
            await sending
        return told

    assert asyncio.run(publish()) == ["another task ran", "all sent"]
    assert len(numbers(bus)) == 9


def test_a_receipt_that_is_awaited_is_told_when_the_bus_answers_and_raises_what_failed(bus, place):
    async def publish() -> None:
        publisher = AsyncPublisher(bus.publisher(DATASET))
        bus.hold()
        first, second = [await publisher.upsert(permit(number)) for number in "AB"]
        waiting = asyncio.ensure_future(_awaited(first))
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.release()
        assert [(await waiting).offset, (await second).offset] == [0, 1]
        bus.hold()
        third = await publisher.upsert(permit("C"))
        publisher._publisher._outlet.give_up()
        with pytest.raises(Unavailable):
            await third
        bus.release()
        await publisher.close()

    asyncio.run(publish())


async def _awaited(receipt):
    return await receipt


class Refusing:
    """An outlet whose broker refuses one key, and loses the first answer to others."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault
        self.taken: list[bytes | None] = []

    def send(self, *, key, event_id, sequence, **_):
        self.taken.append(key)
        promise = Promise(event_id, sequence)
        first = self.taken.count(key) == 1
        promise.settle(self.fault if key == b"bad" and first else Position(0, len(self.taken)))
        return promise

    def topic_id(self):
        return "topic"

    def flush(self, timeout_s):
        pass

    def give_up(self):
        pass


@pytest.fixture
def spooling(place: Path) -> tuple[Publisher, Refusing]:
    outlet = Refusing(Unacceptable(Reason.TOO_LARGE, "the broker takes no record of this size"))
    return Publisher.over(Spooling(Spool(place, PERMITS), lambda: outlet), DATASET, 1), outlet


def test_what_the_broker_never_takes_stops_nothing_and_is_told_once(spooling):
    publisher, outlet = spooling
    receipt = publisher.upsert(permit("bad"))
    with pytest.raises(Unacceptable):
        receipt.result(20)
    with pytest.raises(Unacceptable, match="too_large"):
        publisher.flush()
    publisher.upsert(permit("good"))
    publisher.close()
    assert outlet.taken == [b"bad", b"good"]


def test_a_refusal_of_rights_is_told_and_the_change_stays_until_it_is_taken(place):
    outlet = Refusing(AccessDenied("no right to write"))
    publisher = Publisher.over(Spooling(Spool(place, PERMITS), lambda: outlet), DATASET, 1)
    receipt = publisher.upsert(permit("bad"))
    with pytest.raises(AccessDenied):
        publisher.flush()
    assert receipt.result(20)
    publisher.close()
    assert outlet.taken == [b"bad", b"bad"]


def test_a_second_version_is_not_sent_before_the_first_is_settled(place):
    with_spool = Spool(place, PERMITS)
    for number, key in enumerate([b"a", b"b", None, None, b"a", b"c"]):
        with_spool.append(Spooled(event_id=str(number), sequence=number, key=key, value=b"v", headers="[]"))
    block = with_spool.first(100)
    assert [change.event_id for _, change in block] == ["0", "1", "2", "3"]
    with_spool.settle(block)
    assert [change.event_id for _, change in with_spool.first(100)] == ["4", "5"]
    with_spool.close()


EVENTS = ("kill", "kill before it is settled", "away", "back", "go on", "go on")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(EVENTS)), max_size=25))
def test_whatever_happens_between_the_records_are_those_that_were_meant_and_nothing_is_parked(
    tmp_path_factory, history
):
    place, bus = tmp_path_factory.mktemp("spool") / "s", FakeBus(DATASET)
    publisher = bus.publisher(DATASET, spool=place)
    meant: dict[str, str] = {}
    for version, (number, event) in enumerate(history, 1):
        if event == "kill before it is settled":
            publisher._outlet._spool.settle = lambda _: None
        publisher.upsert(permit(number, str(version)), sequence=version)
        meant[number] = str(version)
        match event:
            case "away":
                bus.go_away()
            case "back":
                bus.come_back()
            case "kill" | "kill before it is settled":
                publisher._outlet.give_up()
                publisher = bus.publisher(DATASET, spool=place)
    bus.come_back()
    publisher.flush()
    publisher.close()
    assert {key: row["status"] for key, row in bus.records(DATASET).items()} == meant
    assert bus.parked(DATASET) == []
    sent = [(one.key, one.event.sequence) for one in bus.changes(DATASET)]
    assert [version for _, version in dict.fromkeys(sent)] == list(range(1, len(history) + 1))


def test_no_more_than_the_memory_should_hold_is_read_at_once_and_at_least_one_change(place):
    spool = Spool(place, PERMITS)
    for number in range(6):
        value = b"v" * 3 * 2**20
        spool.append(Spooled(event_id=str(number), sequence=None, key=b"%d" % number, value=value, headers="[]"))
    assert [change.event_id for _, change in spool.first(100)] == ["0", "1", "2"]
    spool.close()


def test_a_publisher_that_was_closed_takes_nothing_and_may_be_closed_again(bus, place):
    publisher = bus.publisher(DATASET, spool=place)
    publisher.close()
    publisher.close()
    with pytest.raises(Unavailable, match="closed"):
        publisher.upsert(permit("A"))


def test_a_dataset_without_sequences_is_spooled_alike(place):
    unused = permits(sequence=SequenceRule.UNUSED)
    bus = FakeBus(unused)
    bus.go_away()
    with bus.publisher(unused, spool=place) as publisher:
        for status in ("new", "approved", "new"):
            assert publisher.upsert(permit("A", status)).sequence is None
        bus.come_back()
        publisher.flush()
    assert [one.row["status"] for one in bus.changes(unused)] == ["new", "approved", "new"]
    assert bus.records(unused)["A"]["status"] == "new"


def test_a_file_of_another_dataset_or_kind_is_refused(place):
    Spool(place, PERMITS).close()
    with pytest.raises(ConfigurationError, match="one spool for each dataset"):
        Spool(place, DatasetId.parse("construction.others"))
    journal = place.with_name("journal")
    Journal(journal, PERMITS).close()
    with pytest.raises(ConfigurationError, match="is a spool of version 1, not"):
        Spool(journal, PERMITS)


def test_the_schemas_id_and_the_epoch_are_learned_once_and_then_the_platform_may_be_away(place, monkeypatch):
    monkeypatch.setattr("civicbus.producers.publisher._ASK_FOR_S", 0.2)
    owner = Credentials(Principal("construction"), "secret")
    endpoints = Endpoints(
        bootstrap_servers="127.0.0.1:1", registry_url="http://127.0.0.1:1", database_host="", database_port=0
    )
    with pytest.raises(Unavailable, match="does not know the schema"):
        Publisher.spooling(endpoints, owner, DATASET, place)
    with_spool = Spool(place, PERMITS)
    with_spool.learn_schema(DATASET.schema.fingerprint, 7)
    with_spool.learn_epoch(65)
    with_spool.close()
    monkeypatch.setattr("civicbus.producers.publisher.Outgoing", _nowhere)
    with Publisher.spooling(endpoints, owner, DATASET, place) as publisher:
        assert publisher.schema_id == 7
        assert publisher.upsert(permit("A")).sequence >= sequence_of(65, 0)
        assert publisher.waiting() == 1
    other = replace(DATASET, schemas=(replace(DATASET.schema, text=DATASET.schema.text + " "),))
    with pytest.raises(Unavailable, match="does not know the schema"):
        Publisher.spooling(endpoints, owner, other, place)


def _nowhere(*_):
    raise Unavailable("no Kafka broker answers")
