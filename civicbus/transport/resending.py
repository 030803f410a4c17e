"""Sends records again as they were: key, value, headers and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, Message

from civicbus.errors import Unavailable
from civicbus.names import Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_producer
from civicbus.transport.faults import fault_of, translated

_DELIVERY_S = 30
_OPTIONS = {"delivery.timeout.ms": _DELIVERY_S * 1000, "message.max.bytes": 9 * 2**20}


class Resendable(NamedTuple):
    """A record without its place."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


class Sent(NamedTuple):
    """Where the broker put a record."""

    partition: int
    offset: int


def send_again(
    endpoints: Endpoints, credentials: Credentials, topic: Topic, records: Sequence[Resendable]
) -> list[Sent]:
    """Send records in this order and wait for the broker; raises the first fault."""
    producer = confluent_producer(endpoints, credentials, _OPTIONS)
    places: dict[int, Sent] = {}
    failed: list[KafkaError] = []

    def noting(number: int) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                places[number] = Sent(message.partition() or 0, message.offset() or 0)
            else:
                failed.append(error)

        return delivered

    with translated():
        for number, record in enumerate(records):
            producer.produce(
                topic,
                record.value,
                record.key,
                headers=[*record.headers],
                timestamp=max(record.timestamp_ms, 0),
                on_delivery=noting(number),
            )
            producer.poll(0)
        producer.flush(_DELIVERY_S + 5)
    if failed:
        raise fault_of(failed[0])
    if len(places) < len(records):
        raise Unavailable(f"the broker did not acknowledge {len(records) - len(places)} records")
    return [places[number] for number in range(len(records))]
