"""Names of departments, datasets, agreements and their topics; one place, so that stages agree.

A name is ``[a-z][a-z0-9_]*``, at most 60 characters. Topic names end their prefixes in a dot, so the
prefix ``changes.health.`` cannot reach ``changes.health_insurance.x``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from civicbus.errors import ConfigurationError

DepartmentId = NewType("DepartmentId", str)
AgreementId = NewType("AgreementId", str)
Topic = NewType("Topic", str)

NAME = re.compile(r"[a-z][a-z0-9_]{0,59}\Z")
RESERVED = frozenset(
    {"platform", "connect", "civicbus", "civicbus_operator", "none", "public", "postgres", "template0", "template1"}
)
# PostgreSQL keeps role names with this prefix to itself, and a department's role has the department's name.
RESERVED_PREFIX = "pg_"

CATALOGUE_TOPIC = Topic("platform.catalogue")
AGREEMENTS_TOPIC = Topic("platform.agreements")
SOURCES_TOPIC = Topic("platform.sources")


class Stage(StrEnum):
    """The first part of a data topic's name."""

    CHANGES = "changes"
    RECORDS = "records"
    INBOX = "inbox"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, order=True)
class DatasetId:
    """A dataset of one department, written ``<department>.<name>``."""

    department: DepartmentId
    name: str

    def __str__(self) -> str:
        return f"{self.department}.{self.name}"

    @classmethod
    def parse(cls, text: str) -> DatasetId:
        """Raises ConfigurationError unless ``text`` is ``<department>.<dataset>``."""
        department, dot, name = text.partition(".")
        if not dot:
            raise ConfigurationError(f"{text!r} is no dataset", mend="write <department>.<dataset>")
        return cls(department_id(department), valid_name(name))

    @classmethod
    def of(cls, topic: Topic) -> DatasetId:
        """The dataset whose changes, records or quarantine a topic holds."""
        return cls.parse(topic.partition(".")[2])

    @property
    def changes(self) -> Topic:
        return Topic(f"{Stage.CHANGES}.{self}")

    @property
    def records(self) -> Topic:
        return Topic(f"{Stage.RECORDS}.{self}")

    @property
    def quarantine(self) -> Topic:
        return Topic(f"{Stage.QUARANTINE}.{self}")


def valid_name(text: str) -> str:
    """``text`` itself; raises ConfigurationError where it is no valid name."""
    if not NAME.match(text):
        raise ConfigurationError(f"{text!r} is no valid name", mend="use [a-z][a-z0-9_]*, at most 60 characters")
    return text


def department_id(text: str) -> DepartmentId:
    """``text`` as a department; raises ConfigurationError for an invalid or reserved name."""
    if valid_name(text) in RESERVED or text.startswith(RESERVED_PREFIX):
        raise ConfigurationError(f"{text!r} is a reserved name", mend="choose another department name")
    return DepartmentId(text)


def inbox_topic(subscriber: DepartmentId, agreement: AgreementId) -> Topic:
    return Topic(f"{Stage.INBOX}.{subscriber}.{agreement}")


def capture_topic(dataset: DatasetId) -> Topic:
    """What Kafka Connect writes of a dataset's table, for the department's own converter."""
    return Topic(f"connect.{dataset}")


def value_subject(topic: Topic) -> str:
    """The registry subject of a topic's values (Confluent TopicNameStrategy)."""
    return f"{topic}-value"


def source_of(department: DepartmentId) -> str:
    """The ``ce_source`` of a department's own changes."""
    return f"urn:civicbus:{department}"
