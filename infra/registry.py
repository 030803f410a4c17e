"""The embedded schema registry: Apicurio Registry 3 on loopback, its schemas in an H2 file in the home.

Promise: a schema id that was answered stays that schema's, also when the process is killed the moment after.
Equal schemas have equal ids under every subject; the rule for all subjects is BACKWARD_TRANSITIVE.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import httpx

from civicbus.infra.disk import full_disk_named, require_room
from civicbus.infra.jars import Progress, locked, silent, unpacked
from civicbus.infra.java import ENVIRONMENT, Program, properties
from civicbus.infra.ports import LOOPBACK, Ports
from civicbus.infra.service import Service
from civicbus.settings import Settings

COMPATIBILITY = "BACKWARD_TRANSITIVE"
_API = "/apis/ccompat/v7"
_HEAP_MB = 160
_ROOM_BYTES = 50_000_000
_READY_WITHIN_S = 120.0
_ASK_FOR_S = 0.9

_SETTINGS: Mapping[str, object] = {
    "quarkus.http.host": LOOPBACK,
    "quarkus.management.host": LOOPBACK,
    "quarkus.management.port": 0,
    "quarkus.http.cors.enabled": "false",
    "quarkus.http.access-log.enabled": "false",
    "quarkus.http.io-threads": 2,
    "quarkus.thread-pool.max-threads": 8,
    "quarkus.oidc.enabled": "false",
    "quarkus.log.console.format": "%d{yyyy-MM-dd'T'HH:mm:ss.SSSZ} %p [%c{1.}] %m%n",
    'quarkus.log.category."io.apicurio".level': "WARN",
    "apicurio.storage.kind": "sql",
    "apicurio.storage.sql.kind": "h2",
    "apicurio.datasource.username": "sa",
    "apicurio.datasource.password": "sa",  # of a file that this user alone can read
    "apicurio.datasource.jdbc.initial-size": 1,
    "apicurio.datasource.jdbc.min-size": 1,
    "apicurio.datasource.jdbc.max-size": 8,
    "apicurio.rules.global.compatibility": COMPATIBILITY,
    "apicurio.ccompat.legacy-id-mode.enabled": "false",
    "apicurio.config.dynamic.allow-all": "false",
    "apicurio.disable.apis": "/apis/registry/v2/.*,/apis/registry/v3/.*",
}


def prepare(home: Path, settings: Settings, ports: Ports, progress: Progress = silent) -> Service:
    """Download and configure: whatever is not done yet. The service is then ready to be started."""
    (archive,) = locked("registry")
    program = unpacked(archive, settings.cache_folder, progress)
    folder = home / "registry"
    require_room(home, _ROOM_BYTES, "the registry's files")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with full_disk_named(folder, "the registry's files"):
        _settings_file(folder).write_text(_properties(folder, ports))
    return Service(
        name="registry",
        command=_program(program, _settings_file(folder)).command(),
        ready=partial(_answers, url(ports)),
        environment=ENVIRONMENT,
        folder=folder,
        ready_timeout_s=_READY_WITHIN_S,
    )


def url(ports: Ports) -> str:
    """The base of its Confluent-compatible API."""
    return f"http://{LOOPBACK}:{ports.registry}{_API}"


def _program(folder: Path, settings_file: Path) -> Program:
    return Program(
        name="registry",
        classpath=(folder / "quarkus-run.jar",),
        main="io.quarkus.bootstrap.runner.QuarkusEntryPoint",
        options=(
            f"-Xmx{_HEAP_MB}m",
            "-Xms32m",
            # It answers some hundred requests in its life: the second compiler would cost more than it wins.
            "-XX:TieredStopAtLevel=1",
            "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
            # What the jar's manifest would say, were it started with -jar.
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "--enable-native-access=ALL-UNNAMED",
            f"-Dsmallrye.config.locations={settings_file.as_uri()}",
        ),
    )


def _settings_file(folder: Path) -> Path:
    return folder / "application.properties"


def _properties(folder: Path, ports: Ports) -> str:
    # Without a write delay, what was answered is in the file; H2's default keeps it in memory for half a second.
    places = {
        "quarkus.http.port": ports.registry,
        "apicurio.datasource.url": f"jdbc:h2:file:{folder / 'registry'};WRITE_DELAY=0",
        "apicurio.storage.snapshot.location": folder,
        "apicurio.import.work-dir": folder,
    }
    return properties(dict(_SETTINGS) | places)


def _answers(base: str) -> bool:
    """Its storage answers, not only its port."""
    try:
        return httpx.get(f"{base}/config", timeout=_ASK_FOR_S, trust_env=False).is_success
    except httpx.TransportError:
        return False
