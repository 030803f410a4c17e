"""Broker and database in containers, where a Docker engine on this machine answers.

They run on the host's network, with the settings of the embedded parts: same listeners on loopback, same
authorizer, same mechanisms. So this works on Linux, outside of containers, and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.utils import inside_container

from civicbus.infra import kafka, ports
from civicbus.infra.databases import OPERATOR_ROLE
from civicbus.infra.jars import locked
from civicbus.secrets import BROKER, OPERATOR, SecretStore
from civicbus.settings import Settings, secrets_folder

POSTGRES_IMAGE = "postgres:18"
_PING_WITHIN_S = 2
_KAFKA = "/civicbus"
_RUN_KAFKA = f"""
set -e
/opt/kafka/bin/kafka-storage.sh @{_KAFKA}/format
exec /opt/kafka/bin/kafka-server-start.sh {_KAFKA}/server.properties
"""


@cache
def docker_answers() -> bool:
    """Whether containers can stand in for the embedded parts here."""
    if sys.platform != "linux" or inside_container():
        return False
    try:
        client = docker.from_env(timeout=_PING_WITHIN_S)
        return client.api.base_url.startswith("http+docker:") and client.ping()
    except DockerException:
        return False


@contextmanager
def containers(settings: Settings) -> Iterator[Settings]:
    """The settings of a platform whose broker and database are containers; they end with the context."""
    settings.home.mkdir(parents=True, exist_ok=True)
    secrets = SecretStore(secrets_folder(settings.home))
    chosen = ports.choose(settings.home, settings)
    with _kafka(secrets, chosen), _postgres(secrets, chosen):
        operator = secrets.read(OPERATOR).password
        yield settings.model_copy(
            update={
                "bootstrap_servers": kafka.bootstrap_servers(chosen),
                "database_url": f"postgresql://{OPERATOR_ROLE}:{operator}@{ports.LOOPBACK}:{chosen.postgres}/postgres",
            }
        )


def kafka_image() -> str:
    """Of the version that the embedded broker has."""
    version = locked("kafka")[0].coordinate.rsplit(":", 1)[-1]
    return f"apache/kafka:{version}"


def _kafka(secrets: SecretStore, chosen: ports.Ports) -> DockerContainer:
    operator, broker = secrets.ensure(OPERATOR), secrets.ensure(BROKER)
    properties = kafka.server_properties(Path(f"{_KAFKA}/data"), chosen, broker)
    arguments = kafka.format_arguments(Path(f"{_KAFKA}/server.properties"), operator, broker)
    return (
        DockerContainer(kafka_image())
        .with_kwargs(network="host", user="root")
        .with_copy_into_container(properties.encode(), f"{_KAFKA}/server.properties", 0o600)
        .with_copy_into_container(arguments.encode(), f"{_KAFKA}/format", 0o600)
        .with_command(["bash", "-c", _RUN_KAFKA])
    )


def _postgres(secrets: SecretStore, chosen: ports.Ports) -> DockerContainer:
    """scram-sha-256 also for loopback, which the image would trust."""
    password = secrets.read(OPERATOR).password
    return (
        DockerContainer(POSTGRES_IMAGE)
        .with_kwargs(network="host")
        .with_envs(
            POSTGRES_USER=OPERATOR_ROLE,
            POSTGRES_DB="postgres",
            POSTGRES_PASSWORD_FILE="/civicbus-password",
            POSTGRES_INITDB_ARGS="--auth=scram-sha-256 --encoding=UTF8",
        )
        .with_copy_into_container(password.encode(), "/civicbus-password", 0o644)
        .with_command(
            [
                "postgres",
                "-c",
                f"listen_addresses={ports.LOOPBACK}",
                "-c",
                f"port={chosen.postgres}",
                "-c",
                "wal_level=logical",
            ]
        )
    )
