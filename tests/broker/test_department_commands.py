"""`civicbus department` and `civicbus credentials`, as an operator types them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.errors import AccessDenied, ConfigurationError
from civicbus.infra import databases
from civicbus.secrets import Principal
from civicbus.transport.authentication import authenticate
from support.platform import Platform, unique

Run = Callable[..., str]


@pytest.fixture
def civicbus(platform: Platform) -> Run:
    """Runs the command on the platform's home and gives what it printed; its faults are raised."""

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["--home", str(platform.home), *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_a_department_is_added_listed_and_rotated_without_showing_a_secret(platform: Platform, civicbus: Run) -> None:
    name = unique("added")
    printed = civicbus("department", "add", name, "--title-zh", "税务局", "--title-en", "Tax Office")
    old = platform.secrets.read(Principal(name))
    authenticate(platform.endpoints, old)
    databases.authenticate(platform.endpoints, old)

    listed = json.loads(civicbus("department", "list", "--json"))
    assert {
        "department": name,
        "title": {"zh": "税务局", "en": "Tax Office"},
        "has_secret": True,
        "on_broker": True,
        "has_database": True,
    } in listed

    printed += civicbus("credentials", "rotate", name)
    new = platform.secrets.read(Principal(name))
    authenticate(platform.endpoints, new)
    with pytest.raises(AccessDenied):
        authenticate(platform.endpoints, old)

    assert str(platform.secrets.location(Principal(name))) in printed
    assert old.password not in printed
    assert new.password not in printed


def test_adding_a_department_again_keeps_its_secret_and_its_name(platform: Platform, civicbus: Run) -> None:
    name = unique("kept")
    civicbus("department", "add", name, "--title-en", "Land Registry")
    secret = platform.secrets.read(Principal(name))
    civicbus("department", "add", name)
    assert platform.secrets.read(Principal(name)) == secret
    assert "Land Registry" in civicbus("department", "list", "--json")


@pytest.mark.parametrize("name", ["Health", "health-care", "platform", "pg_monitor", "civicbus_operator"])
def test_a_name_that_cannot_be_a_departments_is_refused(platform: Platform, civicbus: Run, name: str) -> None:
    with pytest.raises(ConfigurationError):
        civicbus("department", "add", name)
    assert not platform.secrets.location(Principal(name)).exists()


@pytest.mark.parametrize("name", ["platform-nobody", "never_added"])
def test_a_principal_that_is_not_there_is_not_rotated(civicbus: Run, name: str) -> None:
    with pytest.raises(ConfigurationError):
        civicbus("credentials", "rotate", name)
