"""Partitions by name, and where they begin and end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from civicbus.names import Topic

FIRST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the library leaves them untyped
LAST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
REQUEST_TIMEOUT_S = 15.0


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: Topic
    number: int


def offsets(
    admin: AdminClient, partitions: Iterable[Partition], spec: OffsetSpec, isolation: IsolationLevel
) -> dict[Partition, int]:
    """The first or the last offset of each partition, as a reader of this isolation sees it; one request."""
    asked = {TopicPartition(*partition): spec for partition in partitions}
    if not asked:
        return {}
    futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=REQUEST_TIMEOUT_S)
    return {
        Partition(Topic(each.topic), each.partition): future.result(REQUEST_TIMEOUT_S).offset
        for each, future in futures.items()
    }
