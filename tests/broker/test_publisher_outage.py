"""A broker that hangs, dies and comes back under a publisher: memory stays bounded, nothing is lost or twice."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from civicbus.errors import Unavailable
from civicbus.infra import kafka, ports
from civicbus.names import source_of
from civicbus.producers.bulk import bulk_publisher
from civicbus.producers.http import intake
from civicbus.producers.http.events import Asked
from civicbus.producers.http.receipts import ReceiptId, Receipts
from civicbus.producers.http.rejections import Kind, Rejected
from civicbus.producers.publisher import Publisher
from civicbus.secrets import OPERATOR, Credentials, SecretStore
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport import outgoing
from civicbus.transport.admin import administration
from civicbus.transport.clients import confluent_consumer
from civicbus.transport.resources import TopicSpec
from support import parts
from support.changes import Change, end_offset
from support.samples import permits
from support.supervision import until

DATASET = permits()


class Broker:
    """A broker of our own, to be stopped and killed."""

    def __init__(self, home: Path) -> None:
        self._home, self._settings = home, parts.settings(home)
        self._ports = ports.choose(home, self._settings)
        self.start()
        self.endpoints = Endpoints(
            bootstrap_servers=kafka.bootstrap_servers(self._ports), registry_url="", database_host="", database_port=0
        )
        with administration(self.endpoints, self.credentials) as admin:
            admin.create_topics([TopicSpec(name=DATASET.id.changes, partitions=DATASET.partitions, configs={})])

    @property
    def credentials(self) -> Credentials:
        return SecretStore(secrets_folder(self._home)).read(OPERATOR)

    def start(self) -> None:
        service = kafka.prepare(self._home, self._settings, self._ports)
        self.process = parts.start(service, self._home / "kafka.log")

    def keys(self) -> list[bytes]:
        """Of every record on the changes topic."""
        return [change.key for change in self.changes()]

    def changes(self) -> list[Change]:
        """Every record on the changes topic."""
        changes: list[Change] = []
        with closing(confluent_consumer(self.endpoints, self.credentials, {"group.id": "platform.tests"})) as consumer:
            for number in range(DATASET.partitions):
                partition = TopicPartition(DATASET.id.changes, number, 0)
                end = end_offset(consumer, partition)
                consumer.assign([partition])
                found = 0
                while found < end:
                    batch = consumer.consume(end - found, timeout=10.0)
                    changes += map(Change, batch)
                    found += len(batch)
        return changes


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    yield broker
    parts.kill(broker.process)


@pytest.mark.parametrize("connect", [Publisher, bulk_publisher])
def test_changes_wait_for_a_broker_that_hangs_and_for_one_that_was_killed(broker, connect):
    numbers = [f"{connect.__name__}-{number}" for number in range(3000)]
    in_flight_bytes = 256 * 1024
    with connect(broker.endpoints, broker.credentials, DATASET, 1, in_flight_bytes=in_flight_bytes) as publisher:
        receipts = [publisher.upsert({"permit_no": numbers[0]})]
        publisher.flush()

        broker.process.send_signal(signal.SIGSTOP)
        publishing = threading.Thread(
            target=lambda: receipts.extend(publisher.upsert({"permit_no": number}) for number in numbers[1:])
        )
        publishing.start()
        publishing.join(2.0)
        assert publishing.is_alive(), "the publisher waits while too much is on its way"
        assert sum(receipt.size for receipt in receipts if not receipt.done) <= in_flight_bytes
        with pytest.raises(Unavailable, match=r"after 0\.5 s"):
            publisher.flush(timeout_s=0.5)

        parts.kill(broker.process)
        broker.start()
        publishing.join(60.0)
        assert not publishing.is_alive()
    own = [key for key in broker.keys() if key.startswith(connect.__name__.encode())]  # noqa: SIM118 - a method of ours
    assert sorted(own) == sorted(number.encode() for number in numbers)


def test_http_is_told_to_come_again_while_the_broker_hangs_and_nothing_it_repeats_is_published_twice(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "ACKNOWLEDGED_WITHIN_S", 1.0)
    source = source_of(DATASET.id.department)

    def asked(number: int) -> Asked:
        data = {"permit_no": f"H{number}"}
        return Asked(event_id=f"http-{number}", source=source, dataset=DATASET.id, deletion=False, data=data)

    with (
        Receipts(tmp_path) as receipts,
        closing(
            intake.Intake(
                receipts,
                lambda dataset: bulk_publisher(broker.endpoints, broker.credentials, dataset, 1),
                lambda _: None,
                lambda: datetime.now(UTC),
            )
        ) as taking,
    ):
        datasets = {DATASET.id: DATASET}
        first = taking.take([asked(0)], datasets)
        broker.process.send_signal(signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(Rejected) as away:
                taking.take([asked(0), asked(1)], datasets)
            assert away.value.kind is Kind.UNAVAILABLE
        broker.process.send_signal(signal.SIGCONT)

        def taken() -> list[ReceiptId] | None:
            try:
                return taking.take([asked(0), asked(1)], datasets)
            except Rejected:
                return None

        again = until(taken, "the broker to take changes again")
        assert again[:1] == first
    changes = [change for change in broker.changes() if change.key in (b"H0", b"H1")]
    assert {change.key for change in changes} == {b"H0", b"H1"}
    assert len({(change.event.id, change.event.sequence, change.value) for change in changes}) == 2


def test_a_publisher_that_closes_while_the_broker_hangs_gives_up_in_time_and_says_what(broker, monkeypatch):
    publisher = Publisher(broker.endpoints, broker.credentials, DATASET, 1)
    publisher.upsert({"permit_no": "first"})
    publisher.flush()
    monkeypatch.setattr(outgoing, "DELIVERY_S", 1.0)
    broker.process.send_signal(signal.SIGSTOP)
    try:
        receipt = publisher.upsert({"permit_no": "lost"}, event_id="given-up")
        with pytest.raises(Unavailable, match="given-up"):
            publisher.close()
        with pytest.raises(Unavailable):
            receipt.result(0)
    finally:
        broker.process.send_signal(signal.SIGCONT)


def test_a_publisher_is_told_when_no_broker_answers(broker):
    with socket.socket() as unserved:
        unserved.bind(("127.0.0.1", 0))
        nowhere = broker.endpoints.model_copy(update={"bootstrap_servers": f"127.0.0.1:{unserved.getsockname()[1]}"})
        with pytest.raises(Unavailable, match="no Kafka broker answers"):
            Publisher(nowhere, broker.credentials, DATASET, 1)
