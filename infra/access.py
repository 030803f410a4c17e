"""Who may do what on the broker: the exact rights of every principal, everything else being refused.

Pure: the same departments and inboxes always give the same rights. Topic, group and transactional id prefixes
end in a dot, so that the rights of ``health`` do not reach ``health_insurance``. docs/security.md is the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from civicbus.names import (
    AGREEMENTS_TOPIC,
    CATALOGUE_TOPIC,
    SOURCES_TOPIC,
    AgreementId,
    DepartmentId,
    Stage,
    Topic,
    inbox_topic,
)
from civicbus.secrets import ADMISSION, INGRESS, VIEWS, Principal, principal_of
from civicbus.transport.resources import Binding, ByteQuota, Operation, Resource

PLATFORM_PRINCIPALS = (ADMISSION, VIEWS, INGRESS)

# Enough for a bulk load at full speed; one department cannot take the broker from the others.
DEPARTMENT_QUOTA = ByteQuota(produce=50_000_000, consume=50_000_000)

_DESCRIBE = (Operation.DESCRIBE,)
_READ = (Operation.READ, Operation.DESCRIBE)
_WRITE = (Operation.WRITE, Operation.DESCRIBE)
_READ_AND_WRITE = (Operation.READ, Operation.WRITE, Operation.DESCRIBE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RightsPlan:
    """What brings the actual rights to the wanted ones."""

    grant: frozenset[Binding]
    withdraw: frozenset[Binding]


def department_rights(department: DepartmentId, agreements: Iterable[AgreementId] = ()) -> frozenset[Binding]:
    """Everything a department may do; ``agreements`` are the active ones that it subscribes to."""
    principal = principal_of(department)
    return frozenset().union(
        _topics_below(principal, f"{Stage.CHANGES}.{department}.", _READ_AND_WRITE),
        _topics_below(principal, f"{Stage.QUARANTINE}.{department}.", _READ),
        _topic(principal, CATALOGUE_TOPIC, _READ),
        _topics_below(principal, f"connect.{department}.", _READ_AND_WRITE),
        _topic(principal, SOURCES_TOPIC, _READ),
        _named(principal, Resource.GROUP, f"{department}.", _READ),
        _named(principal, Resource.TRANSACTIONAL_ID, f"{department}.", _WRITE),
        *(inbox_rights(department, agreement) for agreement in agreements),
    )


def inbox_rights(subscriber: DepartmentId, agreement: AgreementId) -> frozenset[Binding]:
    """What activation grants and revocation takes: reading this one inbox."""
    return _topic(principal_of(subscriber), inbox_topic(subscriber, agreement), _READ)


def platform_rights() -> frozenset[Binding]:
    """Everything that admission, the views and the ingress may do."""
    return admission_rights() | views_rights() | ingress_rights()


def admission_rights() -> frozenset[Binding]:
    return frozenset().union(
        _topics_below(ADMISSION, f"{Stage.CHANGES}.", _READ),
        _topics_below(ADMISSION, f"{Stage.RECORDS}.", _READ_AND_WRITE),
        _topics_below(ADMISSION, f"{Stage.QUARANTINE}.", _WRITE),
        _topic(ADMISSION, CATALOGUE_TOPIC, _READ),
        _named(ADMISSION, Resource.GROUP, "platform.admission", _READ),
        _named(ADMISSION, Resource.TRANSACTIONAL_ID, "platform.admission.", _WRITE),
    )


def views_rights() -> frozenset[Binding]:
    return frozenset().union(
        _topics_below(VIEWS, f"{Stage.RECORDS}.", _READ),
        _topics_below(VIEWS, f"{Stage.INBOX}.", _READ_AND_WRITE),
        _topics_below(VIEWS, f"{Stage.QUARANTINE}.", _WRITE),
        _topic(VIEWS, CATALOGUE_TOPIC, _READ),
        _topic(VIEWS, AGREEMENTS_TOPIC, _READ),
        _named(VIEWS, Resource.GROUP, "platform.views", _READ),
        _named(VIEWS, Resource.TRANSACTIONAL_ID, "platform.views.", _WRITE),
    )


def ingress_rights() -> frozenset[Binding]:
    """What the ingress may do by itself: see how far admission is, but no row; it publishes as the department."""
    return frozenset().union(
        _topics_below(INGRESS, f"{Stage.CHANGES}.", _DESCRIBE),
        _topic(INGRESS, CATALOGUE_TOPIC, _READ),
        _topic(INGRESS, SOURCES_TOPIC, _READ),
        _named(INGRESS, Resource.GROUP, "platform.admission", _DESCRIBE),
    )


def plan_rights(wanted: frozenset[Binding], actual: frozenset[Binding], principals: frozenset[Principal]) -> RightsPlan:
    """What to grant, and what to withdraw from these principals.

    The right to an inbox is not withdrawn here: agreements grant and take it, one at a time.
    """
    excess = {b for b in actual - wanted if b.principal in principals and not is_inbox_right(b)}
    return RightsPlan(grant=wanted - actual, withdraw=frozenset(excess))


def is_inbox_right(binding: Binding) -> bool:
    """Whether this is the right of a department to one inbox of its own."""
    stage, _, rest = binding.name.partition(".")
    subscriber, _, agreement = rest.partition(".")
    return (
        stage == Stage.INBOX
        and subscriber == binding.principal
        and binding in inbox_rights(DepartmentId(subscriber), AgreementId(agreement))
    )


def _topics_below(principal: Principal, prefix: str, operations: Iterable[Operation]) -> frozenset[Binding]:
    return _named(principal, Resource.TOPIC, prefix, operations)


def _named(
    principal: Principal, resource: Resource, prefix: str, operations: Iterable[Operation]
) -> frozenset[Binding]:
    return frozenset(
        Binding(principal=principal, resource=resource, name=prefix, prefixed=True, operation=operation)
        for operation in operations
    )


def _topic(principal: Principal, topic: Topic, operations: Iterable[Operation]) -> frozenset[Binding]:
    return frozenset(
        Binding(principal=principal, resource=Resource.TOPIC, name=topic, operation=operation)
        for operation in operations
    )
