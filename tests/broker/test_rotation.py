"""A new secret: the old one is refused, the new one accepted, and a rotation that was cut short is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from civicbus.errors import AccessDenied, ConfigurationError
from civicbus.infra import databases
from civicbus.infra.provision import provision_department, provision_platform
from civicbus.infra.rotation import rotate
from civicbus.infra.sessions import operator_administration, operator_session
from civicbus.secrets import BROKER, OPERATOR, VIEWS, Credentials, Principal
from civicbus.transport.admin import administration
from civicbus.transport.authentication import authenticate
from support.platform import Member, Platform


def accepted(platform: Platform, credentials: Credentials) -> None:
    authenticate(platform.endpoints, credentials)
    databases.authenticate(platform.endpoints, credentials)


def refused(platform: Platform, credentials: Credentials) -> None:
    with pytest.raises(AccessDenied):
        authenticate(platform.endpoints, credentials)
    with pytest.raises(AccessDenied):
        databases.authenticate(platform.endpoints, credentials)


@pytest.fixture
def member(new_department: Callable[[str], Member]) -> Member:
    return new_department("rotated")


def test_the_old_secret_is_refused_and_the_new_one_accepted(platform: Platform, member: Member) -> None:
    accepted(platform, member.credentials)
    rotate(platform.endpoints, platform.secrets, member.credentials.principal)
    new = platform.secrets.read(member.credentials.principal)
    assert new.password != member.credentials.password
    accepted(platform, new)
    refused(platform, member.credentials)
    assert platform.secrets.prepared() == ()


def test_a_secret_survives_provisioning(platform: Platform, member: Member) -> None:
    rotate(platform.endpoints, platform.secrets, member.credentials.principal)
    new = platform.secrets.read(member.credentials.principal)
    provision_department(platform.endpoints, platform.secrets, member.id)
    accepted(platform, new)
    refused(platform, member.credentials)


def test_a_rotation_cut_short_before_anybody_learned_the_secret_is_finished(platform: Platform, member: Member) -> None:
    prepared = platform.secrets.prepare(member.credentials.principal)
    rotate(platform.endpoints, platform.secrets, member.credentials.principal)
    assert platform.secrets.read(member.credentials.principal) == prepared
    accepted(platform, prepared)
    refused(platform, member.credentials)


def test_a_rotation_cut_short_after_the_broker_is_finished_by_the_next_one(
    platform: Platform, operator: Credentials, member: Member
) -> None:
    prepared = platform.secrets.prepare(member.credentials.principal)
    with administration(platform.endpoints, operator) as admin:
        admin.set_secrets([prepared])
    rotate(platform.endpoints, platform.secrets, member.credentials.principal)
    accepted(platform, prepared)
    refused(platform, member.credentials)


def test_a_rotation_cut_short_after_the_database_is_finished_by_the_next_start(
    platform: Platform, operator: Credentials, member: Member
) -> None:
    prepared = platform.secrets.prepare(member.credentials.principal)
    with administration(platform.endpoints, operator) as admin:
        admin.set_secrets([prepared])
    with databases.session(platform.endpoints, operator) as session:
        databases.set_secret(session, prepared)
    provision_platform(platform.endpoints, platform.secrets)
    assert platform.secrets.read(member.credentials.principal) == prepared
    accepted(platform, prepared)
    refused(platform, member.credentials)


def test_who_lost_the_new_secret_has_the_stored_one_back_after_provisioning(
    platform: Platform, operator: Credentials, member: Member
) -> None:
    with administration(platform.endpoints, operator) as admin:
        admin.set_secrets([Credentials(member.credentials.principal, "nobody wrote this down")])
    with pytest.raises(AccessDenied):
        authenticate(platform.endpoints, member.credentials)
    provision_department(platform.endpoints, platform.secrets, member.id)
    accepted(platform, member.credentials)


@pytest.fixture
def restored(platform: Platform) -> Iterator[Callable[[Principal], Credentials]]:
    """Gives a platform principal's credentials, and gives the principal the same ones back after the test."""
    if platform.shared:
        pytest.skip("others use this platform's principals")
    kept: list[Credentials] = []

    def keep(principal: Principal) -> Credentials:
        kept.append(platform.secrets.read(principal))
        return kept[-1]

    yield keep
    for credentials in kept:
        with operator_administration(platform.endpoints, platform.secrets) as admin:
            admin.set_secrets([credentials])
        if credentials.principal == OPERATOR:
            with operator_session(platform.endpoints, platform.secrets) as session:
                databases.set_secret(session, credentials)
        platform.secrets.write(credentials)


def test_a_stage_of_the_platform_is_rotated(platform: Platform, restored: Callable[[Principal], Credentials]) -> None:
    old = restored(VIEWS)
    rotate(platform.endpoints, platform.secrets, VIEWS)
    authenticate(platform.endpoints, platform.secrets.read(VIEWS))
    with pytest.raises(AccessDenied):
        authenticate(platform.endpoints, old)


@pytest.mark.parametrize("cut_after", ["nothing", "the broker", "the database"])
def test_the_operators_own_rotation_is_finished_wherever_it_was_cut_short(
    platform: Platform, restored: Callable[[Principal], Credentials], cut_after: str
) -> None:
    old = restored(OPERATOR)
    new = platform.secrets.prepare(OPERATOR)
    if cut_after != "nothing":
        with operator_administration(platform.endpoints, platform.secrets) as admin:
            admin.set_secrets([new])
    if cut_after == "the database":
        with operator_session(platform.endpoints, platform.secrets) as session:
            databases.set_secret(session, new)
    provision_platform(platform.endpoints, platform.secrets)
    assert platform.secrets.read(OPERATOR) == new
    accepted(platform, new)
    refused(platform, old)


def test_the_brokers_own_rotation_cut_short_is_undone_by_the_next_start(
    platform: Platform, restored: Callable[[Principal], Credentials]
) -> None:
    """The broker that has started holds the current secret, and its own connections must go on."""
    current = restored(BROKER)
    with operator_administration(platform.endpoints, platform.secrets) as admin:
        admin.set_secrets([platform.secrets.prepare(BROKER)])
    provision_platform(platform.endpoints, platform.secrets)
    assert platform.secrets.read(BROKER) == current
    authenticate(platform.endpoints, current)
    rotate(platform.endpoints, platform.secrets, BROKER)
    assert platform.secrets.read(BROKER) != current


def test_somebody_without_a_secret_cannot_be_rotated(platform: Platform) -> None:
    with pytest.raises(ConfigurationError, match="no secret"):
        rotate(platform.endpoints, platform.secrets, Principal("nobody_known"))
    assert "nobody_known" not in platform.secrets.prepared()
