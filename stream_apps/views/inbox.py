"""A view on its way out: how its rows and keys are written, and what its inbox holds.

The inbox is the record of what was sent (ADR 0005): for each slot the hash of the last row in the inbox, read back
when a partition opens. A row is written where its hash differs, a tombstone where the inbox has a row and should not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from civicbus.errors import Unacceptable, Unavailable
from civicbus.events import CAUSE, Headers
from civicbus.names import AgreementId
from civicbus.reasons import Reason
from civicbus.schemas.agreement import KeyMode
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import frame as framed
from civicbus.schemas.views import View
from civicbus.stream_apps.views.dirty import Lot
from civicbus.stream_apps.views.expressions import keyed_hash
from civicbus.stream_apps.views.metrics import FORWARDED
from civicbus.stream_apps.views.rows import Column, Rows
from civicbus.stream_apps.views.values import Ints
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Batch
from civicbus.transport.transactions import Output

LARGEST_ROW_BYTES = 4 * 2**20
SWEPT = b"civicbus:swept"
"""The cause of a tombstone for which there is neither a record nor a deletion any more."""
_NOTHING = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """A view and what its inbox is written with. ``secret`` is the agreement's key of ``hash`` and of hashed keys."""

    view: View
    schema_id: int
    secret: bytes = field(repr=False)
    codec: ColumnCodec = field(compare=False)

    @property
    def identity(self) -> str:
        """The same for two inboxes only where equal rows give equal bytes in them."""
        view = replace(self.view, lineage=())
        return hashlib.sha256(repr((view, self.schema_id)).encode() + hashlib.sha256(self.secret).digest()).hexdigest()

    def key(self, record: bytes) -> bytes:
        """The inbox key of a record key."""
        return keyed_hash(self.secret, record).encode() if self.hashed else record

    @property
    def hashed(self) -> bool:
        return self.view.key_mode is KeyMode.HASHED

    def has_keys_of(self, other: Inbox) -> bool:
        """Whether both write the same key for a record."""
        return self.hashed is other.hashed and (not self.hashed or self.secret == other.secret)

    def encoded(self, rows: pa.RecordBatch) -> tuple[Sequence[bytes], dict[int, Unacceptable]]:
        """The values of the rows that the inbox can hold, and the fault of each other row, by its place."""
        try:
            values = self.codec.encode_framed(self.schema_id, rows)
        except Unacceptable:
            return _divided(self._each(rows))
        if max(map(len, values), default=0) > LARGEST_ROW_BYTES:
            return _divided([_bounded(value) for value in values])
        return values, {}

    def _each(self, rows: pa.RecordBatch) -> list[bytes | Unacceptable]:
        each = self.codec.encode_each(rows)
        return [value if isinstance(value, Unacceptable) else _bounded(framed(self.schema_id, value)) for value in each]


@dataclass(slots=True)
class Written:
    """What an evaluation gave: outputs, the driving partitions they belong to, and per agreement the fresh times."""

    now_ms: int
    outputs: list[Output] = field(default_factory=list)
    partitions: set[int] = field(default_factory=set)
    fresh: dict[AgreementId, list[int]] = field(default_factory=dict)


