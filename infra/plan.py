"""What a platform consists of: parts that are started here or are external, provisioning, and our own processes.

A part that a setting names is never started; it only has to answer.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.infra import connect, databases, kafka, ports, postgres, registry
from civicbus.infra.desired import Role, departments_with, has_ingress
from civicbus.infra.health import is_healthy
from civicbus.infra.ports import Ports
from civicbus.infra.processes import Event, Notice, Tell
from civicbus.infra.provision import provision_platform
from civicbus.infra.service import Service
from civicbus.infra.supervisor import Step
from civicbus.postgres import translated
from civicbus.secrets import BROKER, OPERATOR, SecretStore
from civicbus.settings import Endpoints, IngressSettings, Settings, secrets_folder
from civicbus.transport.authentication import authenticate

PROVISIONING = "provisioning"
_EXTERNAL_WITHIN_S = 60.0
_PAUSE_S = 0.5
_CONNECT_WITHIN_S = 600.0
_CONNECT_STOPS_S = 60.0  # the first clean stop also writes the start cache
_ASK_FOR_S = 5
_TOLD_EVERY_S = 1.0
_MB = 1_000_000
_POSTGRES_PORT = 5432


def platform_plan(home: Path, settings: Settings, tell: Tell) -> list[Step]:
    """The parts, which start at the same time, and the provisioning of broker and database."""
    secrets = SecretStore(secrets_folder(home))
    _have_operator(settings, secrets)
    chosen = ports.choose(home, settings)
    endpoints = endpoints_of(settings, chosen)
    external = {
        "kafka": settings.bootstrap_servers and partial(authenticate, endpoints, secrets.read(OPERATOR), _ASK_FOR_S),
        "registry": settings.registry_url and partial(ask_registry, settings.registry_url),
        "postgres": settings.database_url and partial(_ask_database, settings.database_url),
    }
    started_here = {
        "kafka": lambda: kafka.prepare(home, settings, chosen, Downloads("kafka", tell)),
        "registry": lambda: registry.prepare(home, settings, chosen, Downloads("registry", tell)),
        "postgres": lambda: postgres.prepare(home, settings, chosen),
    }
    parts = [_external(name, ask) if ask else _started_here(name, started_here[name]) for name, ask in external.items()]
    provision = partial(_provision, home, settings, endpoints, secrets)
    return [*parts, Step(name=PROVISIONING, run=provision, after=("kafka", "postgres"))]


# librdkafka and Polars have a dozen threads a process, and glibc a heap for each of them unless told otherwise.
FRUGAL = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "1000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "POLARS_MAX_THREADS": "1",
}


_MODULES = {
    Role.TABLE: "civicbus.consumers.table",
    Role.OUTBOX: "civicbus.producers.outbox",
    Role.FOLDER: "civicbus.producers.folder",
    Role.CAPTURE: "civicbus.producers.capture",
}
_INGRESS = "civicbus.producers.http"


def app_services(home: Path, settings: Settings, ingress: IngressSettings) -> list[Service]:
    """Our own processes: those of admission and views, those that departments have here, and the ingress."""
    environment = {
        "CIVICBUS_LOG_LEVEL": settings.log_level,
        "CIVICBUS_VIEWS_MEMORY_MB": str(settings.views_memory_mb),
    } | FRUGAL
    workers = _workers("admission", settings.admission_workers) | _workers("views", settings.views_workers)
    services = [_own(home, name, words, environment) for name, words in workers.items()]
    services += _departments(home, environment)
    if has_ingress(home) or ingress.oidc_issuer:
        services.append(_own(home, "ingress", (_INGRESS,), environment | ingress.environment()))
    return services + _connects(home, settings)


def _own(home: Path, name: str, words: tuple[str, ...], environment: Mapping[str, str]) -> Service:
    """A process of ours: a module and its arguments."""
    return Service(
        name=name,
        command=(sys.executable, "-m", *words, "--home", str(home)),
        ready=partial(is_healthy, home, name),
        after=(PROVISIONING, "registry"),
        environment=environment,
    )


def _connects(home: Path, settings: Settings) -> list[Service]:
    """A Kafka Connect for each department that captures tables; the first one's downloads take their time."""
    return [
        Service(
            name=f"connect-{department}",
            command=(
                *(sys.executable, "-m", "civicbus.infra.connect", "--home", str(home), "--department", department),
                *("--cache", str(settings.cache_folder)),
            ),
            ready=partial(connect.answers, home, department),
            after=(PROVISIONING,),
            ready_timeout_s=_CONNECT_WITHIN_S,
            stop_timeout_s=_CONNECT_STOPS_S,
            essential=False,
        )
        for department in departments_with(home, Role.CAPTURE)
    ]


