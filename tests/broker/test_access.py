"""What a department is refused, and what it may do, each tried with real clients on a real broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from civicbus.errors import AccessDenied, CivicbusError
from civicbus.infra import access, databases
from civicbus.infra.provision import activate_inbox, provision_dataset, provision_department, revoke_inbox
from civicbus.names import (
    AGREEMENTS_TOPIC,
    CATALOGUE_TOPIC,
    SOURCES_TOPIC,
    AgreementId,
    DatasetId,
    department_id,
    inbox_topic,
)
from civicbus.secrets import ADMISSION, VIEWS, Credentials, principal_of
from civicbus.transport.admin import administration
from civicbus.transport.authentication import authenticate
from support.attempts import VALUE, KafkaPython, Librdkafka, fetch_by_id, topic_id_of
from support.platform import Member, Platform, Published, unique

Client = type[Librdkafka] | type[KafkaPython]
both_clients = pytest.mark.parametrize("client", [Librdkafka, KafkaPython], ids=["confluent-kafka", "kafka-python"])
AGREEMENT = AgreementId("agreed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A department with a dataset and an inbox that holds one row."""

    member: Member
    dataset: DatasetId
    inbox: str

    @property
    def id(self) -> str:
        return self.member.id

    @property
    def credentials(self) -> Credentials:
        return self.member.credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two departments; the second one's name begins with the first one's."""

    one: Party
    other: Party


@pytest.fixture(scope="module")
def pair(platform: Platform) -> Pair:
    name = unique("health")
    ids = (department_id(name), department_id(f"{name}_insurance"))
    datasets = [DatasetId(department, "visits") for department in ids]
    provision_department(platform.endpoints, platform.secrets, *ids)
    provision_dataset(platform.endpoints, platform.secrets, *(Published(id=dataset) for dataset in datasets))
    parties = []
    for department, dataset in zip(ids, datasets, strict=True):
        activate_inbox(platform.endpoints, platform.secrets, department, AGREEMENT, 1)
        inbox = inbox_topic(department, AGREEMENT)
        Librdkafka(platform.endpoints, platform.secrets.read(VIEWS)).write(inbox)
        member = Member(id=department, credentials=platform.secrets.read(principal_of(department)))
        parties.append(Party(member=member, dataset=dataset, inbox=inbox))
    return Pair(one=parties[0], other=parties[1])


@pytest.fixture(params=["shorter name", "longer name"])
def us(request: pytest.FixtureRequest, pair: Pair) -> Party:
    return pair.one if request.param == "shorter name" else pair.other


@pytest.fixture
def them(us: Party, pair: Pair) -> Party:
    return pair.other if us is pair.one else pair.one


@both_clients
def test_another_departments_inbox_cannot_be_read(platform: Platform, us: Party, them: Party, client: Client) -> None:
    with pytest.raises(AccessDenied):
        client(platform.endpoints, us.credentials).read(them.inbox, f"{us.id}.curious")


def test_the_broker_refuses_a_fetch_whatever_the_client_knows(
    platform: Platform, operator: Credentials, us: Party, them: Party
) -> None:
    topic_id = topic_id_of(platform.endpoints, operator, them.inbox)
    assert VALUE in fetch_by_id(platform.endpoints, them.credentials, them.inbox, topic_id)
    with pytest.raises(AccessDenied):
        fetch_by_id(platform.endpoints, us.credentials, them.inbox, topic_id)


@both_clients
def test_another_departments_changes_cannot_be_written(
    platform: Platform, us: Party, them: Party, client: Client
) -> None:
    """Both ways round: the right of ``health`` does not reach ``health_insurance``, nor the other way."""
    for idempotent in (True, False):
        with pytest.raises(AccessDenied):
            client(platform.endpoints, us.credentials).write(them.dataset.changes, idempotent=idempotent)


@both_clients
@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_no_records_topic_can_be_written(platform: Platform, pair: Pair, client: Client, whose: str) -> None:
    owner = pair.one if whose == "own" else pair.other
    with pytest.raises(AccessDenied):
        client(platform.endpoints, pair.one.credentials).write(owner.dataset.records)


@both_clients
@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_no_inbox_can_be_written(platform: Platform, pair: Pair, client: Client, whose: str) -> None:
    owner = pair.one if whose == "own" else pair.other
    with pytest.raises(AccessDenied):
        client(platform.endpoints, pair.one.credentials).write(owner.inbox)


@both_clients
@pytest.mark.parametrize("topic", [AGREEMENTS_TOPIC, CATALOGUE_TOPIC, SOURCES_TOPIC])
def test_the_platforms_own_topics_cannot_be_written(platform: Platform, pair: Pair, client: Client, topic: str) -> None:
    with pytest.raises(AccessDenied):
        client(platform.endpoints, pair.one.credentials).write(topic)


@both_clients
@pytest.mark.parametrize("stage", ["changes", "records", "quarantine"])
def test_what_others_published_or_had_refused_cannot_be_read(
    platform: Platform, pair: Pair, client: Client, stage: str
) -> None:
    topic = getattr(pair.other.dataset, stage)
    with pytest.raises(AccessDenied):
        client(platform.endpoints, pair.one.credentials).read(topic, f"{pair.one.id}.curious")


@both_clients
def test_another_group_cannot_be_joined(platform: Platform, us: Party, them: Party, client: Client) -> None:
    for group in (f"{them.id}.readers", "platform.views", "platform.admission"):
        with pytest.raises(AccessDenied):
            client(platform.endpoints, us.credentials).read(us.inbox, group)


@both_clients
def test_another_groups_position_cannot_be_moved(platform: Platform, us: Party, them: Party, client: Client) -> None:
    for group in (f"{them.id}.readers", "platform.views", "platform.admission"):
        with pytest.raises(AccessDenied):
            client(platform.endpoints, us.credentials).commit(us.inbox, group)


@both_clients
def test_another_transactional_id_cannot_be_used(platform: Platform, us: Party, them: Party, client: Client) -> None:
    for transactional_id in (f"{them.id}.loader", "platform.views.0", "platform.admission.0"):
        with pytest.raises(AccessDenied):
            client(platform.endpoints, us.credentials).write_in_transaction(us.dataset.changes, transactional_id)


@both_clients
def test_no_topic_can_be_created_not_even_below_the_own_prefix(platform: Platform, pair: Pair, client: Client) -> None:
    with pytest.raises(AccessDenied):
        client(platform.endpoints, pair.one.credentials).create_topic(f"changes.{pair.one.id}.invented")


@both_clients
def test_a_write_creates_no_topic(platform: Platform, pair: Pair, operator: Credentials, client: Client) -> None:
    topic = f"changes.{pair.one.id}.misspelt"
    with pytest.raises(CivicbusError):
        client(platform.endpoints, pair.one.credentials).write(topic)
    assert topic not in client(platform.endpoints, operator).topics()


@both_clients
def test_metadata_shows_a_department_only_what_it_may_use(platform: Platform, us: Party, client: Client) -> None:
    assert client(platform.endpoints, us.credentials).topics() == {
        us.dataset.changes,
        us.dataset.quarantine,
        us.inbox,
    }


def test_a_department_administers_nothing(platform: Platform, us: Party, them: Party) -> None:
    foreign = access.inbox_rights(us.member.id, AgreementId("wished"))
    with administration(platform.endpoints, us.credentials) as admin:
        for attempt in (
            admin.bindings,
            admin.quotas,
            lambda: admin.grant(foreign),
            lambda: admin.withdraw(access.department_rights(them.member.id)),
            lambda: admin.set_secrets([them.credentials]),
            lambda: admin.set_quotas({us.credentials.principal: access.DEPARTMENT_QUOTA}),
            lambda: admin.alter_topics({us.dataset.changes: {"retention.ms": "1"}}),
        ):
            with pytest.raises(AccessDenied):
                attempt()


@both_clients
def test_nobody_connects_to_the_broker_without_a_secret(platform: Platform, pair: Pair, client: Client) -> None:
    client(platform.endpoints, pair.one.credentials).connect()
    bare = platform.endpoints.model_copy(update={"security_protocol": "PLAINTEXT"})
    with pytest.raises(CivicbusError):
        client(bare, pair.one.credentials).connect()


@both_clients
@pytest.mark.parametrize("password", ["", "guessed"])
def test_a_wrong_password_connects_no_client(platform: Platform, pair: Pair, client: Client, password: str) -> None:
    with pytest.raises(CivicbusError):
        client(platform.endpoints, Credentials(pair.one.credentials.principal, password)).connect()


def test_a_wrong_password_is_told_from_silence(platform: Platform, pair: Pair) -> None:
    wrong = Credentials(pair.one.credentials.principal, "guessed")
    with pytest.raises(AccessDenied):
        authenticate(platform.endpoints, wrong)
    with pytest.raises(AccessDenied):
        databases.authenticate(platform.endpoints, wrong)


def test_one_departments_secret_does_not_prove_another(platform: Platform, us: Party, them: Party) -> None:
    borrowed = Credentials(them.credentials.principal, us.credentials.password)
    with pytest.raises(AccessDenied):
        authenticate(platform.endpoints, borrowed)
    with pytest.raises(AccessDenied):
        databases.authenticate(platform.endpoints, borrowed)


def test_no_database_but_the_own_can_be_entered(platform: Platform, us: Party, them: Party) -> None:
    for database in (them.id, "postgres", "template1"):
        with pytest.raises(AccessDenied), databases.session(platform.endpoints, us.credentials, database):
            pass


def test_the_database_wants_a_password(platform: Platform, pair: Pair) -> None:
    where = platform.endpoints
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=where.database_host, port=where.database_port, user=pair.one.id, dbname=pair.one.id)


def test_a_department_rules_its_own_database_and_no_more(platform: Platform, us: Party, them: Party) -> None:
    with databases.session(platform.endpoints, us.credentials) as session:
        session.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
        assert session.execute("SELECT id FROM kept").fetchall() == [(1,)]
        for statement in (
            "CREATE ROLE friend",
            "CREATE DATABASE another",
            "SELECT rolpassword FROM pg_authid",
            "COPY kept TO PROGRAM 'true'",
            "SELECT pg_read_file('pg_hba.conf')",
            f"ALTER ROLE {them.id} PASSWORD 'mine'",
            f"SET ROLE {databases.OPERATOR_ROLE}",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
        session.execute("DROP TABLE kept")


@both_clients
def test_own_changes_are_written_idempotently_and_in_transactions(
    platform: Platform, us: Party, client: Client
) -> None:
    attempts = client(platform.endpoints, us.credentials)
    attempts.write(us.dataset.changes)
    attempts.write(us.dataset.changes, idempotent=False)
    attempts.write_in_transaction(us.dataset.changes, f"{us.id}.loader")


@both_clients
def test_the_own_inbox_is_read_and_its_position_kept(platform: Platform, us: Party, client: Client) -> None:
    attempts = client(platform.endpoints, us.credentials)
    group = f"{us.id}.{unique('readers')}"
    assert attempts.read(us.inbox, group) == VALUE
    attempts.commit(us.inbox, group)


@both_clients
def test_the_owner_reads_what_was_parked(platform: Platform, pair: Pair, client: Client) -> None:
    for stage in (ADMISSION, VIEWS):
        Librdkafka(platform.endpoints, platform.secrets.read(stage)).write(pair.one.dataset.quarantine)
    attempts = client(platform.endpoints, pair.one.credentials)
    assert attempts.read(pair.one.dataset.quarantine, f"{pair.one.id}.{unique('readers')}") == VALUE
    with pytest.raises(AccessDenied):
        attempts.write(pair.one.dataset.quarantine)


@both_clients
def test_an_inbox_opens_with_its_agreement_and_closes_with_it(
    platform: Platform, new_department: Callable[[str], Member], client: Client
) -> None:
    member = new_department("subscriber")
    inbox = inbox_topic(member.id, AGREEMENT)
    reader = client(platform.endpoints, member.credentials)

    activate_inbox(platform.endpoints, platform.secrets, member.id, AGREEMENT, 1)
    Librdkafka(platform.endpoints, platform.secrets.read(VIEWS)).write(inbox)
    assert reader.read(inbox, f"{member.id}.before") == VALUE

    provision_department(platform.endpoints, platform.secrets, member.id)
    assert reader.read(inbox, f"{member.id}.again") == VALUE

    revoke_inbox(platform.endpoints, platform.secrets, member.id, AGREEMENT)
    with pytest.raises(AccessDenied):
        reader.read(inbox, f"{member.id}.after")
    assert inbox not in reader.topics()


def test_a_stage_of_the_platform_does_its_own_part_only(platform: Platform, pair: Pair) -> None:
    dataset, inbox = pair.one.dataset, pair.one.inbox
    admission = Librdkafka(platform.endpoints, platform.secrets.read(ADMISSION))
    views = Librdkafka(platform.endpoints, platform.secrets.read(VIEWS))
    admission.write_in_transaction(dataset.records, f"platform.admission.{unique('t')}")
    views.write_in_transaction(inbox, f"platform.views.{unique('t')}")
    for stage, topic in (
        (admission, inbox),
        (admission, dataset.changes),
        (admission, AGREEMENTS_TOPIC),
        (views, dataset.records),
        (views, dataset.changes),
        (views, AGREEMENTS_TOPIC),
    ):
        with pytest.raises(AccessDenied):
            stage.write(topic)
