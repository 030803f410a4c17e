"""All views that one dataset drives: read, decoded and evaluated together, kept equal to their inboxes.

One loop does everything (DESIGN §5 rule 1): a change makes rows dirty, a driving change its own row, a joined change
the rows that name it, a new agreement all of them; dirty rows are evaluated on what stands now, compared with what
the inboxes hold, and what differs is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from civicbus.errors import Unacceptable
from civicbus.events import causes_of
from civicbus.names import DatasetId
from civicbus.quarantine import Parked
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import FRAME_BYTES, schema_id_of
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.record_keys import record_keys
from civicbus.schemas.sql.joins import Join
from civicbus.stream_apps.views.cache import Cached
from civicbus.stream_apps.views.dirty import Dirty, Lot
from civicbus.stream_apps.views.evaluate import Evaluation, Result
from civicbus.stream_apps.views.inbox import SWEPT, Sent, Written
from civicbus.stream_apps.views.joined import Changed, Joined
from civicbus.stream_apps.views.metrics import OVERFLOWS, PARKED, timed
from civicbus.stream_apps.views.rows import NOWHERE, Column, Rows, RowsCopy
from civicbus.stream_apps.views.values import Ints, Mapped, fitting
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import ANY_PARTITION, Batch
from civicbus.transport.transactions import Output

Objects = NDArray[Any]

LOT_BYTES = 128 * 2**20
"""So many bytes of rows are worked on at once, and as many of what they name; a single row may have more."""
RESULT_BYTES = 256 * 2**20
"""So many bytes of output go into one transaction, all views together, that it is done in time."""


@dataclass(slots=True)
class _Link:
    """Which record of a joined dataset each driving row names, by the slots of both."""

    join: Join
    joined: Joined
    slots: Column


class Source:
    """One driving dataset. ``sent`` are the views that are kept; ``getting_ready`` those that are not yet."""

    def __init__(self, dataset: Dataset, codec_of: Callable[[int], ColumnCodec]) -> None:
        self.dataset = dataset
        self.rows = Rows()
        self.sent: list[Sent] = []
        self.getting_ready: list[Sent] = []
        self._codec_of = codec_of
        self._links: dict[str, _Link] = {}
        self._joins: list[str] = []
        self._dirty = Dirty(self.rows.column(np.bool_, False))
        self._live: set[int] = set()
        self._fresh: list[Lot] = []
        self._needs: list[str] = []
        self._evaluation = Evaluation([], {})

    @property
    def has_dirty(self) -> bool:
        return bool(self._dirty and self.sent)

    # What is evaluated.

    def serve(
        self,
        dataset: Dataset,
        sent: Sequence[Sent],
        getting_ready: Sequence[Sent],
        joined: Mapping[DatasetId, Joined],
        codec_of: Callable[[int], ColumnCodec],
    ) -> None:
        """Keep the views in ``sent`` from now on; rows of those that are new are to be made dirty."""
        self.dataset, self.sent, self._codec_of = dataset, list(sent), codec_of
        self.getting_ready = list(getting_ready)
        joins = {join.label: join for each in (*sent, *getting_ready) for join in each.inbox.view.joins}
        for label in self._links.keys() - joins.keys():
            self.rows.drop(self._links.pop(label).slots)
        self._links = {label: self._link(join, joined[join.dataset]) for label, join in joins.items()}
        views = [each.inbox.view for each in sent]
        self._joins = list(dict.fromkeys(join.label for view in views for join in view.joins))
        self._evaluation = Evaluation(views, {each.inbox.view.agreement: each.inbox.secret for each in sent})
        on = {field for label in self._joins for field in joins[label].on}
        own = {used.name for used in on.union(*(view.fields for view in views)) if not used.source}
        self._needs = [name for name in dataset.schema.field_names if name in own] or [dataset.key[0]]

    def _link(self, join: Join, joined: Joined) -> _Link:
        known = self._links.get(join.label)
        return _Link(join, joined, self.rows.column(np.int32, NOWHERE) if known is None else known.slots)

    # What is cached.

    @property
    def at_rest(self) -> bool:
        """Whether every change that came is evaluated or stands in the queue, and no view is being made ready."""
        return not self._fresh and not self.getting_ready

    @property
    def live(self) -> Collection[int]:
        """The partitions that were read to their end."""
        return self._live

    def load(self, number: int, cached: Cached, mapped: Mapped, whole: Collection[DatasetId]) -> None:
        """Begin a partition with what was cached of it; ``whole``: the joined datasets that begin so, too."""
        table, views = mapped.table, cached.views
        slots = self.rows.load(number, mapped, on_disk=cached.on_disk)
        for label, link in self._links.items():
            if link.join.dataset in whole and f"link:{label}" in table.column_names:
                link.slots.array[slots] = table[f"link:{label}"].to_numpy()
        for sent in self.getting_ready:
            view = sent.inbox.view
            needs = {sent.column, *(f"link:{join.label}" for join in view.joins)}
            same = views.get(view.agreement) == sent.inbox.identity
            if same and needs <= {*table.column_names} and all(join.dataset in whole for join in view.joins):
                sent.load(number, slots, table[sent.column].to_numpy())

    def copy(self) -> dict[Partition, RowsCopy]:
        """What is to be cached of each partition; what was cached of others is of no use any more."""
        for number in self.rows.loaded() - self._live:
            self.close(number)
        causes = self.rows.causes.array.copy()
        self._dirty.note(causes)
        copies = {}
        for number in self._live:
            copied = self.rows.copy(number, causes)
            slots = copied.slots
            copied.columns |= {sent.column: sent.copy(slots) for sent in self.sent}
            copied.columns |= {f"link:{label}": link.slots.array[slots] for label, link in self._links.items()}
            copies[Partition(self.dataset.id.records, number)] = copied
        return copies

    # What makes rows dirty.

    def take_in(self, batch: Batch, now_ms: int) -> list[Output]:
        """Driving records; while a partition is read to its end, its rows only gather."""
        number = batch.partition.number
        keys = [key for key in batch.keys if key is not None]
        if keys:
            self._put(batch, self.rows.slots(number, keys))
        if batch.end is None or number in self._live:
            return []
        self._live.add(number)
        for each in self.getting_ready:
            each.known.discard(number)
        swept = [output for each in self.sent for output in each.sweep(number, self.rows.of_partition(number), now_ms)]
        self._mark(number, SWEPT, now_ms, whole=any(number not in each.known for each in self.sent))
        return swept

    def make_dirty_for(self, sent: Sent, now_ms: int) -> list[Output]:
        """Every row is to be compared with a view that is kept from now on; what its inbox has beside them goes."""
        outputs: list[Output] = []
        for number in self._live:
            outputs += sent.sweep(number, self.rows.of_partition(number), now_ms)
            cause = f"civicbus:{sent.inbox.view.agreement}:activated".encode()
            self._mark(number, cause, now_ms, whole=number not in sent.known)
        return outputs

    def follow(self, joined: Joined, changed: Changed) -> None:
        """Joined rows changed: the rows that name them are dirty, once their partition flows."""
        loading = self.rows.loaded() - self._live
        for link in self._links.values():
            if link.joined is joined and len(changed.slots):
                lot = _naming(link.slots.array, changed, len(joined))
                if loading:
                    waits = np.isin(self.rows.partitions.array[lot.slots], [*loading])
                    self.rows.doubt(lot.slots[waits], lot.causes[waits])
                    lot = lot.where(~waits)
                self._dirty.mark(lot)

    def close(self, number: int) -> None:
        """The partition belongs to another worker now."""
        self._live.discard(number)
        self._dirty.clean(self.rows.of_partition(number))
        self._fresh = [lot.where(self.rows.partitions.array[lot.slots] != number) for lot in self._fresh]
        for each in (*self.sent, *self.getting_ready):
            each.close(number)
        self.rows.close(number)

    def _put(self, batch: Batch, slots: Ints) -> None:
        if None in batch.keys:
            batch = _with_keys(batch)
        self.rows.put(slots, batch.values, batch.timestamps_ms, batch.offsets)
        causes = np.empty(len(slots), np.object_)
        causes[:] = causes_of(batch.headers)
        if batch.partition.number in self._live:
            last = _last_of_each(slots)
            times = np.array(batch.timestamps_ms, np.int64)
            self._fresh.append(Lot.of(slots[last], causes[last], times[last], fresh=True))
        else:
            self.rows.causes.array[slots] = causes

    def _mark(self, number: int, cause: bytes, now_ms: int, *, whole: bool) -> None:
        """A partition's rows are dirty: those that have a cause of their own, and where ``whole`` the others, too.

        What is in an inbox and was never read as a record has no time but the present.
        """
        slots = self.rows.of_partition(number)
        if whole:
            self.rows.doubt(slots, cause)
        causes = self.rows.causes.array[slots]
        marked = slots[causes != None]  # noqa: E711 - item by item
        unread = self.rows.offsets.array[marked] == NOWHERE
        times = np.where(unread, now_ms, self.rows.timestamps.array[marked])
        self._dirty.mark(Lot.of(marked, self.rows.causes.array[marked], times, fresh=False))

    # Evaluating.

    def work(self, most: int) -> Lot | None:
        """What is to be evaluated now: fresh changes, and as many dirty rows as there is room for."""
        if not self.sent:
            self.postpone()
            return None
        fresh, self._fresh = self._fresh, []
        for lot in fresh:
            self._dirty.clean(lot.slots)
        room = max(most - sum(map(len, fresh)), most // 4)
        lots = fresh + self._dirty.take(room)
        if not any(map(len, lots)):
            return None
        lot = Lot.joined(lots)
        return self._first(lot, fitting(self.rows.sizes(lot.slots), LOT_BYTES))

    def postpone(self) -> None:
        """Fresh changes wait among the dirty rows, each row once, however often it changes meanwhile."""
        fresh, self._fresh = self._fresh, []
        for lot in fresh:
            self._dirty.clean(lot.slots)
            self._dirty.mark(lot)

    def _first(self, lot: Lot, count: int) -> Lot:
        """The first rows of a lot; the others wait among the dirty ones."""
        if count == len(lot):
            return lot
        self._dirty.mark(lot.take(slice(count, None)))
        return lot.take(slice(count))

    def put_back(self, lot: Lot) -> None:
        """What could not be evaluated now is dirty."""
        self._dirty.mark(lot)

    def evaluate(self, lot: Lot, now_ms: int) -> Written:
        """Evaluate rows, compare them with the inboxes, and give what differs; raises Unavailable to try again."""
        written = Written(now_ms)
        values = self.rows.values_of(lot.slots)
        groups, gone = _by_schema(values)
        codecs = {schema_id: self._codec_of(schema_id) for schema_id in groups}
        self.rows.causes.clear(lot.slots)
        for schema_id, places in groups.items():
            with timed("decode"):
                decoded = codecs[schema_id].decode_admitted([values[place] or b"" for place in places])
            for bad in decoded.bad:
                written.outputs.append(self._parked(lot, places[bad.index], bad.fault, written))
            if len(decoded.indices):
                rows = decoded.batch.select(self._needs)
                good = lot
                if len(decoded.indices) < len(lot):
                    good = lot.take(np.array([places[index] for index in decoded.indices], np.int64))
                self._compare(good, rows, written)
        written.partitions |= set(np.unique(self.rows.partitions.array[lot.slots]).tolist())
        if gone:
            self._remove(lot.take(np.array(gone, np.int64)), written)
        if not self._dirty:
            self.rows.reuse()
        return written

    def _compare(self, lot: Lot, rows: pa.RecordBatch, written: Written) -> None:
        """Bring the views' rows into the inboxes; of rows of which too much would come, the first ones now."""
        with timed("evaluate"):
            beside = self._with_joined(lot, rows)
            lot = self._first(lot, beside.num_rows)
            results = self._results(beside)
        if results is None:
            half = len(lot) // 2
            self._compare(self._first(lot, half), rows.slice(0, half), written)
            return
        for sent, result in zip(self.sent, results, strict=True):
            self._bring(sent, result, lot, written)

    def _with_joined(self, lot: Lot, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The first rows with the fields of the records that they name; which those are is remembered."""
        for link in map(self._links.__getitem__, self._joins):
            keys = [pl.Series(pl.from_arrow(rows.column(on.column))) for on in link.join.on]
            named = link.joined.slots(record_keys(keys))
            named = named[: link.joined.gatherable(named, LOT_BYTES)]
            link.slots.array[lot.slots[: len(named)]] = named
            rows = _beside(rows.slice(0, len(named)), link.joined.gather(named), link.join.label)
        return rows

    def _results(self, rows: pa.RecordBatch) -> list[Result] | None:
        """What the views make of the rows; None where that is too much, and they are several."""
        try:
            results = self._evaluation(rows)
        except pa.ArrowInvalid:  # a column of more than 2 GiB
            if rows.num_rows == 1:
                raise
            return None
        much = sum(result.rows.nbytes for result in results) > RESULT_BYTES
        return None if much and rows.num_rows > 1 else results

    def _bring(self, sent: Sent, result: Result, lot: Lot, written: Written) -> None:
        """One view's rows: upserts of what passes and differs, tombstones of what the inbox has and should not."""
        passes = result.passes
        OVERFLOWS.labels(sent.inbox.view.agreement).inc(result.overflows)
        if len(result.rows):
            with timed("encode"):
                values, faults = sent.inbox.encoded(result.rows)
            with timed("compare"):
                passing = self._without(faults, sent, lot.where(passes), written)
                sent.upserts(passing, values, written)
        with timed("compare"):
            sent.tombstones(lot, ~passes, written)

    def _without(self, faults: Mapping[int, Unacceptable], sent: Sent, lot: Lot, written: Written) -> Lot:
        """The rows but those that no inbox can hold: they are parked, and their earlier versions leave it."""
        if not faults:
            return lot
        written.outputs += [self._parked(lot, place, fault, written) for place, fault in faults.items()]
        faulty = np.isin(np.arange(len(lot)), [*faults])
        sent.tombstones(lot, faulty, written)
        return lot.where(~faulty)

    def _remove(self, lot: Lot, written: Written) -> None:
        """Records that are gone: their rows leave every inbox, and their slots are free.

        While a view is made ready the slots stay: its inbox may hold such rows, too.
        """
        for sent in self.sent:
            sent.tombstones(lot, np.ones(len(lot), np.bool_), written)
        if not self.getting_ready:
            self.rows.free(lot.slots)

    def _parked(self, lot: Lot, place: int, fault: Unacceptable, written: Written) -> Output:
        """A record that admission let pass and this stage cannot read; its row in the inboxes stays as it is."""
        slot = int(lot.slots[place])
        PARKED.labels(str(self.dataset.id), fault.reason.value).inc()
        parked = Parked(
            reason=fault.reason,
            field=fault.field,
            detail=fault.detail,
            topic=self.dataset.id.records,
            partition=int(self.rows.partitions.array[slot]),
            offset=int(self.rows.offsets.array[slot]),
            timestamp_ms=int(self.rows.timestamps.array[slot]),
            original_key=self.rows.keys[slot],
            value=self.rows.values_of(np.array([slot]))[0],
        )
        to = Partition(self.dataset.id.quarantine, ANY_PARTITION)
        return to, parked.key(), parked.value, list(parked.headers()), written.now_ms


def _naming(names: NDArray[np.int32], changed: Changed, count: int) -> Lot:
    """The driving rows that name one of the changed records, of so many, each with that record's cause."""
    place = np.full(count + 1, NOWHERE, np.int32)
    place[changed.slots] = np.arange(len(changed.slots))
    # NOWHERE finds the last item, which stands for no record.
    found = place[names]
    slots = np.flatnonzero(found != NOWHERE)
    which = found[slots]
    return Lot.of(slots, changed.causes[which], changed.timestamps_ms[which], fresh=True)


def _last_of_each(slots: Ints) -> Ints | slice:
    """The places of the last occurrence of each slot."""
    last = dict(zip(slots.tolist(), range(len(slots)), strict=True))
    return slice(None) if len(last) == len(slots) else np.fromiter(last.values(), np.int64, len(last))


def _by_schema(values: Sequence[bytes | None]) -> tuple[Mapping[int, Sequence[int]], list[int]]:
    """The places of rows by their writer's schema, and those of deletions."""
    frames = {value and value[:FRAME_BYTES] for value in values}
    if len(frames) == 1 and None not in frames:
        return {schema_id_of(values[0] or b""): range(len(values))}, []
    groups: dict[int, list[int]] = {}
    for place, value in enumerate(values):
        if value is not None:
            groups.setdefault(schema_id_of(value), []).append(place)
    return groups, [place for place, value in enumerate(values) if value is None]


def _with_keys(batch: Batch) -> Batch:
    """The batch without records that have no key; admission writes none."""
    kept = [place for place, key in enumerate(batch.keys) if key is not None]
    return Batch(
        partition=batch.partition,
        keys=[batch.keys[place] for place in kept],
        values=[batch.values[place] for place in kept],
        headers=[batch.headers[place] for place in kept],
        timestamps_ms=[batch.timestamps_ms[place] for place in kept],
        offsets=[batch.offsets[place] for place in kept],
        end=batch.end,
    )


def _beside(rows: pa.RecordBatch, joined: pa.RecordBatch, label: str) -> pa.RecordBatch:
    """Both, with the fields of the joined ones named as a view knows them."""
    names = [*rows.schema.names, *(f"{label}.{name}" for name in joined.schema.names)]
    together: pa.RecordBatch = pa.RecordBatch.from_arrays([*rows.columns, *joined.columns], names=names)
    return together