class Sent:
    """What one inbox holds, by the slots of the driving rows.

    ``awaited``: outputs that are not read back yet. ``known``: partitions whose rows the view was compared with before
    they were cached, but for those that have a cause.
    """

    def __init__(self, inbox: Inbox, rows: Rows) -> None:
        self.inbox = inbox
        self.awaited: set[Partition] = set()
        self.known: set[int] = set()
        self._rows = rows
        self._digests: Column = rows.column(np.uint64, _NOTHING)
        # What an inbox with hashed keys holds, until the records of the partition are there to name them.
        self._unnamed: dict[int, dict[bytes, int]] = {}
        self._upserts = FORWARDED.labels(inbox.view.agreement, "upsert")
        self._tombstones = FORWARDED.labels(inbox.view.agreement, "tombstone")

    def output(self, partition: int) -> Partition:
        return Partition(self.inbox.view.topic, partition)

    def change(self, inbox: Inbox) -> None:
        """The view is another from now on; raises Unavailable where what is held has other keys than it."""
        if not inbox.has_keys_of(self.inbox):
            raise Unavailable(f"{inbox.view.topic}: its keys are others now, everything is read again")
        self.inbox, self.known = inbox, set()

    def drop(self) -> None:
        """The view ended."""
        self._rows.drop(self._digests)

    @property
    def column(self) -> str:
        """The name under which what the inbox holds is cached."""
        return f"sent:{self.inbox.view.agreement}"

    def load(self, partition: int, slots: Ints, digests: NDArray[np.uint64]) -> None:
        """What was cached of a partition."""
        self._digests.array[slots] = digests
        self.known.add(partition)

    def copy(self, slots: Ints) -> NDArray[np.uint64]:
        """What is to be cached."""
        return self._digests.array[slots]

    def close(self, partition: int) -> None:
        self.known.discard(partition)
        self.awaited.discard(self.output(partition))
        self._unnamed.pop(partition, None)

    def restore(self, batch: Batch) -> None:
        """Rows of the inbox, as they were written."""
        last = {key: value for key, value in zip(batch.keys, batch.values, strict=True) if key is not None}
        digests = {key: _NOTHING if value is None else _digest(value) for key, value in last.items()}
        if self.inbox.hashed:
            self._unnamed.setdefault(batch.partition.number, {}).update(digests)
        else:
            slots = self._rows.slots(batch.partition.number, list(digests))
            self._digests.array[slots] = np.fromiter(digests.values(), np.uint64, len(digests))
            if batch.partition.number in self.known:
                self._rows.doubt(slots, SWEPT)

    def sweep(self, partition: int, slots: Ints, now_ms: int) -> list[Output]:
        """Give what is in an inbox of hashed keys to the slots of the partition's records; what is left of it goes."""
        held = self._unnamed.pop(partition, {})
        if not held:
            return []
        for slot in slots.tolist():
            key = self.inbox.key(self._rows.keys[slot])
            if key in held:
                self._digests.array[slot] = held.pop(key)
                if partition in self.known:
                    self._rows.doubt(np.array([slot]), SWEPT)
        gone = [key for key, digest in held.items() if digest != _NOTHING]
        self._tombstones.inc(len(gone))
        to = self.output(partition)
        return [(to, key, None, [(CAUSE, SWEPT)], now_ms) for key in gone]

    def upserts(self, lot: Lot, values: Sequence[bytes], written: Written) -> None:
        """What differs from the inbox."""
        digests = np.fromiter(map(_digest, values), np.uint64, len(values))
        differs = digests != self._digests.array[lot.slots]
        differing = lot.where(differs)
        if not len(differing):
            return
        self._digests.array[differing.slots] = digests[differs]
        self._upserts.inc(len(differing))
        self._write(differing, compress(values, differs.tolist()), written)

    def tombstones(self, lot: Lot, among: NDArray[np.bool_], written: Written) -> None:
        """What the inbox has of these rows, and should not."""
        leaving = lot.where(among & (self._digests.array[lot.slots] != _NOTHING))
        if not len(leaving):
            return
        self._digests.clear(leaving.slots)
        self._tombstones.inc(len(leaving))
        self._write(leaving, [None] * len(leaving), written)

    def _write(self, lot: Lot, values: Iterable[bytes | None], written: Written) -> None:
        partitions = self._rows.partitions.array[lot.slots].tolist()
        to = {number: self.output(number) for number in set(partitions)}
        keys = map(self._rows.keys.__getitem__, lot.slots.tolist())
        headers: list[Headers] = [[(CAUSE, cause)] for cause in lot.causes.tolist()]
        written.outputs += zip(
            map(to.__getitem__, partitions),
            map(self.inbox.key, keys) if self.inbox.hashed else keys,
            values,
            headers,
            lot.timestamps_ms.tolist(),
            strict=True,
        )
        if lot.fresh.any():
            written.fresh.setdefault(self.inbox.view.agreement, []).extend(lot.timestamps_ms[lot.fresh].tolist())


def _digest(value: bytes) -> int:
    """Never 0, which says that there is nothing."""
    return xxh3_64_intdigest(value) or 1


def _bounded(value: bytes) -> bytes | Unacceptable:
    if len(value) > LARGEST_ROW_BYTES:
        return Unacceptable(Reason.TOO_LARGE, f"{len(value)} bytes, {LARGEST_ROW_BYTES} allowed")
    return value


def _divided(values: Sequence[bytes | Unacceptable]) -> tuple[list[bytes], dict[int, Unacceptable]]:
    faults = {place: value for place, value in enumerate(values) if isinstance(value, Unacceptable)}
    return [value for value in values if isinstance(value, bytes)], faults
