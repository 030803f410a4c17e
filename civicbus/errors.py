"""Every fault that civicbus raises, split by what the operator does next.

::

    CivicbusError
    ├── ConfigurationError     fix the setting, file or document named in the message
    │   ├── HeldElsewhere      another way publishes the dataset; publish through it, or end it
    │   └── CheckFailed        a catalogue entry or an agreement is wrong; carries every finding
    ├── IntegrityError         bytes are not what a lock or a fingerprint says; fetch them again
    ├── AccessDenied           the broker, registry or database refused these credentials
    ├── Unavailable            a part does not answer now; wait, it is tried again
    ├── Fenced                 another instance took over this work; drop the state and open again
    └── Unacceptable           one record cannot go on: quarantine it with this reason

Expected outcomes (admitted, refused, delivered) are values, not exceptions; ``Unacceptable`` exists for
the places below them, such as the codec, where a record's bytes are found to be bad.
"""

from __future__ import annotations

from collections.abc import Sequence

from civicbus.reasons import Reason


class CivicbusError(Exception):
    """Root of the tree. ``mend`` says what to do next, in one sentence, and is part of the text."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(f"{message} — {mend}" if mend else message)
        self.message = message
        self.mend = mend


class ConfigurationError(CivicbusError):
    """A setting, a file or a document is wrong or missing."""


class HeldElsewhere(ConfigurationError):
    """Another way publishes the dataset, and a second one would make its changes stale."""


class CheckFailed(ConfigurationError):
    """A catalogue entry or an agreement does not pass its check; ``findings`` has one line each."""

    def __init__(self, message: str, findings: Sequence[str]) -> None:
        super().__init__("\n".join([message, *findings]))
        self.findings = tuple(findings)


class IntegrityError(CivicbusError):
    """Bytes on disk or from a peer differ from what was pinned."""


class AccessDenied(CivicbusError):
    """The broker, the registry or the database refused the credentials or the operation."""


class Unavailable(CivicbusError):
    """A part does not answer; the caller waits and tries again."""


class Fenced(CivicbusError):
    """Another instance owns this work now; nothing of the current transaction was committed."""


class Unacceptable(CivicbusError):
    """One record cannot go on. ``field`` names the field at fault, never its value."""

    def __init__(self, reason: Reason, detail: str, *, field: str | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}" if field is None else f"{reason.value}: {field}: {detail}")
        self.reason = reason
        self.detail = detail
        self.field = field
