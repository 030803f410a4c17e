"""A joined dataset, whole in this worker: which record a key names, and the fields that views read of it.

Rows are kept as bytes and, decoded once, as columns; a batch of driving rows gathers from the columns. A key that a
row names and no record has gets a slot as well, so that the record's arrival finds the rows that wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from civicbus.events import cause_of
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import schema_id_of
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.stream_apps.views.metrics import UNREADABLE
from civicbus.stream_apps.views.rows import NOWHERE, listed
from civicbus.stream_apps.views.values import Ints, fitting
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Batch

_FIRST_CAPACITY = 1024
_RECENT = 4096
_DECODED_AT_ONCE = 50_000
_DECODED_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Changed:
    """Joined rows that are now others than before: their slots, each with its cause and its time."""

    slots: Ints
    causes: NDArray[Any]
    timestamps_ms: Ints


class Joined:
    """``codec_of`` makes the codec that reads rows of a schema id as the dataset's; it raises Unavailable to wait."""

    def __init__(self, dataset: Dataset, codec_of: Callable[[int], ColumnCodec]) -> None:
        self._dataset = dataset
        self._codec_of = codec_of
        self.partitions: Mapping[Partition, int] = {
            Partition(dataset.id.records, number): 0 for number in range(dataset.partitions)
        }
        """What is to be read, and from where."""
        self._unread = set(self.partitions)
        self._slots: dict[bytes, int] = {}
        self._values: list[bytes | None] = []
        self._largest = 0
        # Rows whose bytes are not among the columns yet, with cause and time; no cause: they only came again.
        self._undecoded: dict[int, tuple[bytes | None, int]] = {}
        self._fields: frozenset[str] = frozenset()
        # Decoded rows: most of them in one piece, those that came since in another.
        self._base = self._recent = pa.RecordBatch.from_arrays([], names=[])
        self._where = np.full(_FIRST_CAPACITY, NOWHERE, np.int64)

    def __len__(self) -> int:
        """How many slots there are."""
        return len(self._values)

    @property
    def decoded(self) -> bool:
        """Whether every row that came is among the columns."""
        return not self._undecoded

    def load(self, table: pa.Table, positions: Mapping[Partition, int]) -> None:
        """Begin with what was cached, before anything is read; ``positions`` are those that it goes up to."""
        self._values = listed(table.column("value"))
        self._largest = max((len(value or b"") for value in self._values), default=0)
        self._slots = {key: slot for slot, key in enumerate(listed(table.column("key")))}
        self._where = np.full(len(self._values) + _FIRST_CAPACITY, NOWHERE, np.int64)
        self._undecoded = {slot: (None, 0) for slot, value in enumerate(self._values) if value is not None}
        self.partitions = {partition: positions[partition] for partition in self.partitions}

    def copy(self) -> tuple[list[bytes], list[bytes | None]]:
        """What is to be cached: keys and values, in the order of the slots."""
        return list(self._slots), list(self._values)

    @property
    def whole(self) -> bool:
        """Whether every partition was read to its end, and every row is among the columns."""
        return not self._unread and not self._undecoded

    def serve(self, dataset: Dataset, fields: Collection[str], codec_of: Callable[[int], ColumnCodec]) -> None:
        """Read these fields from now on, by the dataset's present schema."""
        wanted = frozenset(fields)
        same = dataset.schema == self._dataset.schema and wanted <= self._fields
        self._dataset, self._codec_of = dataset, codec_of
        if same:
            return
        self._fields = wanted
        self._base = self._recent = pa.RecordBatch.from_pylist([], arrow_schema(dataset.schema)).select(
            sorted(self._fields)
        )
        self._where[:] = NOWHERE
        for slot, value in enumerate(self._values):
            if value is not None:
                self._undecoded.setdefault(slot, (None, 0))

    def follow(self, batch: Batch) -> None:
        """Take in records; they count once :meth:`refresh` has decoded them."""
        for key, value, headers, timestamp_ms in zip(
            batch.keys, batch.values, batch.headers, batch.timestamps_ms, strict=True
        ):
            if key is not None:
                slot = self._slot(key)
                self._values[slot] = value
                self._largest = max(self._largest, len(value or b""))
                self._undecoded[slot] = (cause_of(headers), timestamp_ms)
        if batch.end is not None:
            self._unread.discard(batch.partition)

    def refresh(self) -> Changed | None:
        """Bring what came among the columns; raises Unavailable where a schema cannot be had: call it again then."""
        if not self._undecoded:
            return None
        slots = np.fromiter(self._undecoded, np.int64, len(self._undecoded))
        decoded = [self._decoded(some) for some in self._portions(slots)]
        self._where[slots] = NOWHERE
        pieces = [piece for some in decoded for piece in some]
        end = self._base.num_rows + self._recent.num_rows
        for places, rows in pieces:
            self._where[places] = end + np.arange(rows.num_rows)
            end += rows.num_rows
        self._recent = pa.concat_batches([self._recent, *(rows for _, rows in pieces)])
        self._put_together()
        changed = self._changed()
        self._undecoded = {}
        return changed

    def _portions(self, slots: Ints) -> list[Ints]:
        """The slots in portions that are decoded one after the other."""
        numbers = np.arange(len(slots)) // _DECODED_AT_ONCE + np.cumsum(self._sizes(slots)) // _DECODED_BYTES
        return np.split(slots, np.flatnonzero(np.diff(numbers)) + 1)

    def _changed(self) -> Changed:
        """Of the rows that were decoded those that are new; the others only show more of themselves."""
        new = {slot: (cause, time) for slot, (cause, time) in self._undecoded.items() if cause is not None}
        causes = np.empty(len(new), np.object_)
        causes[:] = [cause for cause, _ in new.values()]
        times = np.fromiter((time for _, time in new.values()), np.int64, len(new))
        return Changed(np.fromiter(new, np.int64, len(new)), causes, times)

    def slots(self, keys: Iterable[bytes | None]) -> Ints:
        """The slot of each key, whether a record has it or not; NOWHERE for None."""
        known = self._slots
        found = [known.get(key) if key is not None else NOWHERE for key in keys]
        if None in found:
            found = [
                self._slot(key) if slot is None and key is not None else slot
                for key, slot in zip(keys, found, strict=True)
            ]
        return np.array(found, np.int64)

    def gatherable(self, slots: Ints, most_bytes: int) -> int:
        """How many of the records in these slots, from the first, are so many bytes; at least one."""
        if len(slots) * self._largest <= most_bytes:
            return len(slots)
        return min(len(slots), fitting(self._sizes(slots), most_bytes))

    def _sizes(self, slots: Ints) -> Ints:
        values = self._values
        return np.fromiter((0 if slot == NOWHERE else len(values[slot] or b"") for slot in slots.tolist()), np.int64)

    def gather(self, slots: Ints) -> pa.RecordBatch:
        """The fields of the records in these slots, NULL where there is none."""
        rows = np.where(slots == NOWHERE, NOWHERE, self._where[slots])
        recent = rows >= self._base.num_rows
        found: pa.RecordBatch = self._base.take(pa.array(rows, mask=recent | (rows == NOWHERE)))
        if recent.any():
            return self._with_recent(found, rows, recent)
        return found

    def _with_recent(self, found: pa.RecordBatch, rows: Ints, recent: NDArray[np.bool_]) -> pa.RecordBatch:
        later = self._recent.take(pa.array(rows[recent] - self._base.num_rows))
        places = np.arange(len(rows))
        places[recent] = len(rows) + np.arange(later.num_rows)
        both: pa.RecordBatch = pa.concat_batches([found, later]).take(pa.array(places))
        return both

    def _decoded(self, slots: Ints) -> list[tuple[Ints, pa.RecordBatch]]:
        groups: dict[int, list[int]] = {}
        for slot in slots.tolist():
            value = self._values[slot]
            if value is not None:
                groups.setdefault(schema_id_of(value), []).append(slot)
        pieces = []
        for schema_id, some in groups.items():
            decoded = self._codec_of(schema_id).decode_admitted([self._values[slot] or b"" for slot in some])
            UNREADABLE.labels(str(self._dataset.id)).inc(len(decoded.bad))
            rows = decoded.batch.select(self._base.schema.names)
            pieces.append((np.array([some[index] for index in decoded.indices], np.int64), rows))
        return pieces

    def _put_together(self) -> None:
        """One piece where the second one has grown, without the rows that nobody finds any more."""
        if self._recent.num_rows <= max(_RECENT, self._base.num_rows // 8):
            return
        present = np.flatnonzero(self._where != NOWHERE)
        self._base = pa.concat_batches([self._base, self._recent]).take(pa.array(self._where[present]))
        self._recent = self._base.slice(0, 0)
        self._where[present] = np.arange(len(present))

    def _slot(self, key: bytes) -> int:
        slot = self._slots.setdefault(key, len(self._values))
        if slot == len(self._values):
            self._values.append(None)
            if slot == len(self._where):
                grown = np.full(2 * slot, NOWHERE, np.int64)
                grown[:slot] = self._where
                self._where = grown
        return slot


def writers(schema_of: Callable[[int], AvroSchema], reader: AvroSchema) -> Callable[[int], ColumnCodec]:
    """The codec that reads rows of a schema id as ``reader``'s, each made once; raises Unavailable to wait."""
    made: dict[int, ColumnCodec] = {}

    def codec(schema_id: int) -> ColumnCodec:
        if schema_id not in made:
            made[schema_id] = ColumnCodec(schema_of(schema_id), reader)
        return made[schema_id]

    return codec
