"""The owner sees what was parked and why, and sends it on again as it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from typer.testing import CliRunner, Result

from civicbus.cli.main import app
from civicbus.consumers import quarantine
from civicbus.consumers.inbox import partitions_of, read_all
from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError
from civicbus.events import UNSENDABLE_REASON
from civicbus.infra.provision import provision_dataset
from civicbus.names import DatasetId, Topic
from civicbus.quarantine import Parked
from civicbus.reasons import MENDS, Reason
from civicbus.secrets import OPERATOR
from civicbus.transport.assigned import AssignedReader, Record
from civicbus.transport.clients import confluent_producer
from civicbus.transport.resending import Resendable, send_again
from support.inboxes import eventually

HEADERS = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"event-1"),
    ("ce_sequence", b"17"),
    ("twice", b"a"),
    ("twice", b"b"),
    ("none", None),
    ("binary", b"\x00\xff"),
)


@dataclass(frozen=True)
class Days:
    changes_days: int = 7
    quarantine_days: int = 90


@dataclass(frozen=True)
class Published:
    id: DatasetId
    partitions: int = 2
    retention: Days = Days()


@pytest.fixture(scope="module")
def owner(new_department):
    return new_department("parked")


@pytest.fixture
def dataset(platform, owner, request) -> DatasetId:
    made = DatasetId(owner.id, request.node.name.removeprefix("test_")[:50])
    provision_dataset(platform.endpoints, platform.secrets, Published(made))
    return made


@pytest.fixture
def park(platform, dataset) -> Callable[..., Parked]:
    """Parks a record as admission does."""
    producer = confluent_producer(platform.endpoints, platform.secrets.read(OPERATOR), {})

    def park_one(**changed: object) -> Parked:
        parked = Parked(
            reason=Reason.SCHEMA_UNKNOWN,
            detail="the registry has no schema 9",
            topic=dataset.changes,
            partition=1,
            offset=41,
            timestamp_ms=int(time.time() * 1000) - 60_000,
            original_key="键 1".encode(),
            original_headers=HEADERS,
            value=b"\x00\x00\x00\x00\x09\x06abc",
        )
        parked = replace(parked, **changed)
        producer.produce(dataset.quarantine, parked.value, parked.key(), headers=parked.headers())
        producer.flush(30)
        return parked

    return park_one


@pytest.fixture
def command(platform) -> Callable[..., Result]:
    def run(*words: object) -> Result:
        return CliRunner().invoke(app, ["--home", str(platform.home), "quarantine", *map(str, words)])

    return run


@contextmanager
def reading(platform, credentials) -> Iterator[AssignedReader]:
    with AssignedReader(platform.endpoints, credentials, group=f"{credentials.principal}.test") as reader:
        yield reader


def changes(platform, dataset: DatasetId) -> list[Record]:
    with reading(platform, platform.secrets.read(OPERATOR)) as reader:
        return list(read_all(reader, partitions_of(reader, dataset.changes)))


def test_list_counts_by_reason_and_says_what_mends(owner, dataset, park, command) -> None:
    park(offset=1)
    park(offset=2)
    park(offset=3, reason=Reason.QUALITY_PATTERN, field="phone")
    rows = json.loads(command("list", owner.id, "--json").stdout)
    mine = [row for row in rows if row["dataset"] == dataset.name]
    assert [(row["reason"], row["field"], row["records"]) for row in mine] == [
        ("quality_pattern", "phone", 1),
        ("schema_unknown", "", 2),
    ]
    assert mine[0]["mend"] == MENDS[Reason.QUALITY_PATTERN]


def test_list_of_a_dataset_names_positions(owner, dataset, park, command) -> None:
    park(offset=41)
    park(offset=42, topic=dataset.records)
    rows = json.loads(command("list", owner.id, dataset.name, "--json").stdout)
    assert [row["position"] for row in rows] == ["1/41", f"{dataset.records}/1/42"]
    shown = command("list", owner.id, dataset.name).stdout
    assert "1/41" in shown
    assert MENDS[Reason.SCHEMA_UNKNOWN].split(",")[0] in shown


def test_show_has_the_headers_and_the_bytes(owner, dataset, park, command) -> None:
    park(value=b"\x00\x00\x00\x00\x09\x06a\x1b[31mc")
    shown = command("show", owner.id, dataset.name, "1/41").stdout
    assert "schema_unknown" in shown
    assert "键 1" in shown
    assert "ce_id: event-1" in shown
    assert "00 00 00 00 09 06 61 1b 5b 33 31 6d 63" in shown
    assert "\x1b" not in shown


def test_a_position_that_is_not_parked_is_named(owner, dataset, park, command) -> None:
    park()
    result = command("show", owner.id, dataset.name, "0/7")
    assert isinstance(result.exception, ConfigurationError)
    assert f"{dataset.changes}/0/7" in str(result.exception)


def test_a_redriven_record_is_the_refused_one(platform, owner, dataset, park, command) -> None:
    parked = park()
    result = command("redrive", owner.id, dataset.name, "1/41", "--wait", 0)
    assert result.exit_code == 0, result.output
    (again,) = changes(platform, dataset)
    assert (again.key, again.value, again.timestamp_ms) == (parked.original_key, parked.value, parked.timestamp_ms)
    assert tuple(again.headers) == HEADERS


def test_one_older_than_the_topic_takes_is_sent_with_the_time_of_now(platform, owner, dataset, park, command) -> None:
    park(timestamp_ms=int(time.time() * 1000) - 60 * 24 * 3600 * 1000)
    assert command("redrive", owner.id, dataset.name, "--all", "--wait", 0).exit_code == 0
    (again,) = changes(platform, dataset)
    assert abs(again.timestamp_ms - time.time() * 1000) < 60_000
    assert tuple(again.headers) == HEADERS


def test_several_that_are_too_old_are_sent_and_what_follows_them_stays_the_last(platform, owner, dataset) -> None:
    now, day = int(time.time() * 1000), 24 * 3600 * 1000
    times = [now - 1000, now - 60 * day, now - 1000, now - 59 * day, now - 1000]
    records = [Resendable(b"k", bytes([n]), (), at) for n, at in enumerate(times)]
    sent = send_again(platform.endpoints, owner.credentials, dataset.changes, records)
    found = {record.offset: record for record in changes(platform, dataset)}
    assert [found[each.offset].value for each in sent] == [record.value for record in records]
    assert [each.offset for each in sent] == sorted(each.offset for each in sent)
    assert max(found) == sent[-1].offset


def test_a_reason_chooses_and_a_tombstone_stays_one(platform, owner, dataset, park, command) -> None:
    park(offset=1, value=None)
    park(offset=2, reason=Reason.SEQUENCE_STALE)
    result = command("redrive", owner.id, dataset.name, "--reason", "schema_unknown", "--wait", 0, "--json")
    assert [row["position"] for row in json.loads(result.stdout)] == [f"{dataset.changes}/1/1"]
    assert [record.value for record in changes(platform, dataset)] == [None]


def test_what_cannot_be_redriven_stays_and_says_why(platform, owner, dataset, park, command) -> None:
    park(offset=1, topic=dataset.records)
    park(offset=2, reason=Reason.UNREADABLE_ROW, original_headers=((UNSENDABLE_REASON, b"unreadable_row"),))
    result = command("redrive", owner.id, dataset.name, "--all", "--wait", 0, "--json")
    assert result.exit_code == 1
    assert all(row["outcome"].startswith("not sent") for row in json.loads(result.stdout))
    assert changes(platform, dataset) == []


def test_what_is_refused_again_is_told(platform, owner, dataset, park) -> None:
    first, second = park(offset=1), park(offset=2)

    def send_and_refuse_one(records):
        sent = send_again(platform.endpoints, owner.credentials, dataset.changes, records)
        park(partition=sent[1].partition, offset=sent[1].offset, reason=Reason.SEQUENCE_STALE)
        return sent

    with reading(platform, owner.credentials) as reader:
        outcomes = quarantine.outcomes(reader, dataset.quarantine, [first, second], send_and_refuse_one, 3.0)
    assert [each.refused and each.refused.reason for each in outcomes] == [None, Reason.SEQUENCE_STALE]


def test_a_neighbour_sees_and_sends_nothing(platform, new_department, dataset, park) -> None:
    park()
    neighbour = new_department("neighbour")
    with reading(platform, neighbour.credentials) as reader:
        assert partitions_of(reader, dataset.quarantine) == []
        assert quarantine.datasets(reader, dataset.department) == []
    with pytest.raises(AccessDenied):
        send_again(platform.endpoints, neighbour.credentials, Topic(dataset.changes), [Resendable(b"k", b"v", (), 0)])


def test_redrive_wants_to_know_what(owner, command) -> None:
    for words in ((), ("1/2", "--all"), ("--all", "--reason", "frame")):
        assert isinstance(command("redrive", owner.id, "any", *words).exception, CivicbusError)


def test_a_record_that_is_no_parked_one_is_passed_over(platform, owner, dataset, park, command) -> None:
    producer = confluent_producer(platform.endpoints, platform.secrets.read(OPERATOR), {})
    producer.produce(dataset.quarantine, b"strange", b"key")
    producer.flush(30)
    park()
    eventually(lambda: len(json.loads(command("list", owner.id, dataset.name, "--json").stdout)) == 1)
