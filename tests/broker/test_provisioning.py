"""What broker and database hold after provisioning, and after provisioning again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from civicbus.errors import AccessDenied, ConfigurationError
from civicbus.infra import access, databases, topics
from civicbus.infra.provision import (
    activate_inbox,
    departments,
    entitle_department,
    provision_dataset,
    provision_department,
    provision_platform,
)
from civicbus.names import AgreementId, DatasetId, department_id, inbox_topic
from civicbus.schemas.datasets import Title
from civicbus.secrets import ADMISSION, INGRESS, OPERATOR, VIEWS, Credentials, principal_of
from civicbus.transport.admin import administration
from civicbus.transport.authentication import authenticate
from civicbus.transport.resources import Binding, ByteQuota, Operation, Resource
from support.platform import Kept, Member, Platform, Published, unique

AGREEMENT = AgreementId("agreed")


def held(platform: Platform, operator: Credentials, member: Member) -> object:
    """Everything that provisioning decides about a department, as broker and database have it."""
    dataset = DatasetId(member.id, "visits")
    names = [dataset.changes, dataset.records, dataset.quarantine, inbox_topic(member.id, AGREEMENT)]
    with administration(platform.endpoints, operator) as admin:
        rights = {b for b in admin.bindings() if b.principal == member.credentials.principal}
        return admin.topics(names), rights, admin.quotas()[member.credentials.principal]


def test_a_department_holds_exactly_its_rights_its_quota_and_its_topics(
    platform: Platform, operator: Credentials, new_department: Callable[[str], Member]
) -> None:
    member = new_department("exact")
    dataset = Published(id=DatasetId(member.id, "visits"), partitions=3, retention=Kept(changes_days=5))
    provision_dataset(platform.endpoints, platform.secrets, dataset)
    activate_inbox(platform.endpoints, platform.secrets, member.id, AGREEMENT, 3)

    found, rights, quota = held(platform, operator, member)

    assert rights == access.department_rights(member.id, [AGREEMENT])
    assert quota == access.DEPARTMENT_QUOTA
    for spec in (*topics.dataset_topics(dataset), topics.inbox_spec(member.id, AGREEMENT, 3)):
        assert found[spec.name].partitions == 3
        assert spec.configs.items() <= found[spec.name].configs.items()


def test_provisioning_again_changes_nothing(
    platform: Platform, operator: Credentials, new_department: Callable[[str], Member]
) -> None:
    member = new_department("again")
    dataset = Published(id=DatasetId(member.id, "visits"))

    def everything() -> object:
        provision_platform(platform.endpoints, platform.secrets)
        provision_department(platform.endpoints, platform.secrets, member.id)
        provision_dataset(platform.endpoints, platform.secrets, dataset)
        activate_inbox(platform.endpoints, platform.secrets, member.id, AGREEMENT, 1)
        return held(platform, operator, member)

    assert everything() == everything()
    assert platform.secrets.read(member.credentials.principal) == member.credentials


def test_the_platforms_stages_hold_exactly_their_rights(platform: Platform, operator: Credentials) -> None:
    with administration(platform.endpoints, operator) as admin:
        rights = {b for b in admin.bindings() if b.principal in {ADMISSION, VIEWS, INGRESS}}
    assert rights == access.platform_rights()
    for stage in (ADMISSION, VIEWS, INGRESS):
        authenticate(platform.endpoints, platform.secrets.read(stage))


def test_what_was_changed_by_hand_is_put_right(
    platform: Platform, operator: Credentials, new_department: Callable[[str], Member]
) -> None:
    member = new_department("mended")
    principal = member.credentials.principal
    dataset = Published(id=DatasetId(member.id, "visits"))
    provision_dataset(platform.endpoints, platform.secrets, dataset)
    excess = Binding(
        principal=principal, resource=Resource.TOPIC, name="records.", operation=Operation.READ, prefixed=True
    )
    missing = next(iter(access.department_rights(member.id)))
    with administration(platform.endpoints, operator) as admin:
        admin.grant([excess])
        admin.withdraw([missing])
        admin.set_quotas({principal: ByteQuota(produce=1_000, consume=1_000)})
        admin.alter_topics({dataset.id.changes: {"retention.ms": "1000000"}})

    provision_department(platform.endpoints, platform.secrets, member.id)
    provision_dataset(platform.endpoints, platform.secrets, dataset)

    found, rights, quota = held(platform, operator, member)
    assert rights == access.department_rights(member.id)
    assert quota == access.DEPARTMENT_QUOTA
    assert found[dataset.id.changes].configs["retention.ms"] == str(7 * topics.DAY_MS)


def test_another_number_of_partitions_is_refused_and_nothing_is_altered(
    platform: Platform, operator: Credentials, new_department: Callable[[str], Member]
) -> None:
    member = new_department("grown")
    id_ = DatasetId(member.id, "visits")
    provision_dataset(platform.endpoints, platform.secrets, Published(id=id_, partitions=2))
    before, _, _ = held(platform, operator, member)
    with pytest.raises(ConfigurationError, match="has 2 partitions, 3 are wanted"):
        provision_dataset(
            platform.endpoints,
            platform.secrets,
            Published(id=id_, partitions=3, retention=Kept(changes_days=1)),
        )
    assert held(platform, operator, member)[0] == before


def test_a_departments_role_is_an_ordinary_one_that_owns_its_database(
    platform: Platform, operator: Credentials, new_department: Callable[[str], Member]
) -> None:
    member = new_department("ordinary")
    with databases.session(platform.endpoints, operator) as session:
        powers = session.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin,"
            " left(rolpassword, 14) FROM pg_authid WHERE rolname = %s",
            (member.id,),
        ).fetchone()
        owner = session.execute(
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s",
            (member.id,),
        ).fetchone()
        open_to_all = session.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND has_database_privilege('public', oid, 'CONNECT')"
        ).fetchall()
    assert powers == (False, False, False, False, False, True, "SCRAM-SHA-256$")
    assert owner == (member.id, "UTF8")
    assert open_to_all == []


def test_a_role_with_power_is_not_taken_for_a_departments(platform: Platform, operator: Credentials) -> None:
    name = department_id(unique("mighty"))
    with databases.session(platform.endpoints, operator) as session:
        session.execute(f'CREATE ROLE "{name}" SUPERUSER')
        try:
            with pytest.raises(ConfigurationError, match="may do more"):
                provision_department(platform.endpoints, platform.secrets, name)
        finally:
            session.execute(f'DROP ROLE "{name}"')
            platform.secrets.location(principal_of(name)).unlink()


def test_a_database_whose_making_was_cut_short_is_opened_for_its_owner_only(
    platform: Platform, operator: Credentials, new_department: Callable[[str], Member]
) -> None:
    member, other = new_department("cut"), new_department("other")
    with databases.session(platform.endpoints, operator) as session:
        session.execute(f'ALTER DATABASE "{member.id}" ALLOW_CONNECTIONS false')
        session.execute(f'GRANT CONNECT ON DATABASE "{member.id}" TO PUBLIC')
    provision_department(platform.endpoints, platform.secrets, member.id)
    databases.authenticate(platform.endpoints, member.credentials)
    with pytest.raises(AccessDenied), databases.session(platform.endpoints, other.credentials, member.id):
        pass


def test_departments_are_listed_with_their_names_and_what_is_missing(
    platform: Platform, new_department: Callable[[str], Member]
) -> None:
    member = new_department("listed")
    title = Title(zh="市场监管局", en="Market Regulation")
    entitle_department(platform.endpoints, platform.secrets, member.id, title)
    place = platform.secrets.location(member.credentials.principal)
    aside = place.rename(place.with_suffix(".aside"))
    try:
        (status,) = [s for s in departments(platform.endpoints, platform.secrets) if s.department == member.id]
    finally:
        aside.rename(place)
    assert (status.title, status.has_secret, status.on_broker, status.has_database) == (title, False, True, True)


def test_no_secret_is_readable_by_others_or_shown(platform: Platform, new_department: Callable[[str], Member]) -> None:
    member = new_department("hidden")
    assert platform.secrets.folder.stat().st_mode & 0o077 == 0
    assert platform.secrets.location(member.credentials.principal).stat().st_mode & 0o077 == 0
    assert member.credentials.password not in repr(member)
    assert platform.secrets.read(OPERATOR).password not in repr(platform)
