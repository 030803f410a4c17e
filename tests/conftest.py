"""What tests share: one running platform a session, and departments with names that nobody else uses."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from docker.errors import DockerException

from civicbus.infra import postgres
from civicbus.infra.platform import start_platform
from civicbus.infra.provision import provision_department, provision_platform
from civicbus.names import department_id
from civicbus.secrets import OPERATOR, Credentials, SecretStore, principal_of
from civicbus.settings import Endpoints, Settings, secrets_folder
from support.containers import POSTGRES_IMAGE, containers, docker_answers, kafka_image
from support.platform import Member, Platform, unique
from support.stages import StageProcess, admission

# A developer's convenience: the home of a platform that runs already, used instead of starting one.
RUNNING_HOME = "CIVICBUS_TEST_HOME"


def pytest_report_header() -> str:
    return f"platform for broker tests: {_source()}"


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Broker, registry and database, provisioned; started by the first test that asks for them."""
    if running := os.environ.get(RUNNING_HOME):
        found = _platform(Path(running), shared=True)
        provision_platform(found.endpoints, found.secrets)
        yield found
        return
    home = tmp_path_factory.mktemp("platform")
    with _started(_own_settings(home)):
        yield _platform(home, shared=False)


def _source() -> str:
    if running := os.environ.get(RUNNING_HOME):
        return f"the running one of {RUNNING_HOME}={running}"
    if docker_answers():
        return f"containers ({kafka_image()}, {POSTGRES_IMAGE}), the registry embedded"
    return "embedded (no Docker engine answers here)"


def _own_settings(home: Path) -> Settings:
    """Nothing external, whatever the environment says: tests write where they connect."""
    return Settings(home=home, bootstrap_servers=None, registry_url=None, database_url=None)


@contextmanager
def _started(settings: Settings) -> Iterator[None]:
    with ExitStack() as stack:
        running = start_platform(_with_containers(settings, stack), apps=False)
        stack.callback(postgres.wipe, settings.home)
        stack.callback(running.stop)
        yield


def _with_containers(settings: Settings, stack: ExitStack) -> Settings:
    if not docker_answers():
        return settings
    try:
        return stack.enter_context(containers(settings))
    except DockerException as error:
        warnings.warn(f"the embedded parts are used, because Docker answers and then says: {error}", stacklevel=1)
        return settings


def _platform(home: Path, *, shared: bool) -> Platform:
    return Platform(home=home, endpoints=Endpoints.load(home), secrets=SecretStore(secrets_folder(home)), shared=shared)


@pytest.fixture(scope="session")
def running_admission(platform: Platform) -> Iterator[StageProcess]:
    process = admission(platform.home)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def operator(platform: Platform) -> Credentials:
    return platform.secrets.read(OPERATOR)


@pytest.fixture(scope="session")
def new_department(platform: Platform) -> Callable[[str], Member]:
    """Makes a department whose name begins so and is used by no other test."""

    def make(stem: str = "dept") -> Member:
        name = department_id(unique(stem))
        provision_department(platform.endpoints, platform.secrets, name)
        return Member(id=name, credentials=platform.secrets.read(principal_of(name)))

    return make
