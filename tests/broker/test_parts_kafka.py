"""The embedded Kafka, started alone: who gets in, what it gives away, what survives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Message

from civicbus.errors import AccessDenied
from civicbus.infra import kafka, ports
from civicbus.infra.service import Service
from civicbus.names import Topic
from civicbus.secrets import BROKER, OPERATOR, Credentials, SecretStore
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.admin import administration
from civicbus.transport.authentication import authenticate
from civicbus.transport.clients import confluent_consumer, confluent_producer
from civicbus.transport.resources import TopicSpec
from support import parts
from support.kafka_wire import SASL_AUTHENTICATION_FAILED, UNSUPPORTED_SASL_MECHANISM, Peer

TOPIC = Topic("platform.survives")


class Running:
    """The part of this module's tests; ``again`` is a kill -9 and a new start."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home / "kafka.log"
        self.ports = ports.choose(home, parts.settings(home))
        self.service = self._prepare()
        self.process = parts.start(self.service, self.log)

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(
            bootstrap_servers=kafka.bootstrap_servers(self.ports), registry_url="", database_host="", database_port=0
        )

    def credentials(self) -> Credentials:
        return SecretStore(secrets_folder(self.home)).read(OPERATOR)

    def again(self) -> None:
        parts.kill(self.process)
        self.service = self._prepare()
        self.process = parts.start(self.service, self.log)

    def _prepare(self) -> Service:
        return kafka.prepare(self.home, parts.settings(self.home), self.ports)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    part = Running(tmp_path_factory.mktemp("kafka") / "家 with a space")
    yield part
    parts.kill(part.process)


@pytest.fixture(params=["kafka", "controller"])
def listener(running: Running, request: pytest.FixtureRequest) -> Iterator[Peer]:
    with closing(Peer(getattr(running.ports, request.param))) as peer:
        yield peer


def test_no_listener_answers_a_peer_that_has_not_said_who_it_is(listener: Peer) -> None:
    assert listener.metadata() is None


def test_no_listener_takes_an_anonymous_peer(listener: Peer) -> None:
    assert listener.handshake("ANONYMOUS") == UNSUPPORTED_SASL_MECHANISM


def test_the_client_listener_takes_no_password_in_the_clear(running: Running) -> None:
    with closing(Peer(running.ports.kafka)) as peer:
        assert peer.handshake("PLAIN") == UNSUPPORTED_SASL_MECHANISM


def test_the_controller_listener_knows_the_broker_alone(running: Running) -> None:
    secrets = SecretStore(secrets_folder(running.home))
    attempts = {
        (BROKER, secrets.read(BROKER).password): 0,
        (BROKER, "wrong"): SASL_AUTHENTICATION_FAILED,
        (BROKER, ""): SASL_AUTHENTICATION_FAILED,
        (OPERATOR, secrets.read(OPERATOR).password): SASL_AUTHENTICATION_FAILED,
    }
    for (user, password), expected in attempts.items():
        with closing(Peer(running.ports.controller)) as peer:
            assert peer.handshake("PLAIN") == 0
            assert peer.log_in(user, password) == expected, user


def test_the_client_listener_refuses_a_wrong_password_and_an_unknown_user(running: Running) -> None:
    authenticate(running.endpoints, running.credentials())
    for user in (OPERATOR, BROKER, "nobody"):
        with pytest.raises(AccessDenied):
            authenticate(running.endpoints, Credentials(user, "wrong"))


def test_every_port_is_on_loopback(running: Running) -> None:
    listening = [
        connection.laddr
        for connection in psutil.Process(running.process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert {address.port for address in listening} == {running.ports.kafka, running.ports.controller}
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_no_secret_stands_in_an_argument_the_environment_the_log_or_a_readable_file(running: Running) -> None:
    process = psutil.Process(running.process.pid)
    shown = " ".join([*process.cmdline(), *process.environ().values(), running.log.read_text()])
    secrets = SecretStore(secrets_folder(running.home))

    for principal in (OPERATOR, BROKER):
        password = secrets.read(principal).password
        assert password not in shown
        holders = [
            path for path in running.home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()
        ]
        assert all(path.stat().st_mode & 0o077 == 0 for path in holders)


def test_topics_and_records_survive_a_kill(running: Running) -> None:
    with administration(running.endpoints, running.credentials()) as operator:
        operator.create_topics([TopicSpec(name=TOPIC, partitions=1, configs={})])
    producer = confluent_producer(running.endpoints, running.credentials(), {"log_level": 0})
    producer.produce(TOPIC, b"before the kill")
    assert producer.flush(10) == 0

    running.again()

    assert _first(running).value() == b"before the kill"


def test_a_second_start_downloads_nothing_and_formats_nothing(running: Running) -> None:
    asked: list[str] = []

    def note(name: str, done: int, total: int) -> None:
        asked.append(name)

    formatted = (running.home / "kafka" / "data" / "meta.properties").stat().st_mtime_ns
    kafka.prepare(running.home, parts.settings(running.home), running.ports, note)

    assert asked == []
    assert (running.home / "kafka" / "data" / "meta.properties").stat().st_mtime_ns == formatted


def test_a_format_that_was_killed_half_way_is_done_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    chosen = ports.choose(home, parts.settings(home))
    draft = home / "kafka" / "data.new"
    draft.mkdir(parents=True)
    (draft / "meta.properties").write_text("node.id=1\n")

    kafka.prepare(home, parts.settings(home), chosen)
    assert "cluster.id" in (home / "kafka" / "data" / "meta.properties").read_text()
    assert {path.name for path in (home / "kafka").iterdir()} == {"data", "log4j2.properties", "server.properties"}


def _first(running: Running) -> Message:
    consumer = confluent_consumer(
        running.endpoints, running.credentials(), {"group.id": "platform.test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([TOPIC])
    try:
        message = consumer.poll(30)
        assert message is not None
        return message
    finally:
        consumer.close()
