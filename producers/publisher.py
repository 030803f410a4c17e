"""A department's records become change events on its own topic: checked before they are sent, in order, acknowledged.

Promise: what ``upsert`` and ``delete`` accept is on the topic of all replicas when ``flush`` or ``close``
returns, or they raise naming the events; memory stays bounded, since they wait while too much is on its way.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from civicbus.errors import Unacceptable, Unavailable
from civicbus.events import SEQUENCE_LIMIT, ChangeEvent, Headers, checked_id, checked_time, deleted, upserted
from civicbus.names import source_of
from civicbus.producers.changes import Change, Refusal, event_ids, next_sequence, report_of
from civicbus.producers.outlet import Outlet, Receipt
from civicbus.producers.registered import registered_at
from civicbus.producers.sources import clock_epoch, clock_sequence
from civicbus.producers.spool import Spool
from civicbus.producers.spooling import SPOOL_BYTES, Spooling
from civicbus.reasons import Reason
from civicbus.schemas.codec.frame import header
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema, document
from civicbus.schemas.datasets import Dataset, SequenceRule
from civicbus.secrets import Credentials, SecretStore, principal_of
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.outgoing import DELIVERY_S, IN_FLIGHT_BYTES, Outgoing

__all__ = ["Publisher", "Receipt"]

# Who has a spool does not wait long for a broker that is away.
_ASK_FOR_S = 3.0


class Publisher:
    """Publishes the changes of one dataset. Safe to use from several threads; a record's changes keep their order.

    The default sequence is the time in nanoseconds and rises with every change, across runs as long as the clock
    is not set back; who has a better one (a row version, a log position) gives it.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        credentials: Credentials,
        dataset: Dataset,
        schema_id: int,
        *,
        epoch: int = 0,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
    ) -> None:
        """Connect; raises AccessDenied for refused credentials and Unavailable where no broker answers.

        ``epoch`` is what ``sources.clock_epoch`` says; a caller that gives every sequence itself needs none.
        """
        outgoing = Outgoing(endpoints, credentials, dataset.id.changes, in_flight_bytes=in_flight_bytes)
        self._begin(outgoing, dataset, schema_id, epoch=epoch)

    @classmethod
    def at(cls, home: Path, dataset: Dataset, *, spool: Path | None = None, spool_bytes: int = SPOOL_BYTES) -> Self:
        """A publisher on the platform that this home belongs to, with the owner's own credentials.

        With a ``spool`` every change is written into this file before it is sent, and a call returns when it is
        there: nothing is lost when the program is killed or the broker is away. Raises HeldElsewhere where a log
        publishes the dataset.
        """
        endpoints = Endpoints.load(home)
        credentials = SecretStore(secrets_folder(home)).read(principal_of(dataset.id.department))
        if spool is None:
            epoch = clock_epoch(endpoints, credentials, dataset.id)
            return cls(endpoints, credentials, dataset, registered_at(endpoints, dataset), epoch=epoch)
        return cls.spooling(endpoints, credentials, dataset, spool, limit_bytes=spool_bytes)

    @classmethod
    def spooling(
        cls,
        endpoints: Endpoints,
        credentials: Credentials,
        dataset: Dataset,
        spool: Path,
        *,
        limit_bytes: int = SPOOL_BYTES,
    ) -> Self:
        """A publisher whose changes go into a spool first; opens while the broker is away.

        Raises HeldElsewhere where a log publishes the dataset, as far as can be asked, ConfigurationError where
        another process holds the spool, and Unavailable where the registry does not answer and the spool never
        learned the id of this schema.
        """
        held = Spool(spool, dataset.id)
        try:
            schema_id = _learned(held, endpoints, dataset)
            epoch = _learned_epoch(held, endpoints, credentials, dataset)
        except BaseException:
            held.close()
            raise
        outlet = Spooling(held, lambda: Outgoing(endpoints, credentials, dataset.id.changes), limit_bytes=limit_bytes)
        return cls.over(outlet, dataset, schema_id, epoch=epoch, last_sequence=held.last_sequence)

    @classmethod
    def over(cls, outlet: Outlet, dataset: Dataset, schema_id: int, *, epoch: int = 0, last_sequence: int = 0) -> Self:
        """A publisher that hands its changes to this outlet, which it closes."""
        publisher = cls.__new__(cls)
        publisher._begin(outlet, dataset, schema_id, epoch=epoch, last_sequence=last_sequence)
        return publisher

    def _begin(
        self, outlet: Outlet, dataset: Dataset, schema_id: int, *, epoch: int = 0, last_sequence: int = 0
    ) -> None:
        self.schema_id = schema_id
        self._dataset = dataset
        self._codec = RowCodec(dataset.schema)
        self._key_codec = RowCodec(key_schema(dataset))
        self._required = tuple(field.name for field in dataset.fields if field.quality.required)
        self._frame = header(schema_id)
        self._source = source_of(dataset.id.department)
        self._upserted, self._deleted = upserted(dataset.id), deleted(dataset.id)
        self._lock = threading.Lock()
        self._events = event_ids()
        self._epoch = epoch
        self._last = last_sequence
        self._outlet = outlet

    def upsert(
        self,
        record: Mapping[str, object],
        *,
        sequence: int | None = None,
        event_id: str | None = None,
        time: datetime | None = None,
    ) -> Receipt:
        """Publish the current state of a record; raises Unacceptable, naming the field, where it cannot be one."""
        key, value = self.encoded(record)
        with self._lock:
            event = self._event(self._upserted, sequence, event_id, time)
            return self._hand_over(event, event.headers(), key, value)

    def delete(
        self,
        key: Mapping[str, object],
        *,
        sequence: int | None = None,
        event_id: str | None = None,
        time: datetime | None = None,
    ) -> Receipt:
        """Publish that a record is gone; ``key`` has its key fields, or is the record itself."""
        record_key = self.encoded_key(key)
        with self._lock:
            event = self._event(self._deleted, sequence, event_id, time)
            return self._hand_over(event, event.headers(), record_key, None)

    def encoded(self, record: Mapping[str, object]) -> tuple[bytes, bytes]:
        """The key and the value of an upsert, not sent; raises Unacceptable as ``upsert`` does."""
        key = self._dataset.key_of(record)
        value = self._frame + self._codec.encode(record)
        for name in self._required:
            if record.get(name) is None or record[name] == "":
                raise Unacceptable(Reason.QUALITY_REQUIRED, f"{name} is required", field=name)
        if len(value) > self._dataset.max_bytes:
            raise Unacceptable(Reason.TOO_LARGE, f"the record takes more than {self._dataset.max_bytes} bytes")
        return key, value

    def encoded_key(self, key: Mapping[str, object]) -> bytes:
        """The key of a deletion, not sent; raises Unacceptable as ``delete`` does."""
        fields = {name: key[name] for name in self._dataset.key if name in key}
        record_key = self._dataset.key_of(fields)
        self._key_codec.encode(fields)
        return record_key

    def report_unsendable(
        self,
        row: Mapping[str, str | None],
        reason: Reason,
        field: str | None = None,
        *,
        event_id: str | None = None,
        time: datetime | None = None,
    ) -> Receipt:
        """Have a row that cannot be sent parked in the dataset's quarantine, under this reason."""
        with self._lock:
            named, moment = self._named(event_id), self._timed(time)
        event = ChangeEvent(id=named, source=self._source, type=self._upserted, time=moment)
        refusal = Refusal(reason=reason, field=field)
        return self.send(Change(event=event, key=None, value=report_of(row), refusal=refusal))

    def send(self, change: Change) -> Receipt:
        """Send a change that is ready as it is: one that was written down before, to be sent again."""
        return self._hand_over(change.event, change.headers(), change.key, change.value)

    def would_wait(self) -> bool:
        """Whether the next call may wait for the broker or the disk."""
        return self._outlet.would_wait(self._dataset.max_bytes)

    def waiting(self) -> int:
        """How many changes the broker has not acknowledged yet, those of earlier runs in the spool included."""
        return self._outlet.waiting()

    def sequence_now(self) -> int:
        """The sequence of this moment, by the clock."""
        return clock_sequence(self._epoch, time.time_ns())

    def topic_id(self) -> str:
        """What the broker calls the changes topic; after the topic was made anew it is another one."""
        return self._outlet.topic_id()

    def flush(self, timeout_s: float = DELIVERY_S) -> None:
        """Wait until the broker has all that was sent so far; raises what failed, naming the events."""
        self._outlet.flush(timeout_s)

    def close(self) -> None:
        """Flush and disconnect."""
        self._outlet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hand_over(self, event: ChangeEvent, headers: Headers, key: bytes | None, value: bytes | None) -> Receipt:
        return self._outlet.send(key=key, value=value, headers=headers, event_id=event.id, sequence=event.sequence)

    def _event(self, type_: str, sequence: int | None, event_id: str | None, moment: datetime | None) -> ChangeEvent:
        return ChangeEvent(
            id=self._named(event_id),
            source=self._source,
            type=type_,
            time=self._timed(moment),
            sequence=self._sequence(sequence),
        )

    def _named(self, given: str | None) -> str:
        return next(self._events) if given is None else checked_id(given)

    @staticmethod
    def _timed(given: datetime | None) -> datetime:
        return datetime.now(UTC) if given is None else checked_time(given)

    def _sequence(self, given: int | None) -> int | None:
        if self._dataset.sequence is SequenceRule.UNUSED:
            if given is not None:
                raise Unacceptable(Reason.SEQUENCE_UNUSED, "this dataset has no sequence", field="ce_sequence")
            return None
        sequence = next_sequence(self._last, self.sequence_now()) if given is None else given
        if not 0 <= sequence < SEQUENCE_LIMIT:
            raise Unacceptable(Reason.HEADER_INVALID, "a sequence has 64 bits, unsigned", field="ce_sequence")
        self._last = max(self._last, sequence)
        return sequence


