"""What kafka-python's errors mean to civicbus, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors

from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError, Fenced, Unavailable

_FENCED = (
    errors.FencedInstanceIdError,
    errors.FencedLeaderEpochError,
    errors.IllegalGenerationError,
    errors.InvalidProducerEpochError,
    errors.ProducerFencedError,
    errors.UnknownMemberIdError,
)
_DENIED = (errors.AuthorizationError, errors.SaslAuthenticationFailedError)
_WRONG = (
    errors.IllegalArgumentError,
    errors.IncompatibleBrokerVersion,
    errors.InvalidConfigurationError,
    errors.InvalidPartitionsError,
    errors.InvalidRecordError,
    errors.InvalidReplicationFactorError,
    errors.InvalidRequestError,
    errors.InvalidTimestampError,
    errors.InvalidTopicError,
    errors.KafkaConfigurationError,
    errors.MessageSizeTooLargeError,
    errors.PolicyViolationError,
    errors.RecordListTooLargeError,
    errors.SecurityDisabledError,
    errors.UnacceptableCredentialError,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
)


def fault_of(error: errors.KafkaError) -> CivicbusError:
    """The civicbus fault that a Kafka error is; what is not fenced, denied or wrong is waited for."""
    text = f"Kafka: {error}"
    if isinstance(error, _FENCED):
        return Fenced(text)
    if isinstance(error, _DENIED):
        return AccessDenied(text, mend="check the principal's secret and rights (docs/security.md)")
    if isinstance(error, _WRONG):
        return ConfigurationError(text)
    return Unavailable(text)


def raise_for(code: int, message: str | None) -> None:
    """Raise the fault that a response's error code stands for; 0 stands for none."""
    if code != errors.NoError.errno:
        raise fault_of(errors.for_code(code)(message or ""))


@contextmanager
def translated() -> Iterator[None]:
    """Raise civicbus faults in place of kafka-python's."""
    try:
        yield
    except errors.KafkaError as error:
        raise fault_of(error) from error
