"""Partitions by name, and where they begin and end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, NewType

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from civicbus.names import Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_admin
from civicbus.transport.faults import translated

FIRST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the library leaves them untyped
LAST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
REQUEST_TIMEOUT_S = 15.0


GONE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})

TopicId = NewType("TopicId", str)
"""The broker's own id of a topic; a topic that is deleted and made again has another."""


class TopicIdentity(NamedTuple):
    """What the broker says of a topic."""

    id: TopicId
    partitions: int


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: Topic
    number: int


def identities(admin: AdminClient, topics: Iterable[Topic]) -> dict[Topic, TopicIdentity]:
    """Ids and numbers of partitions; a topic that is not there is left out."""
    names: list[str] = list(topics)
    if not names:
        return {}
    found: dict[Topic, TopicIdentity] = {}
    futures = admin.describe_topics(TopicCollection(names), request_timeout=REQUEST_TIMEOUT_S)
    for name, future in futures.items():
        try:
            description = future.result(REQUEST_TIMEOUT_S)
        except KafkaException as exception:
            if exception.args[0].code() not in GONE:
                raise
        else:
            found[Topic(name)] = TopicIdentity(TopicId(str(description.topic_id)), len(description.partitions))
    return found


class Facts:
    """What the broker says of topics, for those who keep positions themselves. Raises what ``translated`` says."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials) -> None:
        self._admin = confluent_admin(endpoints, credentials)

    def ids(self, topics: Iterable[Topic]) -> dict[Topic, TopicId]:
        """The id of each topic that is there."""
        with translated():
            return {topic: identity.id for topic, identity in identities(self._admin, topics).items()}

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition ends for a reader of everything."""
        with translated():
            return offsets(self._admin, partitions, LAST, IsolationLevel.READ_UNCOMMITTED)


def offsets(
    admin: AdminClient, partitions: Iterable[Partition], spec: OffsetSpec, isolation: IsolationLevel
) -> dict[Partition, int]:
    """The first or the last offset of each partition, as a reader of this isolation sees it; one request."""
    return AskedOffsets(admin, partitions, spec, isolation).answer()


class AskedOffsets:
    """Offsets that the broker was asked for."""

    def __init__(
        self, admin: AdminClient, partitions: Iterable[Partition], spec: OffsetSpec, isolation: IsolationLevel
    ) -> None:
        asked = {TopicPartition(*partition): spec for partition in partitions}
        self._futures = (
            admin.list_offsets(asked, isolation_level=isolation, request_timeout=REQUEST_TIMEOUT_S) if asked else {}
        )

    @property
    def answered(self) -> bool:
        """Whether :meth:`answer` would not wait."""
        return all(future.done() for future in self._futures.values())

    def answer(self) -> dict[Partition, int]:
        """The offset of each partition; raises KafkaException where the broker does not say."""
        return {
            Partition(Topic(each.topic), each.partition): future.result(REQUEST_TIMEOUT_S).offset
            for each, future in self._futures.items()
        }
