"""Whether one change may enter the bus. Pure: the same change, state and rules give the same decision.

What is checked, in this order: the event's headers, the record key, the bytes against their schema, the
quality rules, the sequence (DESIGN §5 rule 9). The first rule that is broken names the refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from civicbus.errors import Unacceptable
from civicbus.events import (
    TIME_AHEAD,
    UNSENDABLE_FIELD,
    UNSENDABLE_REASON,
    ChangeEvent,
    Headers,
    deleted,
    parse_change,
    upserted,
)
from civicbus.keys import KEY_BYTES
from civicbus.names import source_of
from civicbus.reasons import Reason
from civicbus.schemas.datasets import Dataset, SequenceRule


class Verdict(Enum):
    """What becomes of a change that broke no rule of its own."""

    ADMIT = auto()
    DUPLICATE = auto()


@dataclass(frozen=True, slots=True)
class Version:
    """The last admitted version of a record: its sequence (0 where unused) and the hash of its bytes."""

    sequence: int
    digest: int


def examine(dataset: Dataset, key: bytes | None, value: bytes | None, headers: Headers, now: datetime) -> ChangeEvent:
    """The event of a change whose headers, key and size are right; raises Unacceptable for others."""
    event = event_of(dataset, headers, deletion=value is None, now=now)
    if not key:
        raise Unacceptable(Reason.KEY_MISSING, "the change has no Kafka key")
    if len(key) > KEY_BYTES:
        raise Unacceptable(Reason.TOO_LARGE, f"the key has {len(key)} bytes, {KEY_BYTES} allowed")
    if value is not None and len(value) > dataset.max_bytes:
        raise Unacceptable(Reason.TOO_LARGE, f"{len(value)} bytes, {dataset.max_bytes} allowed")
    return event


def event_of(dataset: Dataset, headers: Headers, *, deletion: bool, now: datetime) -> ChangeEvent:
    """The change's event; raises Unacceptable where a header is missing, wrong or foreign."""
    _refuse_unsendable(headers)
    event = parse_change(headers)
    own = source_of(dataset.id.department)
    if event.source != own and not event.source.startswith(f"{own}:"):
        raise Unacceptable(Reason.SOURCE_FOREIGN, f"ce_source is not {own}", field="ce_source")
    expected = deleted(dataset.id) if deletion else upserted(dataset.id)
    if event.type != expected:
        raise Unacceptable(Reason.HEADER_INVALID, f"ce_type is not {expected}", field="ce_type")
    if event.time > now + TIME_AHEAD:
        raise Unacceptable(Reason.TIME_AHEAD, "ce_time is more than 5 minutes ahead", field="ce_time")
    if dataset.sequence is SequenceRule.REQUIRED and event.sequence is None:
        raise Unacceptable(Reason.HEADER_MISSING, "ce_sequence is missing", field="ce_sequence")
    if dataset.sequence is SequenceRule.UNUSED and event.sequence is not None:
        raise Unacceptable(Reason.SEQUENCE_UNUSED, "the dataset has no sequence", field="ce_sequence")
    return event


def _refuse_unsendable(headers: Headers) -> None:
    """A row that the department's own producer could not send arrives with the reason beside it."""
    named = {name: value for name, value in headers if name in (UNSENDABLE_REASON, UNSENDABLE_FIELD)}
    code = named.get(UNSENDABLE_REASON)
    if code is None:
        return
    field = named.get(UNSENDABLE_FIELD)
    try:
        reason = Reason(code.decode() if isinstance(code, bytes) else code)
        name = field.decode() if isinstance(field, bytes) else None
    except ValueError:
        raise Unacceptable(Reason.HEADER_INVALID, "no known reason", field=UNSENDABLE_REASON) from None
    raise Unacceptable(reason, "the producer could not send this row", field=name)


def check_key(dataset: Dataset, key: bytes, inside: bytes | None) -> None:
    """Raises Unacceptable unless the Kafka key is the key inside the row."""
    if inside is None:
        raise Unacceptable(Reason.KEY_MISSING, "a key field is empty", field=dataset.key[0])
    if key != inside:
        raise Unacceptable(Reason.KEY_MISMATCH, "the Kafka key is not the row's key", field=dataset.key[0])


def judge(last: Version | None, change: Version, rule: SequenceRule) -> Verdict:
    """Newer, the same, or refused; raises Unacceptable for a stale or a conflicting version."""
    if last is None:
        return Verdict.ADMIT
    if rule is SequenceRule.UNUSED:
        return Verdict.DUPLICATE if change.digest == last.digest else Verdict.ADMIT
    if change.sequence > last.sequence:
        return Verdict.ADMIT
    if change.sequence < last.sequence:
        raise Unacceptable(Reason.SEQUENCE_STALE, "a later version was admitted already", field="ce_sequence")
    if change.digest == last.digest:
        return Verdict.DUPLICATE
    raise Unacceptable(Reason.SEQUENCE_CONFLICT, "this sequence was admitted with other bytes", field="ce_sequence")
