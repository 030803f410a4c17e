"""What a Kafka cluster is asked to hold, as plain values: topics, rights, byte quotas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from civicbus.names import Topic
from civicbus.secrets import Principal

ANY_HOST = "*"


class Resource(IntEnum):
    """What a right is about; the numbers are the protocol's."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class Operation(IntEnum):
    """What a right allows; the numbers are the protocol's."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Binding:
    """One right: a principal may do this to one resource, or to all whose name starts so."""

    principal: Principal
    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False
    host: str = ANY_HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as it shall be. ``configs`` are the settings that matter; others keep the broker's default."""

    name: Topic
    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """A topic as it is; ``configs`` holds the value of every setting, defaults too."""

    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteQuota:
    """How many bytes a second a principal may send and receive through one broker."""

    produce: int
    consume: int
