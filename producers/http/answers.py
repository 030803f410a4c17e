"""What the ingress says: receipts as JSON, rejections as problem details (RFC 9457). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from civicbus.producers.changes import Refusal
from civicbus.producers.http.fates import Fate
from civicbus.producers.http.receipts import ReceiptId, Shown
from civicbus.producers.http.rejections import Fault, Kind, Rejected
from civicbus.reasons import MEANINGS, MENDS
from civicbus.schemas.codec.tree import Json

PROBLEM = "application/problem+json"
STATUSES: dict[Kind, int] = {
    Kind.MALFORMED: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.METHOD: 405,
    Kind.CONFLICT: 409,
    Kind.CLAIMED: 409,
    Kind.TOO_LARGE: 413,
    Kind.MEDIA_TYPE: 415,
    Kind.UNPROCESSABLE: 422,
    Kind.TOO_MANY: 429,
    Kind.INTERNAL: 500,
    Kind.UNAVAILABLE: 503,
}
TITLES: dict[Kind, str] = {
    Kind.MALFORMED: "The body cannot be read",
    Kind.UNAUTHENTICATED: "Nobody is named whom the ingress knows",
    Kind.FORBIDDEN: "This belongs to another department",
    Kind.NOT_FOUND: "There is nothing here",
    Kind.METHOD: "This is not done here",
    Kind.CONFLICT: "An event id stands for another change",
    Kind.CLAIMED: "Another way publishes this dataset",
    Kind.TOO_LARGE: "The request is too large",
    Kind.MEDIA_TYPE: "The media type is none of those that are taken",
    Kind.UNPROCESSABLE: "An event is no change of its dataset",
    Kind.TOO_MANY: "The department sends faster than it may",
    Kind.INTERNAL: "The ingress has a fault",
    Kind.UNAVAILABLE: "The bus does not answer now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status, the document, and the headers beside it."""

    status: int
    document: Json
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def taken(receipts: Sequence[ReceiptId], event_ids: Sequence[str]) -> Answer:
    """The broker has every change; each receipt says later what became of its own."""
    each: list[Json] = [
        {"id": event_id, "receipt": receipt_path(receipt)}
        for event_id, receipt in zip(event_ids, receipts, strict=True)
    ]
    headers = {"Location": receipt_path(receipts[0])} if len(receipts) == 1 else {}
    return Answer(status=202, document={"receipts": each}, headers=headers)


def shown(what: Shown, fate: Fate, refusal: Refusal | None) -> Answer:
    """What became of one change."""
    document: dict[str, Json] = {"id": what.event_id, "dataset": str(what.dataset), "status": fate.value}
    if refusal is not None:
        document["reason"] = refusal.reason.value
        document["detail"] = MEANINGS[refusal.reason]
        document["mend"] = MENDS[refusal.reason]
        document |= {} if refusal.field is None else {"field": refusal.field}
    return Answer(status=200, document=document)


def problem(rejected: Rejected) -> Answer:
    """Why nothing was taken."""
    document: dict[str, Json] = {
        "type": f"urn:civicbus:problem:{rejected.kind}",
        "title": TITLES[rejected.kind],
        "status": STATUSES[rejected.kind],
        "detail": rejected.detail,
    }
    if rejected.faults:
        document["errors"] = [_fault(fault) for fault in rejected.faults]
    headers = {} if rejected.retry_after_s is None else {"Retry-After": str(max(1, math.ceil(rejected.retry_after_s)))}
    if rejected.kind is Kind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = 'Bearer realm="civicbus"'
    return Answer(status=STATUSES[rejected.kind], document=document, media_type=PROBLEM, headers=headers)


def receipt_path(receipt: ReceiptId) -> str:
    return f"/v1/receipts/{receipt}"


def _fault(fault: Fault) -> dict[str, Json]:
    document: dict[str, Json] = {"rule": fault.rule, "detail": fault.detail, "mend": fault.mend}
    document |= {} if fault.position is None else {"position": fault.position}
    document |= {} if fault.field is None else {"field": fault.field}
    return document
