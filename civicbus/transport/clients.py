"""librdkafka's clients, made from endpoints and credentials; they carry the hot path.

kafka-python's clients stand in ``python_clients``: a process that needs one library does not load the other.
"""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, Message, Producer
from confluent_kafka.admin import AdminClient

from civicbus.secrets import Credentials
from civicbus.settings import Endpoints

__all__ = [
    "LARGEST_MESSAGE_BYTES",
    "confluent_admin",
    "confluent_consumer",
    "confluent_producer",
    "gathered",
]

# Both libraries take open-ended option maps; Any is their own type for the values.
Options = dict[str, Any]

LARGEST_MESSAGE_BYTES = 9 * 2**20


def confluent_consumer(endpoints: Endpoints, credentials: Credentials, options: Options) -> Consumer:
    """A librdkafka consumer; nothing is committed for it, and it never resets to latest by itself."""
    return Consumer(
        _librdkafka(endpoints, credentials)
        | {"enable.auto.commit": False, "auto.offset.reset": "error", "allow.auto.create.topics": False}
        | options
    )


def confluent_producer(endpoints: Endpoints, credentials: Credentials, options: Options) -> Producer:
    """A librdkafka producer, idempotent, with the partitioner that every client of the bus uses."""
    return Producer(
        _librdkafka(endpoints, credentials)
        | {"enable.idempotence": True, "acks": "all", "partitioner": "murmur2_random"}
        | options
    )


def confluent_admin(endpoints: Endpoints, credentials: Credentials, options: Options | None = None) -> AdminClient:
    """librdkafka's admin client, for what kafka-python's lacks."""
    return AdminClient(_librdkafka(endpoints, credentials) | (options or {}))


def gathered(consumer: Consumer, most: int, timeout_s: float, not_before: float) -> list[Message]:
    """What is there now, at most so many messages; waits at most ``timeout_s`` for the first.

    Where there is one, more of them gather until the monotonic clock shows ``not_before``.
    """
    messages = consumer.consume(1, timeout_s)
    if messages:
        time.sleep(max(0.0, not_before - time.monotonic()))
        messages += consumer.consume(most - 1, 0.0)
    return messages


def _librdkafka(endpoints: Endpoints, credentials: Credentials) -> Options:
    options: Options = {
        "bootstrap.servers": endpoints.bootstrap_servers,
        "security.protocol": endpoints.security_protocol,
        "sasl.mechanisms": endpoints.sasl_mechanism,
        "sasl.username": credentials.principal,
        "sasl.password": credentials.password,
        "reconnect.backoff.max.ms": 1000,
    }
    if endpoints.tls_ca_file is not None:
        options["ssl.ca.location"] = str(endpoints.tls_ca_file)
    return options
