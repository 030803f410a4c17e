"""A publisher on a real broker: what arrives, in which partition, what is refused before and by the broker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from civicbus.errors import AccessDenied, ConfigurationError, Unacceptable, Unavailable
from civicbus.events import UNSENDABLE_FIELD, UNSENDABLE_REASON, ChangeEvent, deleted
from civicbus.infra.provision import provision_dataset
from civicbus.names import DatasetId
from civicbus.producers.bulk import bulk_publisher
from civicbus.producers.changes import Change
from civicbus.producers.publisher import Publisher
from civicbus.producers.registered import registered_schema
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Quality, SequenceRule
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR, Credentials
from civicbus.transport.clients import confluent_producer
from civicbus.transport.python_clients import python_admin
from support.changes import Owned, latest, own
from support.inboxes import eventually
from support.platform import Member, Platform
from support.samples import permits

Connect = Callable[..., Publisher]


@pytest.fixture(params=[Publisher, bulk_publisher], ids=["kafka-python", "librdkafka"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return request.param


@pytest.fixture
def owned(platform: Platform, new_department: Callable[[str], Member], connect: Connect) -> Owned:
    owned = own(platform, new_department("construction"), permits(quality=Quality(required=True)))
    return replace(owned, connect=connect)


def permit(number: object, status: object = "new", **more: object) -> dict[str, object]:
    return {"permit_no": number, "status": status, "score": None, "phone": None} | more


def test_an_upsert_and_a_deletion_arrive_as_events_with_their_key_and_row(owned):
    before = datetime.now(UTC)
    with owned.publisher() as publisher:
        receipts = [publisher.upsert(permit("京-1")), publisher.delete({"permit_no": "京-1"})]
    upsert, deletion = owned.changes()
    assert (upsert.key, owned.row(upsert)) == ("京-1".encode(), permit("京-1"))
    assert (deletion.key, deletion.value) == (upsert.key, None)
    assert upsert.event.source == f"urn:civicbus:{owned.member.id}"
    assert [one.event.type.rpartition(".")[2] for one in (upsert, deletion)] == ["upserted", "deleted"]
    assert before - timedelta(seconds=1) < upsert.event.time < datetime.now(UTC)
    assert [one.event_id for one in receipts] == [upsert.event.id, deletion.event.id]
    assert [one.sequence for one in receipts] == [upsert.event.sequence, deletion.event.sequence]
    assert receipts[0].result(0).offset == upsert.offset


def test_fields_that_have_a_default_may_be_left_out(owned):
    with owned.publisher() as publisher:
        publisher.upsert({"permit_no": "A", "status": "new"})
    assert [owned.row(change) for change in owned.changes()] == [permit("A")]


def test_a_given_id_time_and_sequence_are_used_and_the_next_sequence_is_higher(owned):
    moment = datetime(2024, 2, 29, 12, tzinfo=UTC)
    high = 2**62
    with owned.publisher() as publisher:
        publisher.upsert(permit("A"), sequence=high, event_id="case-1", time=moment)
        publisher.upsert(permit("A", "approved"))
    first, second = (change.event for change in owned.changes())
    assert (first.id, first.time, first.sequence, second.sequence) == ("case-1", moment, high, high + 1)


def test_sequences_rise_with_every_change_of_every_thread(owned):
    def publish() -> None:
        for number in range(200):
            publisher.upsert(permit(f"A{number % 5}"))

    with owned.publisher() as publisher:
        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    changes = owned.changes()
    assert len(latest(changes)) == 5
    assert len({change.event.sequence for change in changes}) == len({change.event.id for change in changes}) == 800


def test_a_dataset_without_sequences_sends_none_and_takes_none(platform, new_department):
    owned = own(platform, new_department("construction"), permits(sequence=SequenceRule.UNUSED))
    with owned.publisher() as publisher:
        publisher.upsert(permit("A"))
        with pytest.raises(Unacceptable) as refused:
            publisher.upsert(permit("A"), sequence=1)
    assert refused.value.reason is Reason.SEQUENCE_UNUSED
    assert [change.headers.get("ce_sequence") for change in owned.changes()] == [None]


@pytest.mark.parametrize(
    ("record", "reason", "field"),
    [
        (permit("A", score="many"), Reason.BYTES, "score"),
        (permit("A", score=1.5), Reason.BYTES, "score"),
        (permit("A", score=2**31), Reason.BYTES, "score"),
        (permit("A", status=5), Reason.BYTES, "status"),
        (permit("A", phone="\ud800"), Reason.BYTES, "phone"),
        (permit("A", fax="1"), Reason.BYTES, "fax"),
        (permit(5), Reason.BYTES, "permit_no"),
        (permit(None), Reason.KEY_MISSING, "permit_no"),
        (permit(""), Reason.KEY_MISSING, "permit_no"),
        ({"status": "new"}, Reason.KEY_MISSING, "permit_no"),
        (permit("A", status=None), Reason.QUALITY_REQUIRED, "status"),
        (permit("A", status=""), Reason.QUALITY_REQUIRED, "status"),
        (permit("A", phone="1" * 2**20), Reason.TOO_LARGE, None),
    ],
)
def test_a_record_that_does_not_fit_is_refused_before_it_is_sent_naming_the_field(owned, record, reason, field):
    with owned.publisher() as publisher, pytest.raises(Unacceptable) as refused:
        publisher.upsert(record)
    assert (refused.value.reason, refused.value.field) == (reason, field)
    assert owned.count() == 0


@pytest.mark.parametrize("key", [{}, {"permit_no": None}, {"permit_no": 5}, {"status": "new"}])
def test_a_deletion_needs_the_key_in_its_type(owned, key):
    with owned.publisher() as publisher, pytest.raises(Unacceptable) as refused:
        publisher.delete(key)
    assert refused.value.field == "permit_no"


def test_a_refusal_never_tells_the_value(owned):
    with owned.publisher() as publisher:
        for record in (permit("A", score="secret-1"), permit("A", phone="secret-1" * 2**18), permit(["secret-1"])):
            with pytest.raises(Unacceptable) as refused:
                publisher.upsert(record)
            assert "secret-1" not in f"{refused.value!r} {refused.value} {refused.value.__cause__}"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"sequence": -1}, "ce_sequence"),
        ({"sequence": 2**64}, "ce_sequence"),
        ({"event_id": ""}, "ce_id"),
        ({"time": datetime.fromisoformat("2024-01-01T00:00:00")}, "ce_time"),
    ],
)
def test_what_would_be_a_wrong_header_is_refused(owned, given, field):
    with owned.publisher() as publisher, pytest.raises(Unacceptable) as refused:
        publisher.upsert(permit("A"), **given)
    assert refused.value.field == field


def test_a_row_that_cannot_be_sent_is_reported_to_admission(owned):
    with owned.publisher() as publisher:
        publisher.report_unsendable({"permit_no": "", "status": "?"}, Reason.KEY_MISSING, "permit_no")
    (report,) = owned.changes()
    assert (report.key, report.value) == (None, b'{"permit_no":"","status":"?"}')
    assert report.headers[UNSENDABLE_REASON] == b"key_missing"
    assert report.headers[UNSENDABLE_FIELD] == b"permit_no"
    assert report.event.source == f"urn:civicbus:{owned.member.id}"


def test_a_key_has_the_same_partition_from_kafka_python_and_from_librdkafka(platform, new_department):
    owned = own(platform, new_department("construction"), replace(permits(), partitions=7))
    numbers = [f"{word}-{number}" for word in ("A", "许可证", "é") for number in range(60)]
    with owned.publisher() as publisher:
        ours = [publisher.upsert(permit(number)) for number in numbers]
    theirs: dict[str, int] = {}
    producer = confluent_producer(platform.endpoints, owned.member.credentials, {})
    for number in numbers:
        producer.produce(
            owned.dataset.id.changes,
            None,
            number.encode(),
            on_delivery=lambda _, message: theirs.update({message.key().decode(): message.partition()}),
        )
    producer.flush(30)
    assert {number: one.result(0).partition for number, one in zip(numbers, ours, strict=True)} == theirs
    assert len(set(theirs.values())) == 7


def test_no_more_is_on_its_way_than_the_limit_and_all_of_it_arrives(owned):
    limit = 64 * 1024
    with owned.publisher(in_flight_bytes=limit) as publisher:
        receipts = []
        for number in range(2000):
            receipts.append(publisher.upsert(permit(f"A{number}")))
            assert sum(one.size for one in receipts[-300:] if not one.done) <= limit
    assert len(owned.changes()) == 2000


def test_a_record_of_three_megabytes_passes_where_the_catalogue_allows_it(platform, new_department, connect):
    owned = own(platform, new_department("construction"), replace(permits(), max_bytes=4 * 2**20))
    owned = replace(owned, connect=connect)
    with owned.publisher() as publisher:
        publisher.upsert(permit("A", phone="1" * 3 * 2**20))
    assert owned.count() == 1


def test_what_is_too_large_for_the_topic_is_so_for_ever_and_not_waited_for(owned):
    event = ChangeEvent(
        id="e", source=f"urn:civicbus:{owned.member.id}", type=deleted(owned.dataset.id), time=datetime.now(UTC)
    )
    with owned.publisher() as publisher:
        receipt = publisher.send(Change(event=event, key=os.urandom(5_000_000), value=None))
        receipt.wait(time.monotonic() + 30)
        assert isinstance(receipt.failure, Unacceptable)
        with pytest.raises(Unacceptable, match="not delivered: 1 changes"):
            publisher.flush()


def test_anothers_topic_is_refused_by_the_broker_and_flush_names_the_event(platform, new_department, connect):
    theirs = own(platform, new_department("construction"), permits())
    intruder = new_department("intruder")
    publisher = connect(platform.endpoints, intruder.credentials, theirs.dataset, theirs.schema_id)
    receipt = publisher.upsert(permit("A"), event_id="event-A")
    with pytest.raises(AccessDenied, match="event-A"):
        publisher.flush()
    with pytest.raises(AccessDenied):
        receipt.result(0)
    publisher.close()
    assert theirs.count() == 0


def test_a_failure_is_told_by_the_next_call_and_once(platform, new_department, connect):
    theirs = own(platform, new_department("construction"), permits())
    intruder = new_department("intruder")
    with connect(platform.endpoints, intruder.credentials, theirs.dataset, theirs.schema_id) as publisher:
        receipt = publisher.upsert(permit("A"), event_id="event-A")
        with pytest.raises(AccessDenied):
            receipt.result()
        with pytest.raises(AccessDenied, match="event-A"):
            publisher.upsert(permit("B"))


def test_a_topic_that_was_made_anew_has_another_id(owned):
    with owned.publisher() as publisher, replace(owned, connect=Publisher).publisher() as plain:
        first = publisher.topic_id()
        assert publisher.topic_id() == plain.topic_id() == first
    topic = str(owned.dataset.id.changes)
    with closing(python_admin(owned.platform.endpoints, owned.platform.secrets.read(OPERATOR))) as admin:
        admin.delete_topics([topic])
        eventually(lambda: topic not in admin.list_topics())
    provision_dataset(owned.platform.endpoints, owned.platform.secrets, owned.dataset)
    with owned.publisher() as publisher:
        assert publisher.topic_id() not in {first, "None"}


def test_wrong_credentials_are_refused_at_once(owned, connect):
    wrong = Credentials(owned.member.credentials.principal, "wrong")
    with pytest.raises(AccessDenied):
        connect(owned.platform.endpoints, wrong, owned.dataset, owned.schema_id)


def test_a_flush_that_runs_out_of_time_names_what_is_on_its_way_and_a_later_one_finishes(owned):
    with owned.publisher() as publisher:
        publisher.upsert(permit("A"), event_id="slow")
        with pytest.raises(Unavailable, match="slow"):
            publisher.flush(timeout_s=0)
        publisher.flush()
    assert owned.count() == 1


def test_a_schema_that_the_platform_has_not_or_has_otherwise_is_named(owned):
    with closing(Registry(owned.platform.endpoints.registry_url)) as registry:
        assert registered_schema(registry, owned.dataset) == owned.schema_id
        with pytest.raises(ConfigurationError, match="does not know"):
            registered_schema(registry, replace(owned.dataset, id=DatasetId(owned.member.id, "unknown")))
        narrower = AvroSchema.parse(owned.dataset.schema.text.replace("permit_no", "permit_number"))
        with pytest.raises(ConfigurationError, match="another schema"):
            registered_schema(registry, replace(owned.dataset, schemas=(narrower,)))
