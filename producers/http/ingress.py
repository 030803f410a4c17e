"""The ingress without HTTP's own matters: who sends, how much, which dataset, and what is answered.

Default deny: nothing is answered to somebody who is not known, and a department reaches its own datasets alone.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.names import DatasetId, DepartmentId
from civicbus.producers.http import answers, events, limits, openapi
from civicbus.producers.http.answers import Answer
from civicbus.producers.http.events import MOST_FAULTS, Asked
from civicbus.producers.http.fates import Fates
from civicbus.producers.http.intake import RETRY_AFTER_S, Intake
from civicbus.producers.http.keys import KeyFile
from civicbus.producers.http.known import Known
from civicbus.producers.http.metrics import TAKEN
from civicbus.producers.http.receipts import ReceiptId, Receipts
from civicbus.producers.http.rejections import Fault, Kind, Rejected
from civicbus.producers.http.tokens import Tokens
from civicbus.schemas.datasets import Dataset
from civicbus.settings import IngressSettings

_BEARER = "bearer "


class Ingress:
    """Answers every kind of request. Safe to use from several threads."""

    def __init__(
        self,
        settings: IngressSettings,
        *,
        keys: KeyFile,
        known: Known,
        receipts: Receipts,
        intake: Intake,
        fates: Fates,
    ) -> None:
        self.settings = settings
        self._keys = keys
        self._tokens = Tokens(settings)
        self._known = known
        self._receipts = receipts
        self._intake = intake
        self._fates = fates
        self._lock = threading.Lock()
        self._buckets: dict[DepartmentId, limits.Bucket] = {}

    def sender(self, authorization: str) -> DepartmentId:
        """Who sends; raises Rejected where the key or the token is not taken."""
        text = authorization[len(_BEARER) :].strip() if authorization.lower().startswith(_BEARER) else ""
        if not text.isascii():
            text = ""
        try:
            department = self._tokens.holder(text) if text.count(".") == 2 else self._keys.holder(text)
        except Unavailable as fault:
            raise Rejected(Kind.UNAVAILABLE, fault.message, retry_after_s=RETRY_AFTER_S) from None
        if department is None:
            raise Rejected(Kind.UNAUTHENTICATED, "send Authorization: Bearer and the department's key or token")
        return department

    def take_events(self, sender: DepartmentId, headers: Mapping[str, str], body: bytes) -> Answer:
        """Publish CloudEvents."""
        return self._take(sender, events.asked_by(sender, headers, body))

    def put_records(self, sender: DepartmentId, dataset: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Publish the current state of records."""
        own = self._own(sender, dataset)
        media_type = headers.get("content-type", "")
        return self._take(sender, events.records_of(own.id, body, media_type, _stem(headers)))

    def delete_record(self, sender: DepartmentId, dataset: str, key: str, headers: Mapping[str, str]) -> Answer:
        """Publish that a record is gone."""
        own = self._own(sender, dataset)
        return self._take(sender, [events.deletion_of(own, key, f"{_stem(headers)}-0")])

    def show_receipt(self, sender: DepartmentId, receipt: str) -> Answer:
        """What became of a change; nobody sees another department's."""
        self._charge(sender, 1)
        shown = self._receipts.show(ReceiptId(receipt))
        if shown is None or shown.dataset.department != sender:
            raise Rejected(Kind.NOT_FOUND, "there is no such receipt, or it is too old")
        return answers.shown(shown, *self._fates.fate_of(shown))

    def describe(self, sender: DepartmentId) -> Answer:
        """The OpenAPI document of what the sender may do."""
        document = openapi.document(sender, self._datasets(), self.settings.batch_events)
        return Answer(status=200, document=document)

    def _take(self, sender: DepartmentId, asked: Sequence[Asked]) -> Answer:
        most = self.settings.batch_events
        if len(asked) > most:
            raise Rejected(Kind.TOO_LARGE, f"{len(asked)} events; a request has at most {most}")
        self._charge(sender, len(asked))
        datasets = self._datasets()
        unknown = [_unknown(position) for position, one in enumerate(asked) if one.dataset not in datasets]
        events.raise_faults(Kind.UNPROCESSABLE, unknown[:MOST_FAULTS])
        receipts = self._intake.take(asked, datasets) if asked else []
        TAKEN.labels(sender).inc(len(receipts))
        return answers.taken(receipts, [one.event_id for one in asked])

    def _charge(self, sender: DepartmentId, count: int) -> None:
        now_s = time.monotonic()
        with self._lock:
            bucket = self._buckets.get(sender)
            if bucket is None:
                bucket = limits.full(self.settings.events_per_s, self.settings.burst_events, now_s)
            self._buckets[sender], wait_s = bucket.taken(count, now_s)
        if wait_s:
            detail = f"{self.settings.events_per_s} events a second, {self.settings.burst_events} at once"
            raise Rejected(Kind.TOO_MANY, f"the department may send {detail}", retry_after_s=wait_s)

    def _datasets(self) -> Mapping[DatasetId, Dataset]:
        datasets = self._known.datasets
        if datasets is None:
            raise Rejected(Kind.UNAVAILABLE, "the catalogue is not read yet", retry_after_s=RETRY_AFTER_S)
        return datasets

    def _own(self, sender: DepartmentId, name: str) -> Dataset:
        """The sender's dataset of this name; one of another department is forbidden, whether it is there or not."""
        try:
            dataset = DatasetId.parse(name)
        except ConfigurationError:
            raise Rejected(Kind.NOT_FOUND, "a dataset is named <department>.<dataset>") from None
        if dataset.department != sender:
            raise Rejected(Kind.FORBIDDEN, "the dataset is another department's")
        found = self._datasets().get(dataset)
        if found is None:
            raise Rejected(Kind.NOT_FOUND, f"the catalogue has no dataset {dataset}")
        return found


def _stem(headers: Mapping[str, str]) -> str:
    """What the event ids of a request begin with: its Idempotency-Key, or something that nobody else has."""
    given = headers.get("idempotency-key")
    if given is None:
        return secrets.token_hex(16)
    if not events.is_attribute(given):
        fault = Fault(
            rule="idempotency_key",
            detail="the Idempotency-Key is empty, too long or holds a character that cannot be printed",
            mend=f"Use at most {events.LONGEST_ATTRIBUTE} printable characters.",
            field="Idempotency-Key",
        )
        raise Rejected(Kind.UNPROCESSABLE, "the Idempotency-Key cannot be taken", [fault])
    return given


def _unknown(position: int) -> Fault:
    return Fault(
        rule="cloudevents",
        detail="the catalogue has no such dataset",
        mend="Correct type, or apply the dataset's catalogue entry (civicbus catalogue apply).",
        position=position,
        field="type",
    )
