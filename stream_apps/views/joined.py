"""A joined dataset, whole in this worker: which record a key names, and the fields that views read of it.

Rows are kept as bytes and, decoded once, as columns; a batch of driving rows gathers from the columns. A key that a
row names and no record has gets a slot as well, so that the record's arrival finds the rows that wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from civicbus.events import cause_of
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import schema_id_of
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.stream_apps.views.metrics import UNREADABLE
from civicbus.stream_apps.views.rows import NOWHERE, Ints
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Batch

_FIRST_CAPACITY = 1024
# So many pieces of decoded rows are put together before a gather from them gets slow.
_PIECES = 8
_DECODED_AT_ONCE = 50_000


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
        self._unread = {Partition(dataset.id.records, number) for number in range(dataset.partitions)}
        self._slots: dict[bytes, int] = {}
        self._values: list[bytes | None] = []
        # Rows whose bytes are not among the columns yet, with cause and time; no cause: they only came again.
        self._undecoded: dict[int, tuple[bytes | None, int]] = {}
        self._fields: frozenset[str] = frozenset()
        self._store = pl.DataFrame()
        self._where = np.full(_FIRST_CAPACITY, NOWHERE, np.int64)

    def __len__(self) -> int:
        """How many slots there are."""
        return len(self._values)

    @property
    def partitions(self) -> Mapping[Partition, int]:
        """What is to be read, and from where."""
        return {Partition(self._dataset.id.records, number): 0 for number in range(self._dataset.partitions)}

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
        self._fields |= wanted
        self._store = pl.DataFrame(pl.from_arrow(arrow_schema(dataset.schema).empty_table())).select(
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
                self._undecoded[slot] = (cause_of(headers), timestamp_ms)
        if batch.end is not None:
            self._unread.discard(batch.partition)

    def refresh(self) -> Changed | None:
        """Bring what came among the columns; raises Unavailable where a schema cannot be had: call it again then."""
        if not self._undecoded:
            return None
        slots = np.fromiter(self._undecoded, np.int64, len(self._undecoded))
        decoded = [
            self._decoded(slots[start : start + _DECODED_AT_ONCE]) for start in range(0, len(slots), _DECODED_AT_ONCE)
        ]
        self._where[slots] = NOWHERE
        for places, frame in (piece for pieces in decoded for piece in pieces):
            self._where[places] = self._store.height + np.arange(frame.height)
            self._store = self._store.vstack(frame)
        self._put_together()
        changed = self._changed()
        self._undecoded = {}
        return changed

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
        found = [known.get(key, None) if key is not None else NOWHERE for key in keys]
        if None in found:
            found = [
                self._slot(key) if slot is None and key is not None else slot
                for key, slot in zip(keys, found, strict=True)
            ]
        return np.array(found, np.int64)

    def gather(self, slots: Ints, label: str) -> list[pl.Series]:
        """The fields of the records in these slots, NULL where there is none, named as a view knows them."""
        rows = self._where[slots]
        missing = (rows == NOWHERE) | (slots == NOWHERE)
        places = pl.Series(np.where(missing, 0, rows).astype(np.uint32))
        if missing.any():
            places = places.scatter(np.flatnonzero(missing), None)
        if self._store.height == 0:
            return [_nothing(column, len(slots), label) for column in self._store.get_columns()]
        return [column.gather(places).alias(f"{label}.{column.name}") for column in self._store.get_columns()]

    def _decoded(self, slots: Ints) -> list[tuple[Ints, pl.DataFrame]]:
        groups: dict[int, list[int]] = {}
        for slot in slots.tolist():
            value = self._values[slot]
            if value is not None:
                groups.setdefault(schema_id_of(value), []).append(slot)
        pieces = []
        for schema_id, some in groups.items():
            decoded = self._codec_of(schema_id).decode_framed([self._values[slot] or b"" for slot in some])
            UNREADABLE.labels(str(self._dataset.id)).inc(len(decoded.bad))
            frame = pl.DataFrame(pl.from_arrow(decoded.batch.select(self._store.columns)))
            pieces.append((np.array([some[index] for index in decoded.indices], np.int64), frame))
        return pieces

    def _put_together(self) -> None:
        """One piece where there are many, without the rows that nobody finds any more."""
        found = int(np.count_nonzero(self._where != NOWHERE))
        if self._store.n_chunks() <= _PIECES and self._store.height <= 2 * found + _FIRST_CAPACITY:
            return
        present = np.flatnonzero(self._where != NOWHERE)
        self._store = self._store[self._where[present]].rechunk()
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


def _nothing(column: pl.Series, count: int, label: str) -> pl.Series:
    return pl.repeat(None, count, dtype=column.dtype, eager=True).alias(f"{label}.{column.name}")


def writers(schema_of: Callable[[int], AvroSchema], reader: AvroSchema) -> Callable[[int], ColumnCodec]:
    """The codec that reads rows of a schema id as ``reader``'s, each made once; raises Unavailable to wait."""
    made: dict[int, ColumnCodec] = {}

    def codec(schema_id: int) -> ColumnCodec:
        if schema_id not in made:
            made[schema_id] = ColumnCodec(schema_of(schema_id), reader)
        return made[schema_id]

    return codec
