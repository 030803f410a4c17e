"""Why a request is not taken: the kinds, and what is wrong where. Names and rules, never values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from civicbus.errors import Unacceptable
from civicbus.reasons import MENDS, Reason


class Kind(StrEnum):
    """What a client tells apart; each is a problem type and has one HTTP status (``answers``)."""

    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    METHOD = "method-not-allowed"
    CONFLICT = "conflict"
    CLAIMED = "claimed"
    TOO_LARGE = "too-large"
    MEDIA_TYPE = "media-type"
    UNPROCESSABLE = "unprocessable"
    TOO_MANY = "too-many"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong: in which event of the request, in which field, by which rule, and the mend."""

    rule: str
    detail: str
    mend: str
    position: int | None = None
    field: str | None = None


class Rejected(Exception):
    """Nothing of the request was taken. ``retry_after_s``: when the same request may be taken."""

    def __init__(
        self, kind: Kind, detail: str, faults: Sequence[Fault] = (), *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults)
        self.retry_after_s = retry_after_s


def fault_of(refused: Unacceptable, position: int | None = None) -> Fault:
    """The fault that a record was refused for, in the terms of JSON."""
    unreadable = refused.reason in {Reason.BYTES, Reason.UNREADABLE_ROW}
    return Fault(
        rule=(Reason.UNREADABLE_ROW if unreadable else refused.reason).value,
        detail=refused.detail,
        mend="Give the field the form that /openapi.json says for it." if unreadable else MENDS[refused.reason],
        position=position,
        field=refused.field,
    )
