"""What tests share: one running platform a session, and departments with names that nobody else uses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.platform import Member, Platform, unique

from civicbus.infra.provision import provision_department, provision_platform
from civicbus.names import department_id
from civicbus.secrets import OPERATOR, Credentials, SecretStore, principal_of
from civicbus.settings import Endpoints, secrets_folder

# A developer's convenience: the home of a platform that runs already, used instead of starting one.
RUNNING_HOME = "CIVICBUS_TEST_HOME"


@pytest.fixture(scope="session")
def platform() -> Platform:
    home = Path(os.environ[RUNNING_HOME])
    found = Platform(home=home, endpoints=Endpoints.load(home), secrets=SecretStore(secrets_folder(home)), shared=True)
    provision_platform(found.endpoints, found.secrets)
    return found


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
