"""What librdkafka's errors mean to civicbus, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError, Fenced, Unavailable

_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.UNKNOWN_MEMBER_ID,
    }
)
_DENIED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_WRONG = frozenset(
    {
        KafkaError._INVALID_ARG,
        KafkaError.INVALID_CONFIG,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.UNSUPPORTED_VERSION,
    }
)


def fault_of(error: KafkaError) -> CivicbusError:
    """The civicbus fault that a Kafka error is; what is not fenced, denied or wrong is waited for."""
    text = f"Kafka: {error.name()}: {error.str()}"
    code = error.code()
    if code in _FENCED:
        return Fenced(text)
    if code in _DENIED:
        return AccessDenied(text, mend="check the principal's secret and rights (docs/security.md)")
    if code in _WRONG:
        return ConfigurationError(text)
    return Unavailable(text)


def is_refusal(error: KafkaError) -> bool:
    """Whether the broker refused the credentials."""
    return error.code() in {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}


@contextmanager
def translated() -> Iterator[None]:
    """Raise civicbus faults in place of librdkafka's and of futures that were not settled in time."""
    try:
        yield
    except TimeoutError as late:
        raise Unavailable("Kafka: no answer in time") from late
    except KafkaException as exception:
        raise fault_of(exception.args[0]) from exception
