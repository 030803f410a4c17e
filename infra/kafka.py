"""The embedded Apache Kafka: one KRaft node on loopback that talks to nobody who has not proved who they are.

Clients prove it with SCRAM-SHA-512. The controller listener has one principal, the broker, and PLAIN: SCRAM's
credentials are in the metadata log, which a controller has not read yet when its own broker calls.

The storage is formatted once, with the credentials of the operator and of the broker in its first records, so
there is no moment at which somebody could connect without a secret. Formatting is all or nothing.
"""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from civicbus.errors import AccessDenied, Unavailable
from civicbus.infra.disk import full_disk_named, require_room, write_private
from civicbus.infra.jars import Progress, jars, locked, silent
from civicbus.infra.java import ENVIRONMENT, Program, QuickStart, properties
from civicbus.infra.ports import LOOPBACK, Ports, is_served
from civicbus.infra.service import Service
from civicbus.secrets import BROKER, OPERATOR, Credentials, SecretStore
from civicbus.settings import Endpoints, Settings, secrets_folder
from civicbus.transport.authentication import authenticate

MECHANISM = "SCRAM-SHA-512"
_CONTROLLER_MECHANISM = "PLAIN"
_SECURITY = "org.apache.kafka.common.security"
_HEAP_MB = 384
_ROOM_BYTES = 300_000_000
_READY_WITHIN_S = 120.0
_STOP_WITHIN_S = 60.0  # the first clean stop also writes the start cache
_ASK_FOR_S = 0.9

_LOGGING = """\
status = warn
shutdownHook = disable
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
# Who was denied what: names only, never a record's content.
logger.authorizer.name = kafka.authorizer.logger
logger.authorizer.level = info
"""

_SETTINGS: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "sasl.mechanism.inter.broker.protocol": MECHANISM,
    "sasl.mechanism.controller.protocol": _CONTROLLER_MECHANISM,
    "listener.name.client.sasl.enabled.mechanisms": MECHANISM,
    "listener.name.controller.sasl.enabled.mechanisms": _CONTROLLER_MECHANISM,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
    "super.users": f"User:{OPERATOR};User:{BROKER}",
    "auto.create.topics.enable": "false",
    # Every hour a connection proves again who it is: one made with a secret that was rotated ends then.
    "connections.max.reauth.ms": 3_600_000,
    # One node: every copy is the only one.
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # Small: a commit touches these partitions too.
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 4,
    "group.coordinator.threads": 1,
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    # After a kill the broker may register again when the controller has given its predecessor up.
    "broker.session.timeout.ms": 4_000,
    "broker.heartbeat.interval.ms": 1_000,
    # Groups and transactions of processes that died are taken over within seconds.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 3_000,
    "group.consumer.min.session.timeout.ms": 3_000,
    "group.consumer.session.timeout.ms": 10_000,
    "group.consumer.min.heartbeat.interval.ms": 1_000,
    "group.consumer.heartbeat.interval.ms": 2_000,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    # A topic says how large its records may be; the largest are quarantined ones of 8 MiB.
    "message.max.bytes": 9 * 1024 * 1024,
    "replica.fetch.max.bytes": 9 * 1024 * 1024,
    # A topic that asks for prompt compaction gets it.
    "log.cleaner.backoff.ms": 1_000,
    "log.retention.check.interval.ms": 60_000,
}


def prepare(home: Path, settings: Settings, ports: Ports, progress: Progress = silent) -> Service:
    """Download, format, configure: whatever is not done yet. The service is then ready to be started."""
    classpath = jars(locked("kafka"), settings.cache_folder, progress)
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    secrets = SecretStore(secrets_folder(home))
    operator, broker = secrets.ensure(OPERATOR), secrets.ensure(BROKER)
    with full_disk_named(folder, "Kafka's files"):
        _logging_file(home).write_text(_LOGGING)
        if not _data(home).exists():
            _format(_storage_tool(classpath), home, ports, operator, broker)
        write_private(_settings_file(home), server_properties(_data(home), ports, broker))
    program = _server(classpath)
    quick = QuickStart(program=program, cache=settings.cache_folder / "start", home=folder)
    quick.adopt()
    return Service(
        name="kafka",
        command=program.command(str(_settings_file(home)), options=[*quick.options(), _logging(home)]),
        ready=partial(_answers, ports, secrets),
        environment=ENVIRONMENT,
        folder=folder,
        ready_timeout_s=_READY_WITHIN_S,
        stop_timeout_s=_STOP_WITHIN_S,
    )


