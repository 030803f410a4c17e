"""Which topics there shall be, and what to do where those that are there differ.

Pure: from datasets and agreements to topics with partitions and settings (DESIGN §3), and from wanted and
actual topics to what must be created and altered. Nothing here deletes a topic, and a partition count that
differs is never corrected: the keys of a topic stay in their partitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from civicbus.errors import ConfigurationError
from civicbus.names import (
    AGREEMENTS_TOPIC,
    CATALOGUE_TOPIC,
    SOURCES_TOPIC,
    AgreementId,
    DatasetId,
    DepartmentId,
    Topic,
    capture_topic,
    inbox_topic,
)
from civicbus.transport.resources import TopicSpec, TopicState

MIB = 1024 * 1024
DAY_MS = 24 * 60 * 60 * 1000

# Kafka limits a batch, not a value: room for key, headers and framing of one record that is as large as may be.
FRAMING_BYTES = 64 * 1024
RECORD_BYTES = 4 * MIB + FRAMING_BYTES
PARKED_BYTES = 8 * MIB + FRAMING_BYTES

DELETIONS_STAY_MS = 30 * DAY_MS
# Kafka deletes by the record's own timestamp: one older than the retention would go before admission reads it,
# one far ahead (microseconds for milliseconds) would hold back the deletion of all that follow it. The broker
# refuses both; a clock that is merely wrong is still parked by admission, with a reason.
READING_TIME_MS = DAY_MS
AHEAD_MS = 7 * DAY_MS
# Compaction skips the segment that is being written: it is closed after this time, so that what was deleted or
# superseded leaves the disk also where little is written.
COMPACTED_WITHIN_MS = 7 * DAY_MS
CAPTURED_STAYS_MS = 7 * DAY_MS
COMPACTED_SEGMENT_BYTES = 256 * MIB
DIRTY_RATIO = 0.2


class Kept(Protocol):
    """How long a dataset's changes and parked records are kept."""

    @property
    def changes_days(self) -> int: ...

    @property
    def quarantine_days(self) -> int: ...


class Published(Protocol):
    """What topics need to know of a dataset."""

    @property
    def id(self) -> DatasetId: ...

    @property
    def partitions(self) -> int: ...

    @property
    def retention(self) -> Kept: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """What brings the actual topics to the wanted ones."""

    create: tuple[TopicSpec, ...]
    alter: Mapping[Topic, Mapping[str, str]]


def platform_topics() -> tuple[TopicSpec, ...]:
    """The catalogue, the agreements and who publishes what: one partition each, every document's current state."""
    names = (CATALOGUE_TOPIC, AGREEMENTS_TOPIC, SOURCES_TOPIC)
    return tuple(TopicSpec(name=name, partitions=1, configs=_compacted()) for name in names)


def dataset_topics(dataset: Published) -> tuple[TopicSpec, ...]:
    """A dataset's changes, records and quarantine, with the same number of partitions."""
    kept = dataset.retention
    return (
        TopicSpec(name=dataset.id.changes, partitions=dataset.partitions, configs=_changes(kept.changes_days)),
        TopicSpec(name=dataset.id.records, partitions=dataset.partitions, configs=_compacted()),
        TopicSpec(name=dataset.id.quarantine, partitions=dataset.partitions, configs=_parked(kept.quarantine_days)),
    )


def inbox_spec(subscriber: DepartmentId, agreement: AgreementId, partitions: int) -> TopicSpec:
    """The inbox of an agreement, with as many partitions as the dataset that drives it."""
    return TopicSpec(name=inbox_topic(subscriber, agreement), partitions=partitions, configs=_compacted())


def capture_spec(dataset: DatasetId) -> TopicSpec:
    """What is captured of a table, in one order; a change of a row has it before and after, both as JSON."""
    configs = _configs(
        {"cleanup.policy": "delete", "retention.ms": CAPTURED_STAYS_MS, "max.message.bytes": PARKED_BYTES}
    )
    return TopicSpec(name=capture_topic(dataset), partitions=1, configs=configs)


def plan_topics(wanted: Sequence[TopicSpec], actual: Mapping[Topic, TopicState]) -> TopicPlan:
    """What to create and which settings to alter; raises ConfigurationError where partition counts differ."""
    there = [(spec, actual[spec.name]) for spec in wanted if spec.name in actual]
    _refuse_other_partitions(there)
    differences = {spec.name: _differing(spec.configs, state.configs) for spec, state in there}
    return TopicPlan(
        create=tuple(spec for spec in wanted if spec.name not in actual),
        alter={name: configs for name, configs in differences.items() if configs},
    )


def _refuse_other_partitions(there: Sequence[tuple[TopicSpec, TopicState]]) -> None:
    wrong = [
        f"{spec.name} has {state.partitions} partitions, {spec.partitions} are wanted"
        for spec, state in there
        if spec.partitions != state.partitions
    ]
    if wrong:
        raise ConfigurationError(
            "; ".join(wrong),
            mend="write the present number in the catalogue, or publish under a new dataset name: keys never move "
            "between partitions",
        )


def _differing(wanted: Mapping[str, str], actual: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if actual.get(name) != value}


def _changes(days: int) -> Mapping[str, str]:
    return _configs(
        {
            "cleanup.policy": "delete",
            "retention.ms": days * DAY_MS,
            "max.message.bytes": RECORD_BYTES,
            "message.timestamp.before.max.ms": days * DAY_MS - min(READING_TIME_MS, days * DAY_MS // 2),
            "message.timestamp.after.max.ms": AHEAD_MS,
        }
    )


def _parked(days: int) -> Mapping[str, str]:
    return _configs(
        {
            "cleanup.policy": "delete",
            "retention.ms": days * DAY_MS,
            "max.message.bytes": PARKED_BYTES,
        }
    )


def _compacted() -> Mapping[str, str]:
    return _configs(
        {
            "cleanup.policy": "compact",
            "delete.retention.ms": DELETIONS_STAY_MS,
            "max.message.bytes": RECORD_BYTES,
            "min.cleanable.dirty.ratio": DIRTY_RATIO,
            "max.compaction.lag.ms": COMPACTED_WITHIN_MS,
            "segment.bytes": COMPACTED_SEGMENT_BYTES,
        }
    )


def _configs(values: Mapping[str, str | float]) -> Mapping[str, str]:
    return MappingProxyType(
        {"message.timestamp.type": "CreateTime"} | {name: str(value) for name, value in values.items()}
    )