def key_schema(dataset: Dataset) -> AvroSchema:
    """The schema of the key fields alone, so that a key is checked as strictly as a record."""
    record = dataset.schema.record
    key = replace(record, fields=tuple(field for field in record.fields if field.name in dataset.key))
    return AvroSchema.parse(json.dumps(document(key, set())))


def _learned(spool: Spool, endpoints: Endpoints, dataset: Dataset) -> int:
    """The registry's id of the schema, or what the spool knows of it while the registry does not answer."""
    known = spool.schema_id(dataset.schema.fingerprint)
    try:
        schema_id = registered_at(endpoints, dataset)
    except Unavailable as away:
        if known is None:
            raise Unavailable(
                f"{away.message}, and the spool {spool.path} does not know the schema of {dataset.id} yet",
                mend="open the publisher once while the platform answers; from then on it opens without",
            ) from away
        return known
    if schema_id != known:
        spool.learn_schema(dataset.schema.fingerprint, schema_id)
    return schema_id


def _learned_epoch(spool: Spool, endpoints: Endpoints, credentials: Credentials, dataset: Dataset) -> int:
    """The epoch of the dataset's clock, or what the spool knows of it while the broker does not answer."""
    known = spool.epoch
    try:
        epoch = clock_epoch(endpoints, credentials, dataset.id, _ASK_FOR_S)
    except Unavailable:
        return known
    if epoch != known:
        spool.learn_epoch(epoch)
    return epoch