def bootstrap_servers(ports: Ports) -> str:
    """Where clients find the broker."""
    return f"{LOOPBACK}:{ports.kafka}"


def _server(classpath: tuple[Path, ...]) -> Program:
    return Program(name="kafka", classpath=classpath, main="kafka.Kafka", options=(f"-Xmx{_HEAP_MB}m", "-Xms64m"))


def _storage_tool(classpath: tuple[Path, ...]) -> Program:
    options = ("-Xmx96m", "-XX:TieredStopAtLevel=1")
    return Program(name="kafka-storage", classpath=classpath, main="kafka.tools.StorageTool", options=options)


def _logging(home: Path) -> str:
    return f"-Dlog4j2.configurationFile={_logging_file(home).as_uri()}"


def _format(tool: Program, home: Path, ports: Ports, operator: Credentials, broker: Credentials) -> None:
    """Format a draft of the data folder and put it in place; the secrets reach the tool through a private file."""
    require_room(_folder(home), _ROOM_BYTES, "Kafka's files")
    draft, arguments = _folder(home) / "data.new", _folder(home) / "format.arguments"
    shutil.rmtree(draft, ignore_errors=True)
    write_private(_settings_file(home), server_properties(draft, ports, broker))
    try:
        write_private(arguments, format_arguments(_settings_file(home), operator, broker))
        tool.run(f"@{arguments}", options=[_logging(home)], folder=_folder(home))
    finally:
        arguments.unlink(missing_ok=True)
    draft.rename(_data(home))


def format_arguments(settings: Path, operator: Credentials, broker: Credentials) -> str:
    """The storage tool's arguments, one a line, for a file that only the tool reads."""
    lines = ["format", "--config", str(settings), "--cluster-id", _cluster_id()]
    for who in (operator, broker):
        lines += ["--add-scram", f"{MECHANISM}=[name={who.principal},password={who.password}]"]
    return "\n".join(lines) + "\n"


def server_properties(data: Path, ports: Ports, broker: Credentials) -> str:
    """The node's settings, its own secret among them."""
    who = f'username="{broker.principal}" password="{broker.password}"'
    accepted = f'user_{broker.principal}="{broker.password}"'
    places = {
        "listeners": f"CLIENT://{LOOPBACK}:{ports.kafka},CONTROLLER://{LOOPBACK}:{ports.controller}",
        "advertised.listeners": f"CLIENT://{LOOPBACK}:{ports.kafka}",
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports.controller}",
        "listener.name.client.scram-sha-512.sasl.jaas.config": f"{_SECURITY}.scram.ScramLoginModule required {who};",
        "listener.name.controller.plain.sasl.jaas.config": (
            f"{_SECURITY}.plain.PlainLoginModule required {who} {accepted};"
        ),
        "log.dirs": data,
    }
    return properties(dict(_SETTINGS) | places)


def _cluster_id() -> str:
    """A random id as Kafka writes them; the tools would take a leading hyphen for an option."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return text if not text.startswith("-") else _cluster_id()


def _answers(ports: Ports, secrets: SecretStore) -> bool:
    """An authenticated request is answered; raises AccessDenied where no secret of the operator is the broker's."""
    if not is_served(ports.kafka):
        return False
    endpoints = Endpoints(
        bootstrap_servers=bootstrap_servers(ports), registry_url="", database_host="", database_port=0
    )
    *others, last = secrets.candidates(OPERATOR)
    for operator in others:
        with suppress(AccessDenied):
            return _lets_in(endpoints, operator)
    return _lets_in(endpoints, last)


def _lets_in(endpoints: Endpoints, operator: Credentials) -> bool:
    try:
        authenticate(endpoints, operator, timeout_s=_ASK_FOR_S)
    except Unavailable:
        return False
    return True


def _folder(home: Path) -> Path:
    return home / "kafka"


def _data(home: Path) -> Path:
    return _folder(home) / "data"


def _settings_file(home: Path) -> Path:
    return _folder(home) / "server.properties"


def _logging_file(home: Path) -> Path:
    return _folder(home) / "log4j2.properties"