def _workers(stage: str, count: int) -> dict[str, tuple[str, ...]]:
    """The members of a stage's group; the first has the stage's own name."""
    module = f"civicbus.stream_apps.{stage}"
    workers: dict[str, tuple[str, ...]] = {stage: (module,)}
    return workers | {f"{stage}-{number}": (module, "--worker", str(number)) for number in range(1, count)}


def _departments(home: Path, environment: Mapping[str, str]) -> Iterator[Service]:
    """What departments have here, each process named by its role and its department.

    But for tables, what they wait for is a department's own: a database, a folder.
    """
    for role, module in _MODULES.items():
        for department in departments_with(home, role):
            service = _own(home, f"{role}-{department}", (module, "--department", department), environment)
            yield replace(service, essential=role is Role.TABLE)


def endpoints_of(settings: Settings, chosen: Ports) -> Endpoints:
    """Where the parts of this home answer."""
    database = conninfo_to_dict(settings.database_url) if settings.database_url else {}
    database_port = database.get("port") or (_POSTGRES_PORT if settings.database_url else chosen.postgres)
    return Endpoints(
        bootstrap_servers=settings.bootstrap_servers or kafka.bootstrap_servers(chosen),
        registry_url=settings.registry_url or registry.url(chosen),
        database_host=str(database.get("host", ports.LOOPBACK)),
        database_port=int(database_port),
        security_protocol=settings.security_protocol if settings.bootstrap_servers else "SASL_PLAINTEXT",
        sasl_mechanism=settings.sasl_mechanism if settings.bootstrap_servers else kafka.MECHANISM,
        tls_ca_file=settings.tls_ca_file if settings.bootstrap_servers else None,
    )


class Downloads:
    """The progress of one part's downloads, told at most once a second and at the end."""

    def __init__(self, part: str, tell: Tell) -> None:
        self._part = part
        self._tell = tell
        self._files: dict[str, tuple[int, int]] = {}
        self._told_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, file: str, done: int, total: int) -> None:
        """Take in how far one file is; called from several threads."""
        with self._lock:
            self._files[file] = (done, total)
            now = time.monotonic()
            if now - self._told_at >= _TOLD_EVERY_S:
                self._told_at = now
                self._tell(Notice(process=self._part, event=Event.PROGRESS, detail=self._text()))

    def _text(self) -> str:
        done, total = (sum(counts) / _MB for counts in zip(*self._files.values(), strict=True))
        return f"downloading {done:.1f} of {total:.1f} MB"


def _have_operator(settings: Settings, secrets: SecretStore) -> None:
    """The embedded parts get a new secret, and get it once, before they start at the same time."""
    if settings.bootstrap_servers is None:
        secrets.ensure(OPERATOR)
        secrets.ensure(BROKER)
    elif OPERATOR not in set(secrets.principals()):
        raise ConfigurationError(
            f"there are no credentials for the Kafka at {settings.bootstrap_servers}",
            mend=f'write {{"principal": "{OPERATOR}", "password": …}} of one of its super users to '
            f"{secrets.folder / OPERATOR}.json, mode 0600",
        )


def _started_here(name: str, prepare: Callable[[], Service]) -> Step:
    return Step(name=f"{name} files", run=lambda: [prepare()])


def _external(name: str, ask: Callable[[], None]) -> Step:
    return Step(name=name, run=partial(_wait_for, ask))


def _wait_for(ask: Callable[[], None]) -> Sequence[Service]:
    """Ask an external part until it answers; raises Unavailable when it still does not after a minute."""
    deadline = time.monotonic() + _EXTERNAL_WITHIN_S
    while True:
        try:
            ask()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return []


def ask_registry(url: str) -> None:
    """Raises Unavailable where no registry answers, ConfigurationError where something else does."""
    try:
        answer = httpx.get(f"{url.rstrip('/')}/subjects", timeout=_ASK_FOR_S)
    except httpx.TransportError as error:
        raise Unavailable(f"the registry at {url} does not answer: {error}") from None
    if answer.is_server_error:
        raise Unavailable(f"the registry at {url} answers {answer.status_code}")
    if answer.is_error:
        raise ConfigurationError(f"{url} answers {answer.status_code}", mend="correct CIVICBUS_REGISTRY_URL")


def _ask_database(url: str) -> None:
    with translated():
        psycopg.connect(url, connect_timeout=_ASK_FOR_S).close()


def _provision(home: Path, settings: Settings, endpoints: Endpoints, secrets: SecretStore) -> Sequence[Service]:
    """Say where the parts are, and bring them to what the platform needs."""
    if settings.database_url is not None:
        databases.claim_server(settings.database_url, secrets.read(OPERATOR))
    endpoints.save(home)
    provision_platform(endpoints, secrets)
    return []
