"""What kafka-python's errors mean to civicbus, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors

from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError, Fenced, Unacceptable, Unavailable
from civicbus.reasons import Reason

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_FENCED = (
    errors.CommitFailedError,
    errors.FencedInstanceIdError,
    errors.FencedLeaderEpochError,
    errors.IllegalGenerationError,
    errors.InvalidProducerEpochError,
    errors.ProducerFencedError,
    errors.TransactionCoordinatorFencedError,
    errors.UnknownMemberIdError,
)
_DENIED = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.SecurityDisabledError,
    errors.UnacceptableCredentialError,
)
_WRONG = (
    errors.IllegalArgumentError,
    errors.IllegalSaslStateError,
    errors.IncompatibleBrokerVersion,
    errors.InvalidConfigurationError,
    errors.InvalidPartitionsError,
    errors.InvalidRecordError,
    errors.InvalidReplicationFactorError,
    errors.InvalidRequestError,
    errors.InvalidRequiredAcksError,
    errors.InvalidTimestampError,
    errors.InvalidTopicError,
    errors.KafkaConfigurationError,
    errors.PolicyViolationError,
    errors.UnrecognizedBrokerVersion,
    errors.UnsupportedCodecError,
    errors.UnsupportedCompressionTypeError,
    errors.UnsupportedForMessageFormatError,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
)


def fault_of(error: errors.KafkaError) -> CivicbusError:
    """The civicbus fault that a Kafka error is; what is not too large, fenced, denied or wrong is waited for."""
    text = f"Kafka: {error}"
    if isinstance(error, _TOO_LARGE):
        return Unacceptable(Reason.TOO_LARGE, "the broker takes no record of this size")
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
