"""Which topics there shall be, held against the rules without a broker."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from civicbus.errors import ConfigurationError
from civicbus.infra.topics import dataset_topics, inbox_spec, plan_topics, platform_topics
from civicbus.names import (
    AGREEMENTS_TOPIC,
    CATALOGUE_TOPIC,
    SOURCES_TOPIC,
    AgreementId,
    DatasetId,
    DepartmentId,
    Topic,
)
from civicbus.transport.resources import TopicSpec, TopicState

DAY_MS = 86_400_000
MIB = 2**20
TAX = DepartmentId("tax")


@dataclass(frozen=True)
class Kept:
    changes_days: int = 7
    quarantine_days: int = 90


@dataclass(frozen=True)
class Published:
    id: DatasetId = field(default_factory=lambda: DatasetId(TAX, "payers"))
    partitions: int = 6
    retention: Kept = field(default_factory=Kept)


CHANGES, RECORDS, QUARANTINE = dataset_topics(Published())
INBOX = inbox_spec(TAX, AgreementId("licences"), 6)


def there(spec: TopicSpec, **configs: str) -> TopicState:
    return TopicState(partitions=spec.partitions, configs={**spec.configs, "flush.ms": "1", **configs})


def test_the_topics_of_a_dataset_have_its_partitions() -> None:
    assert [spec.name for spec in (CHANGES, RECORDS, QUARANTINE)] == [
        "changes.tax.payers",
        "records.tax.payers",
        "quarantine.tax.payers",
    ]
    assert {spec.partitions for spec in (CHANGES, RECORDS, QUARANTINE, INBOX)} == {6}


def test_changes_are_kept_seven_days_and_hold_four_mebibytes() -> None:
    assert CHANGES.configs["cleanup.policy"] == "delete"
    assert int(CHANGES.configs["retention.ms"]) == 7 * DAY_MS
    assert 4 * MIB < int(CHANGES.configs["max.message.bytes"]) < 5 * MIB


def test_parked_records_are_kept_ninety_days_and_hold_what_changes_hold() -> None:
    assert int(QUARANTINE.configs["retention.ms"]) == 90 * DAY_MS
    assert int(QUARANTINE.configs["max.message.bytes"]) > 8 * MIB > int(CHANGES.configs["max.message.bytes"])


@pytest.mark.parametrize("spec", [RECORDS, INBOX, *platform_topics()], ids=lambda spec: spec.name)
def test_states_are_compacted_and_their_deletions_stay_thirty_days(spec: TopicSpec) -> None:
    assert spec.configs["cleanup.policy"] == "compact"
    assert int(spec.configs["delete.retention.ms"]) == 30 * DAY_MS
    assert int(spec.configs["max.compaction.lag.ms"]) < 30 * DAY_MS


@pytest.mark.parametrize("spec", [CHANGES, RECORDS, QUARANTINE, INBOX], ids=lambda spec: spec.name)
def test_the_timestamp_is_the_writers(spec: TopicSpec) -> None:
    assert spec.configs["message.timestamp.type"] == "CreateTime"


@pytest.mark.parametrize("days", [1, 7, 365])
def test_a_change_is_never_deleted_before_admission_had_time_to_read_it(days: int) -> None:
    configs = dataset_topics(Published(retention=Kept(changes_days=days)))[0].configs
    oldest_accepted = int(configs["message.timestamp.before.max.ms"])
    assert 0 < oldest_accepted <= int(configs["retention.ms"]) - DAY_MS // 2


def test_the_platforms_own_topics_have_one_partition() -> None:
    topics = {CATALOGUE_TOPIC: 1, AGREEMENTS_TOPIC: 1, SOURCES_TOPIC: 1}
    assert {spec.name: spec.partitions for spec in platform_topics()} == topics


def test_what_is_missing_is_created() -> None:
    plan = plan_topics([CHANGES, RECORDS], {CHANGES.name: there(CHANGES)})
    assert plan.create == (RECORDS,)
    assert not plan.alter


def test_only_the_settings_that_differ_are_altered() -> None:
    plan = plan_topics([CHANGES, RECORDS], {s.name: there(s, **{"retention.ms": "5"}) for s in (CHANGES, RECORDS)})
    assert plan.alter == {CHANGES.name: {"retention.ms": str(7 * DAY_MS)}}
    assert not plan.create


def test_topics_that_are_as_wanted_and_topics_of_others_are_left_alone() -> None:
    stranger = TopicState(partitions=1, configs={})
    plan = plan_topics([CHANGES], {CHANGES.name: there(CHANGES), Topic("somebody.elses"): stranger})
    assert (plan.create, plan.alter) == ((), {})


def test_another_number_of_partitions_is_an_error_that_says_what_to_do() -> None:
    actual = {CHANGES.name: TopicState(partitions=4, configs=CHANGES.configs)}
    with pytest.raises(ConfigurationError, match=r"changes\.tax\.payers has 4 partitions, 6 are wanted") as caught:
        plan_topics([CHANGES, RECORDS], actual)
    assert "catalogue" in caught.value.mend
