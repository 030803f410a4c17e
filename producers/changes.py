"""A change made ready for its topic: key, value and CloudEvents headers, before anything is sent.

The moment, the sequence and the event id come from the caller.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from civicbus.events import UNSENDABLE_FIELD, UNSENDABLE_REASON, ChangeEvent, Headers
from civicbus.reasons import Reason

REPORT_BYTES = 2**20
_CUT = "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a row cannot be sent as a change, and the field at fault."""

    reason: Reason
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One upsert, one deletion (``value`` is None), or the report of a row that cannot be sent."""

    event: ChangeEvent
    key: bytes | None
    value: bytes | None
    refusal: Refusal | None = None

    def headers(self) -> Headers:
        headers = self.event.headers()
        if self.refusal is not None:
            headers.append((UNSENDABLE_REASON, self.refusal.reason.value.encode()))
            if self.refusal.field is not None:
                headers.append((UNSENDABLE_FIELD, self.refusal.field.encode()))
        return headers


def event_ids() -> Iterator[str]:
    """Ids that no other call gives: 128 random bits and a counter. (A random id each would cost a system call.)"""
    prefix = secrets.token_hex(16)
    return (f"{prefix}-{number}" for number in itertools.count(1))


def next_sequence(last: int, now: int) -> int:
    """The default ``ce_sequence``: the clock's, and always higher than the last one."""
    return max(last + 1, now)


def report_of(row: Mapping[str, str | None]) -> bytes:
    """The value that reports a row: a JSON object of its texts, the longest of them cut where it is too large."""
    report = _json(row)
    longest = REPORT_BYTES
    while len(report) > REPORT_BYTES:
        longest //= 2
        report = _json({name: _cut(text, longest) for name, text in row.items()})
    return report


def _json(row: Mapping[str, str | None]) -> bytes:
    return json.dumps(dict(row), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _cut(text: str | None, longest: int) -> str | None:
    return text if text is None or len(text) <= longest else text[:longest] + _CUT
