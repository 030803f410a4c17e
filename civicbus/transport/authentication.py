"""Asks a broker whether it accepts these credentials, and tells a refusal from silence within a second.

kafka-python retries a refused password until its time is out, and then reports a timeout; librdkafka says
which of the two it was.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException

from civicbus.errors import Unavailable
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_admin
from civicbus.transport.faults import fault_of

_PATIENCE_S = 0.2


def authenticate(endpoints: Endpoints, credentials: Credentials, timeout_s: float = 10.0) -> None:
    """Raises AccessDenied where the broker refuses the credentials, Unavailable where none answers in time."""
    errors: list[KafkaError] = []
    client = confluent_admin(endpoints, credentials, {"error_cb": errors.append, "log_level": 0})
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            client.list_topics(timeout=_PATIENCE_S)
        except KafkaException:
            client.poll(0)
            _raise_refusal(errors)
        else:
            return
    raise Unavailable(f"no Kafka broker answers at {endpoints.bootstrap_servers}")


def _raise_refusal(errors: list[KafkaError]) -> None:
    for error in errors:
        if error.code() == KafkaError._AUTHENTICATION:
            raise fault_of(error)
