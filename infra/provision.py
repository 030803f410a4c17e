"""Brings broker and database to what departments, datasets and agreements call for.

Promise: every function may run again at any time, changes only what differs, and gives nobody more than
docs/security.md says. Secrets come from the store; where they differ from what broker and database know, the
store wins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from civicbus.infra import access, databases, topics
from civicbus.infra.rotation import finish_rotations
from civicbus.infra.sessions import operator_administration, operator_session
from civicbus.names import AgreementId, DatasetId, DepartmentId
from civicbus.schemas.datasets import Title
from civicbus.secrets import BROKER, Credentials, Principal, SecretStore, principal_of
from civicbus.settings import Endpoints
from civicbus.transport.admin import Administration
from civicbus.transport.resources import Binding, TopicSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartmentStatus:
    """A department and where it is known; all three are true after ``department add``."""

    department: DepartmentId
    title: Title | None
    has_secret: bool
    on_broker: bool
    has_database: bool


def provision_platform(endpoints: Endpoints, secrets: SecretStore) -> None:
    """The platform's own users, rights and topics, and what an earlier rotation left undone."""
    finish_rotations(endpoints, secrets)
    users = [secrets.ensure(principal) for principal in access.PLATFORM_PRINCIPALS]
    users += [secrets.read(principal) for principal in secrets.principals() if principal == BROKER]
    with operator_administration(endpoints, secrets) as admin:
        _reconcile_rights(admin, access.platform_rights(), access.PLATFORM_PRINCIPALS)
        admin.set_secrets(users)
        _reconcile_topics(admin, topics.platform_topics())
    with operator_session(endpoints, secrets) as session:
        databases.provision_databases(session, [])


def provision_department(endpoints: Endpoints, secrets: SecretStore, *departments: DepartmentId) -> None:
    """A database, rights, a byte quota and a user for each department; inboxes come with agreements."""
    users = [secrets.ensure(principal_of(department)) for department in departments]
    with operator_session(endpoints, secrets) as session:
        databases.provision_databases(session, users)
    with operator_administration(endpoints, secrets) as admin:
        rights = frozenset[Binding]().union(*map(access.department_rights, departments))
        _reconcile_rights(admin, rights, [user.principal for user in users])
        _reconcile_quotas(admin, users)
        admin.set_secrets(users)


def entitle_department(endpoints: Endpoints, secrets: SecretStore, department: DepartmentId, title: Title) -> None:
    """Keep the name that people know a department by."""
    with operator_session(endpoints, secrets) as session:
        databases.set_title(session, department, title)


def provision_dataset(endpoints: Endpoints, secrets: SecretStore, *datasets: topics.Published) -> None:
    """Changes, records and quarantine topics; raises ConfigurationError where a partition count differs."""
    with operator_administration(endpoints, secrets) as admin:
        _reconcile_topics(admin, [spec for dataset in datasets for spec in topics.dataset_topics(dataset)])


def provision_capture(endpoints: Endpoints, secrets: SecretStore, dataset: DatasetId) -> None:
    """The topic of a captured table, and its department's right to it."""
    provision_department(endpoints, secrets, dataset.department)
    with operator_administration(endpoints, secrets) as admin:
        _reconcile_topics(admin, [topics.capture_spec(dataset)])


def activate_inbox(
    endpoints: Endpoints, secrets: SecretStore, subscriber: DepartmentId, agreement: AgreementId, partitions: int
) -> None:
    """The inbox topic of an agreement, and the subscriber's right to read it."""
    with operator_administration(endpoints, secrets) as admin:
        _reconcile_topics(admin, [topics.inbox_spec(subscriber, agreement, partitions)])
        admin.grant(access.inbox_rights(subscriber, agreement) - admin.bindings())


def revoke_inbox(endpoints: Endpoints, secrets: SecretStore, subscriber: DepartmentId, agreement: AgreementId) -> None:
    """Take the right to read; when this returns, the broker refuses the next fetch. The topic stays."""
    with operator_administration(endpoints, secrets) as admin:
        admin.withdraw(access.inbox_rights(subscriber, agreement) & admin.bindings())


def departments(endpoints: Endpoints, secrets: SecretStore) -> list[DepartmentStatus]:
    """Every department that the store, the broker or the database knows."""
    with operator_session(endpoints, secrets) as session:
        titles = {database.department: database.title for database in databases.department_databases(session)}
    with operator_administration(endpoints, secrets) as admin:
        users = admin.scram_users()
    stored = frozenset(secrets.principals())
    return [
        DepartmentStatus(
            department=department,
            title=titles.get(department),
            has_secret=principal_of(department) in stored,
            on_broker=principal_of(department) in users,
            has_database=department in titles,
        )
        for department in sorted(titles.keys() | _departments_among(stored | users))
    ]


def _departments_among(principals: Collection[Principal]) -> set[DepartmentId]:
    return {DepartmentId(principal) for principal in principals if "-" not in principal}


def _reconcile_topics(admin: Administration, wanted: Sequence[TopicSpec]) -> None:
    if not wanted:
        return
    plan = topics.plan_topics(wanted, admin.topics([spec.name for spec in wanted]))
    admin.create_topics(plan.create)
    admin.alter_topics(plan.alter)


def _reconcile_rights(admin: Administration, wanted: frozenset[Binding], principals: Collection[Principal]) -> None:
    plan = access.plan_rights(wanted, admin.bindings(), frozenset(principals))
    admin.withdraw(plan.withdraw)
    admin.grant(plan.grant)


def _reconcile_quotas(admin: Administration, users: Sequence[Credentials]) -> None:
    actual = admin.quotas()
    admin.set_quotas(
        {
            user.principal: access.DEPARTMENT_QUOTA
            for user in users
            if actual.get(user.principal) != access.DEPARTMENT_QUOTA
        }
    )
