"""Sends records again as they were: key, value, headers and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from civicbus.errors import Unavailable
from civicbus.names import Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import LARGEST_MESSAGE_BYTES, confluent_producer
from civicbus.transport.faults import fault_of, translated

_DELIVERY_S = 30
_OPTIONS = {"delivery.timeout.ms": _DELIVERY_S * 1000, "message.max.bytes": LARGEST_MESSAGE_BYTES}
_NOW_MS = 0
# Of a batch in which several records are too old librdkafka says the second.
_TOO_OLD = frozenset({KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD})


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
    """Send records in this order and wait for the broker; raises the first fault.

    A record that is older than the topic takes, because it would be deleted before it is read, is sent with the
    time of now; its headers say when it happened. What stands behind it is then sent once more, in its order.
    """
    producer = confluent_producer(endpoints, credentials, _OPTIONS)
    answers = _send(producer, topic, dict(enumerate(records)))
    failed = {n: answer.code() for n, answer in answers.items() if isinstance(answer, KafkaError)}
    too_old = {n for n, code in failed.items() if code in _TOO_OLD}
    beside = {n for n, code in failed.items() if code == KafkaError._INVALID_DIFFERENT_RECORD}
    again = range(min(too_old | beside, default=len(records)), len(records))
    answers |= _send(
        producer, topic, {n: records[n]._replace(timestamp_ms=_NOW_MS) if n in too_old else records[n] for n in again}
    )
    for answer in answers.values():
        if isinstance(answer, KafkaError):
            raise fault_of(answer)
    if len(answers) < len(records):
        raise Unavailable(f"the broker did not acknowledge {len(records) - len(answers)} records")
    return [answer for _, answer in sorted(answers.items()) if isinstance(answer, Sent)]


def _send(producer: Producer, topic: Topic, records: Mapping[int, Resendable]) -> dict[int, Sent | KafkaError]:
    answers: dict[int, Sent | KafkaError] = {}

    def answered(number: int) -> Callable[[KafkaError | None, Message], None]:
        def note(error: KafkaError | None, message: Message) -> None:
            answers[number] = error or Sent(message.partition() or 0, message.offset() or 0)

        return note

    with translated():
        for number, record in records.items():
            producer.produce(
                topic,
                record.value,
                record.key,
                headers=[*record.headers],
                timestamp=max(record.timestamp_ms, _NOW_MS),
                on_delivery=answered(number),
            )
            producer.poll(0)
        producer.flush(_DELIVERY_S + 5)
    return answers
