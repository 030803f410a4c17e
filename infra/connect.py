"""The Kafka Connect of one department, with Debezium: ``python -m civicbus.infra.connect --home H --department ID``.

It has that department's credentials and no others, listens on loopback and answers only to a password that is
made anew at each start. Promise: it keeps nothing that matters. How far a table was captured stands in the
department's own database (its replication slot); the offsets that Connect insists on are deleted at each start.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import httpx

from civicbus.infra.disk import full_disk_named, require_room, write_private
from civicbus.infra.jars import CAPTURE, Progress, jars, locked, silent
from civicbus.infra.java import ENVIRONMENT, Program, QuickStart, properties
from civicbus.infra.ports import LOOPBACK
from civicbus.names import DepartmentId, department_id
from civicbus.secrets import Credentials, SecretStore, principal_of
from civicbus.settings import Endpoints, capture_secrets_folder, connect_file, process_environment, secrets_folder

_HEAP_MB = 256
_ROOM_BYTES = 100_000_000
_ASK_FOR_S = 0.9
_USER = "civicbus"
_AUTHENTICATION = "org.apache.kafka.connect.rest.basic.auth.extension"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"

_LOGGING = """\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
# Names the records that it could not send.
logger.task.name = org.apache.kafka.connect.runtime.AbstractWorkerSourceTask
logger.task.level = error
"""

_SETTINGS: Mapping[str, object] = {
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "plugin.discovery": "service_load",
    "topic.creation.enable": "false",
    "connector.client.config.override.policy": "None",
    "rest.extension.classes": f"{_AUTHENTICATION}.BasicAuthSecurityRestExtension",
    "config.providers": "directory",
    "config.providers.directory.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
    # After each flush the slot in the department's database is moved on.
    "offset.flush.interval.ms": 1_000,
    "producer.acks": "all",
    "producer.enable.idempotence": "true",
    "producer.linger.ms": 0,
    "producer.batch.size": 256 * 1024,
    "producer.compression.type": "zstd",
    # A row stands in it before and after, in JSON; the topic's own limit counts compressed bytes.
    "producer.max.request.size": 64 * 1024 * 1024,
}


def fetch(cache: Path, progress: Progress = silent) -> tuple[Path, ...]:
    """The jars of Connect and Debezium, whole; fetched by the first capture of this user."""
    return jars(locked(CAPTURE), cache, progress)


def answers(home: Path, department: DepartmentId) -> bool:
    """Whether it takes requests, with the credentials that it left."""
    try:
        endpoint = json.loads(connect_file(home, department).read_text())
        who = httpx.BasicAuth(endpoint["user"], endpoint["password"])
        return httpx.get(f"{endpoint['url']}/connectors", auth=who, timeout=_ASK_FOR_S).is_success
    except (OSError, httpx.TransportError):
        return False


def prepare(home: Path, cache: Path, department: DepartmentId) -> tuple[str, ...]:
    """Download and configure: whatever is not done yet. Returns the command that runs it."""
    program = _program(fetch(cache))
    folder = connect_file(home, department).parent
    require_room(home, _ROOM_BYTES, "the files of Kafka Connect")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "offsets").unlink(missing_ok=True)
    port, password = _free_port(), secrets.token_urlsafe(32)
    credentials = SecretStore(secrets_folder(home)).read(principal_of(department))
    with full_disk_named(folder, "the files of Kafka Connect"):
        (folder / "log4j2.properties").write_text(_LOGGING)
        write_private(folder / "worker.properties", worker_properties(home, folder, port, credentials))
        write_private(folder / "users.properties", properties({_USER: password}))
        write_private(folder / "jaas.conf", _jaas(folder))
        endpoint = {"url": f"http://{LOOPBACK}:{port}", "user": _USER, "password": password}
        write_private(connect_file(home, department), json.dumps(endpoint))
    quick = QuickStart(program=program, cache=cache / "start", home=folder)
    quick.adopt()
    return program.command(str(folder / "worker.properties"), options=[*quick.options(), *_options(folder)])


def worker_properties(home: Path, folder: Path, port: int, credentials: Credentials) -> str:
    """The worker's configuration; it holds the department's secret, so it is written for this user alone."""
    endpoints = Endpoints.load(home)
    login = f'{_SCRAM} required username="{credentials.principal}" password="{credentials.password}";'
    broker = {
        "bootstrap.servers": endpoints.bootstrap_servers,
        "security.protocol": endpoints.security_protocol,
        "sasl.mechanism": endpoints.sasl_mechanism,
        "sasl.jaas.config": login,
    }
    if endpoints.tls_ca_file is not None:
        broker |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(endpoints.tls_ca_file)}
    places = {
        "listeners": f"http://{LOOPBACK}:{port}",
        "offset.storage.file.filename": str(folder / "offsets"),
        "config.providers.directory.param.allowed.paths": str(capture_secrets_folder(home)),
    }
    return properties(dict(_SETTINGS) | places | broker | {f"producer.{name}": value for name, value in broker.items()})


def _program(classpath: tuple[Path, ...]) -> Program:
    return Program(
        name="connect",
        classpath=classpath,
        main="org.apache.kafka.connect.cli.ConnectStandalone",
        options=(f"-Xmx{_HEAP_MB}m", "-Xms64m", "--enable-native-access=ALL-UNNAMED"),
    )


def _options(folder: Path) -> tuple[str, ...]:
    return (
        f"-Djava.security.auth.login.config={folder / 'jaas.conf'}",
        f"-Dlog4j2.configurationFile={(folder / 'log4j2.properties').as_uri()}",
    )


def _jaas(folder: Path) -> str:
    module = f"{_AUTHENTICATION}.PropertyFileLoginModule"
    return f'KafkaConnect {{ {module} required file="{folder / "users.properties"}"; }};\n'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Become Kafka Connect."""
    parser = argparse.ArgumentParser(prog="python -m civicbus.infra.connect")
    parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
    parser.add_argument("--department", required=True, help="whose tables are captured")
    parser.add_argument("--cache", type=Path, required=True, help="the folder of downloaded parts")
    arguments = parser.parse_args()
    home: Path = arguments.home.resolve()
    command = prepare(home, arguments.cache, department_id(arguments.department))
    folder = connect_file(home, arguments.department).parent
    os.chdir(folder)
    os.umask(0o077)
    os.execve(command[0], list(command), process_environment() | ENVIRONMENT)  # noqa: S606 - the same process goes on


if __name__ == "__main__":
    main()
