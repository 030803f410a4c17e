"""Who may do what, held against the rules without a broker."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from civicbus.errors import ConfigurationError
from civicbus.infra.access import (
    admission_rights,
    department_rights,
    inbox_rights,
    ingress_rights,
    plan_rights,
    platform_rights,
    views_rights,
)
from civicbus.names import (
    AGREEMENTS_TOPIC,
    CATALOGUE_TOPIC,
    SOURCES_TOPIC,
    AgreementId,
    DatasetId,
    DepartmentId,
    department_id,
    inbox_topic,
)
from civicbus.secrets import ADMISSION, VIEWS, Principal
from civicbus.transport.resources import Binding, Operation, Resource

TAX = DepartmentId("tax")
HEALTH = DepartmentId("health")
HEALTH_INSURANCE = DepartmentId("health_insurance")
LICENCES = AgreementId("licences_for_tax")

NAMES = st.text(string.ascii_lowercase + string.digits + "_", max_size=8).map("d".__add__).map(DepartmentId)


def covers(binding: Binding, resource: Resource, name: str, operation: Operation) -> bool:
    """As the broker decides: same resource type, name equal or below the prefix, same operation."""
    named = name.startswith(binding.name) if binding.prefixed else name == binding.name
    return binding.resource == resource and binding.operation == operation and named


def allows(rights: frozenset[Binding], resource: Resource, name: str, operation: Operation) -> bool:
    return any(covers(binding, resource, name, operation) for binding in rights)


def writers(topic: str) -> set[Principal]:
    everybody = platform_rights() | department_rights(TAX, [LICENCES]) | department_rights(HEALTH)
    return {b.principal for b in everybody if covers(b, Resource.TOPIC, topic, Operation.WRITE)}


def test_the_rights_of_a_department_are_exactly_these() -> None:
    rights = {(b.resource.name, b.name, b.prefixed, b.operation.name) for b in department_rights(TAX, [LICENCES])}
    assert rights == {
        ("TOPIC", "changes.tax.", True, "READ"),
        ("TOPIC", "changes.tax.", True, "WRITE"),
        ("TOPIC", "changes.tax.", True, "DESCRIBE"),
        ("TOPIC", "quarantine.tax.", True, "READ"),
        ("TOPIC", "quarantine.tax.", True, "DESCRIBE"),
        ("TOPIC", "platform.catalogue", False, "READ"),
        ("TOPIC", "platform.catalogue", False, "DESCRIBE"),
        ("TOPIC", "connect.tax.", True, "READ"),
        ("TOPIC", "connect.tax.", True, "WRITE"),
        ("TOPIC", "connect.tax.", True, "DESCRIBE"),
        ("TOPIC", "platform.sources", False, "READ"),
        ("TOPIC", "platform.sources", False, "DESCRIBE"),
        ("TOPIC", "inbox.tax.licences_for_tax", False, "READ"),
        ("TOPIC", "inbox.tax.licences_for_tax", False, "DESCRIBE"),
        ("GROUP", "tax.", True, "READ"),
        ("GROUP", "tax.", True, "DESCRIBE"),
        ("TRANSACTIONAL_ID", "tax.", True, "WRITE"),
        ("TRANSACTIONAL_ID", "tax.", True, "DESCRIBE"),
    }
    assert {b.principal for b in department_rights(TAX, [LICENCES])} == {"tax"}


def test_a_department_without_agreements_reads_no_inbox() -> None:
    topic = inbox_topic(TAX, LICENCES)
    assert not allows(department_rights(TAX), Resource.TOPIC, topic, Operation.READ)
    assert allows(department_rights(TAX, [LICENCES]), Resource.TOPIC, topic, Operation.READ)


@given(one=NAMES, other=NAMES, operation=st.sampled_from(Operation), resource=st.sampled_from(Resource))
def test_no_department_reaches_what_is_anothers(
    one: DepartmentId, other: DepartmentId, operation: Operation, resource: Resource
) -> None:
    assume(one != other)
    rights = department_rights(one, [LICENCES])
    dataset = DatasetId(other, "x")
    for name in (dataset.changes, dataset.records, dataset.quarantine, inbox_topic(other, LICENCES), f"{other}.x"):
        assert not allows(rights, resource, name, operation)


@pytest.mark.parametrize(("one", "other"), [(HEALTH, HEALTH_INSURANCE), (HEALTH_INSURANCE, HEALTH)])
def test_a_common_prefix_gives_no_right(one: DepartmentId, other: DepartmentId) -> None:
    assert not allows(department_rights(one), Resource.TOPIC, DatasetId(other, "x").changes, Operation.WRITE)
    assert not allows(department_rights(one), Resource.GROUP, f"{other}.readers", Operation.READ)


def test_only_the_owner_writes_changes() -> None:
    assert writers(DatasetId(TAX, "payers").changes) == {"tax"}


def test_only_admission_writes_records() -> None:
    assert writers(DatasetId(TAX, "payers").records) == {ADMISSION}


def test_only_the_views_write_inboxes() -> None:
    assert writers(inbox_topic(TAX, LICENCES)) == {VIEWS}


def test_the_ingress_sees_how_far_admission_is_and_no_row() -> None:
    dataset = DatasetId(TAX, "payers")
    topics = (dataset.changes, dataset.records, dataset.quarantine, inbox_topic(TAX, LICENCES))
    for operation in (Operation.READ, Operation.WRITE):
        assert not any(allows(ingress_rights(), Resource.TOPIC, topic, operation) for topic in topics)
        assert not allows(ingress_rights(), Resource.GROUP, "platform.admission", operation)
    assert allows(ingress_rights(), Resource.GROUP, "platform.admission", Operation.DESCRIBE)


@pytest.mark.parametrize("topic", [CATALOGUE_TOPIC, AGREEMENTS_TOPIC, SOURCES_TOPIC])
def test_nobody_but_the_operator_writes_the_platforms_topics(topic: str) -> None:
    assert writers(topic) == set()


def test_no_right_reaches_the_cluster_or_another_host() -> None:
    everything = platform_rights() | department_rights(TAX, [LICENCES])
    assert {b.resource for b in everything} == {Resource.TOPIC, Resource.GROUP, Resource.TRANSACTIONAL_ID}
    assert {b.operation for b in everything} == {Operation.READ, Operation.WRITE, Operation.DESCRIBE}


@pytest.mark.parametrize(
    ("rights", "ids"),
    [(admission_rights(), "platform.admission.0"), (views_rights(), "platform.views.0")],
)
def test_a_stage_has_its_own_groups_and_transactional_ids(rights: frozenset[Binding], ids: str) -> None:
    others = "platform.views.0" if ids.startswith("platform.admission") else "platform.admission.0"
    for resource, operation in ((Resource.GROUP, Operation.READ), (Resource.TRANSACTIONAL_ID, Operation.WRITE)):
        assert allows(rights, resource, ids, operation)
        assert not allows(rights, resource, others, operation)


def test_a_plan_grants_what_is_missing_and_nothing_that_is_there() -> None:
    wanted = department_rights(TAX)
    there = frozenset(list(wanted)[:3])
    plan = plan_rights(wanted, there, frozenset({Principal("tax")}))
    assert plan.grant == wanted - there
    assert not plan.withdraw


def test_a_plan_withdraws_what_nobody_asked_for() -> None:
    excess = Binding(principal=Principal("tax"), resource=Resource.CLUSTER, name="x", operation=Operation.ALTER)
    plan = plan_rights(department_rights(TAX), department_rights(TAX) | {excess}, frozenset({Principal("tax")}))
    assert plan.withdraw == {excess}


def test_a_plan_leaves_active_inboxes_and_other_principals_alone() -> None:
    theirs = department_rights(HEALTH)
    actual = department_rights(TAX, [LICENCES]) | theirs
    plan = plan_rights(department_rights(TAX), actual, frozenset({Principal("tax")}))
    assert not plan.withdraw


def test_a_right_to_a_foreign_inbox_is_withdrawn() -> None:
    foreign = frozenset(
        Binding(principal=Principal("tax"), resource=b.resource, name=b.name, operation=b.operation)
        for b in inbox_rights(HEALTH, LICENCES)
    )
    plan = plan_rights(department_rights(TAX), department_rights(TAX) | foreign, frozenset({Principal("tax")}))
    assert plan.withdraw == foreign


@pytest.mark.parametrize("name", ["civicbus_operator", "postgres", "platform", "none", "pg_read_all_data"])
def test_a_department_cannot_have_the_name_of_somebody_with_power(name: str) -> None:
    with pytest.raises(ConfigurationError, match="reserved"):
        department_id(name)
