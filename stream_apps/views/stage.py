"""The views as a stage: batches of records in, the rows and tombstones of every agreement's inbox out.

The inbox is the record of what was sent (ADR 0005): per view and partition the engine keeps key → hash of the
last row in the inbox, read back when the partition opens. One loop does everything (DESIGN §5 rule 1): a
record makes its key dirty; dirty keys are evaluated on the current rows and compared; what differs is written.
At opening every key of the partition is dirty; live changes go first, the rest in chunks between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import polars as pl
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from civicbus.errors import Unacceptable, Unavailable
from civicbus.events import CAUSE, Headers
from civicbus.freshness import END_TO_END
from civicbus.names import AgreementId, DatasetId, Topic
from civicbus.quarantine import Parked
from civicbus.reasons import Reason
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import frame as framed
from civicbus.schemas.codec.frame import schema_id_of
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.views import View
from civicbus.stream_apps.views.evaluate import Evaluation
from civicbus.stream_apps.views.metrics import FORWARDED, PARKED
from civicbus.transport.exactly_once import ANY_PARTITION, Batch, Step
from civicbus.transport.partitions import Partition
from civicbus.transport.transactions import Output

CHUNK_ROWS = 5_000
LARGEST_ROW_BYTES = 4 * 2**20
RETRY = timedelta(seconds=1)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Row(NamedTuple):
    """The current version of a record; ``value`` None: deleted. ``cause`` stands ready as output headers."""

    value: bytes | None
    cause: Headers
    timestamp_ms: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """A view on its way out: how its rows are encoded and how its keys are written."""

    view: View
    schema_id: int
    codec: ColumnCodec
    key: Callable[[bytes], bytes]


@dataclass(slots=True, kw_only=True)
class _Open:
    """One partition of a driving dataset. ``digests``: per view, what the inbox holds. ``dirty``: to be compared."""

    partition: Partition
    inboxes: tuple[Partition, ...]
    digests: tuple[dict[bytes, int], ...]
    dirty: dict[bytes, Row] = field(default_factory=dict)
    live: bool = False


@dataclass(slots=True)
class _Work:
    """Rows of one dataset to evaluate together, from whichever of its partitions."""

    owners: list[_Open] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(self, owner: _Open, changed: Iterable[tuple[bytes, Row]]) -> None:
        for key, row in changed:
            self.owners.append(owner)
            self.keys.append(key)
            self.rows.append(row)

    def make_dirty_again(self) -> None:
        """What could not be evaluated now is dirty, unless something newer is already."""
        for owner, key, row in zip(self.owners, self.keys, self.rows, strict=True):
            owner.dirty.setdefault(key, row)

    def __bool__(self) -> bool:
        return bool(self.keys)


@dataclass(slots=True, kw_only=True)
class _Source:
    """All views that one dataset drives: read, decoded and evaluated together."""

    dataset: Dataset
    inboxes: tuple[Inbox, ...]
    evaluation: Evaluation
    codecs: dict[int, ColumnCodec] = field(default_factory=dict)
    live: _Work = field(default_factory=_Work)
    retry_at: datetime = LONG_AGO


class Views:
    """The stage."""

    from_start = True

    def __init__(
        self,
        datasets: Mapping[DatasetId, Dataset],
        inboxes: Sequence[Inbox],
        evaluate: Callable[[Sequence[View]], Evaluation],
        schema_of: Callable[[int], AvroSchema],
        clock: Callable[[], datetime],
    ) -> None:
        driven: dict[DatasetId, list[Inbox]] = {}
        for inbox in inboxes:
            driven.setdefault(inbox.view.driving, []).append(inbox)
        self._sources: dict[Topic, _Source] = {
            name.records: _Source(
                dataset=datasets[name], inboxes=tuple(each), evaluation=evaluate([inbox.view for inbox in each])
            )
            for name, each in driven.items()
        }
        self._schema_of = schema_of
        self._clock = clock
        self._open: dict[Partition, _Open] = {}
        self._restoring: dict[Partition, dict[bytes, int]] = {}
        self._fresh: dict[AgreementId, list[int]] = {}

    def inputs(self) -> Sequence[Topic]:
        return tuple(self._sources)

    def open(self, partition: Partition) -> Sequence[Partition]:
        source = self._sources[partition.topic]
        inboxes = tuple(Partition(inbox.view.topic, partition.number) for inbox in source.inboxes)
        opened = _Open(partition=partition, inboxes=inboxes, digests=tuple({} for _ in inboxes))
        self._open[partition] = opened
        self._restoring |= zip(inboxes, opened.digests, strict=True)
        return inboxes

    def restore(self, batch: Batch) -> None:
        digests = self._restoring[batch.partition]
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is None:
                continue
            if value is None:
                digests.pop(key, None)
            else:
                digests[key] = xxh3_64_intdigest(value)

    def close(self, partition: Partition) -> None:
        for inbox in self._open.pop(partition).inboxes:
            del self._restoring[inbox]

    def process(self, batches: Sequence[Batch]) -> Step:
        """Live changes first; where there are none, the next chunk of dirty keys."""
        step = Step()
        for topic, source in self._sources.items():
            mine = [batch for batch in batches if batch.partition.topic == topic]
            if mine or self._has_dirty(topic):
                self._process_source(source, mine, step)
        step.more = any(self._has_dirty(topic) for topic in self._sources)
        return step

    def committed(self) -> None:
        now_ms = self._clock().timestamp() * 1000
        for view, timestamps_ms in self._fresh.items():
            END_TO_END.observe(("inbox", view), [(now_ms - each) / 1000 for each in timestamps_ms])
        self._fresh.clear()

    def _process_source(self, source: _Source, batches: Sequence[Batch], step: Step) -> None:
        now = self._clock()
        for batch in batches:
            self._gather(source, batch, step, now)
        work = source.live or self._next_chunk(source, now)
        fresh = work is source.live
        source.live = _Work()
        try:
            step.outputs += self._evaluate(source, work, now, fresh=fresh)
        except Unavailable:
            source.retry_at = now + RETRY
            work.make_dirty_again()
        step.touched |= {owner.partition for owner in work.owners}

    def _gather(self, source: _Source, batch: Batch, step: Step, now: datetime) -> None:
        """The last version of each key; while a partition is read to its end, versions only gather."""
        opened = self._open[batch.partition]
        changed = _last_versions(batch)
        if opened.live:
            step.touched.add(batch.partition)
            for key in changed.keys() & opened.dirty.keys():
                del opened.dirty[key]
            source.live.add(opened, changed.items())
            return
        opened.dirty |= changed
        if batch.end is not None:
            opened.live = True
            step.touched.add(batch.partition)
            step.outputs += self._sweep(source, opened, now)

    def _sweep(self, source: _Source, opened: _Open, now: datetime) -> list[Output]:
        """Inbox keys that no record and no deletion stands for become tombstones, at once and once."""
        outputs = []
        for number, inbox in enumerate(source.inboxes):
            digests = opened.digests[number]
            named = {inbox.key(key) for key in opened.dirty} if digests else set()
            headers: Headers = [(CAUSE, f"civicbus:{inbox.view.agreement}:swept".encode())]
            for key in [key for key in digests if key not in named]:
                del digests[key]
                outputs.append(Output(opened.inboxes[number], key, None, headers, _milliseconds(now)))
            FORWARDED.labels(inbox.view.agreement, "tombstone").inc(len(outputs))
        return outputs

    def _has_dirty(self, topic: Topic) -> bool:
        return self._clock() >= self._sources[topic].retry_at and any(
            opened.dirty for opened in self._open.values() if opened.live and opened.partition.topic == topic
        )

    def _next_chunk(self, source: _Source, now: datetime) -> _Work:
        work = _Work()
        if now < source.retry_at:
            return work
        for opened in self._open.values():
            room = CHUNK_ROWS - len(work.keys)
            if opened.live and opened.partition.topic == source.dataset.id.records and room > 0:
                keys = list(islice(opened.dirty, room))
                work.add(opened, [(key, opened.dirty.pop(key)) for key in keys])
        return work

    def _evaluate(self, source: _Source, work: _Work, now: datetime, *, fresh: bool) -> list[Output]:
        """Evaluate the rows' views, compare with what the inboxes hold, and give what differs."""
        outputs: list[Output] = []
        groups: dict[int, list[int]] = {}
        gone: list[int] = []
        for index, row in enumerate(work.rows):
            if row.value is None:
                gone.append(index)
            else:
                groups.setdefault(schema_id_of(row.value), []).append(index)
        codecs = {schema_id: self._codec(source, schema_id) for schema_id in groups}
        for number, inbox in enumerate(source.inboxes):
            outputs += _tombstones(inbox, number, work, gone)
        for schema_id, indices in groups.items():
            decoded = codecs[schema_id].decode_framed([work.rows[index].value or b"" for index in indices])
            outputs += [_parked(source, work, indices[bad.index], bad.fault, now) for bad in decoded.bad]
            good = [indices[index] for index in decoded.indices]
            if good:
                outputs += self._compare(
                    source, work, good, pl.DataFrame(pl.from_arrow(decoded.batch)), now, fresh=fresh
                )
        return outputs

    def _compare(
        self, source: _Source, work: _Work, indices: Sequence[int], frame: pl.DataFrame, now: datetime, *, fresh: bool
    ) -> list[Output]:
        outputs: list[Output] = []
        for number, (inbox, result) in enumerate(zip(source.inboxes, source.evaluation(frame), strict=True)):
            passing: list[int] = []
            failing: list[int] = []
            for index, passed in zip(indices, result.passes.to_list(), strict=True):
                (passing if passed else failing).append(index)
            written, unwritable = _upserts(inbox, number, work, passing, _encoded(inbox, result.rows))
            outputs += written
            outputs += [_parked(source, work, index, fault, now) for index, fault in unwritable]
            outputs += _tombstones(inbox, number, work, [*failing, *(index for index, _ in unwritable)])
            if fresh:
                self._fresh.setdefault(inbox.view.agreement, []).extend(output.timestamp_ms for output in written)
        return outputs

    def _codec(self, source: _Source, schema_id: int) -> ColumnCodec:
        """Reads the writer's schema as the dataset's current one; raises Unavailable to wait."""
        codec = source.codecs.get(schema_id)
        if codec is None:
            codec = source.codecs[schema_id] = ColumnCodec(self._schema_of(schema_id), source.dataset.schema)
        return codec


def _last_versions(batch: Batch) -> dict[bytes, Row]:
    rows = zip(batch.keys, batch.values, batch.headers, batch.timestamps_ms, batch.offsets, strict=True)
    return {
        key: Row(value, [header for header in headers if header[0] == CAUSE], timestamp_ms, offset)
        for key, value, headers, timestamp_ms, offset in rows
        if key is not None
    }


def _encoded(inbox: Inbox, rows: pa.RecordBatch) -> Sequence[bytes | Unacceptable]:
    """The rows' values, and the fault of each row that no inbox can hold."""
    try:
        values: Sequence[bytes | Unacceptable] = inbox.codec.encode_framed(inbox.schema_id, rows)
    except Unacceptable:
        each = inbox.codec.encode_each(rows)
        values = [value if isinstance(value, Unacceptable) else framed(inbox.schema_id, value) for value in each]
    return [_bounded(value) for value in values]


def _bounded(value: bytes | Unacceptable) -> bytes | Unacceptable:
    if isinstance(value, bytes) and len(value) > LARGEST_ROW_BYTES:
        return Unacceptable(Reason.TOO_LARGE, f"{len(value)} bytes, {LARGEST_ROW_BYTES} allowed")
    return value


def _upserts(
    inbox: Inbox, number: int, work: _Work, indices: Sequence[int], values: Sequence[bytes | Unacceptable]
) -> tuple[list[Output], list[tuple[int, Unacceptable]]]:
    """What differs from the inbox; and the rows that it cannot hold, whose earlier versions must leave it."""
    outputs: list[Output] = []
    unwritable: list[tuple[int, Unacceptable]] = []
    for index, value in zip(indices, values, strict=True):
        if isinstance(value, Unacceptable):
            unwritable.append((index, value))
            continue
        owner, key, row = work.owners[index], inbox.key(work.keys[index]), work.rows[index]
        digests, digest = owner.digests[number], xxh3_64_intdigest(value)
        if digests.get(key) != digest:
            digests[key] = digest
            outputs.append(Output(owner.inboxes[number], key, value, row.cause, row.timestamp_ms))
    FORWARDED.labels(inbox.view.agreement, "upsert").inc(len(outputs))
    return outputs, unwritable


def _tombstones(inbox: Inbox, number: int, work: _Work, indices: Sequence[int]) -> list[Output]:
    outputs = []
    for index in indices:
        owner, key, row = work.owners[index], inbox.key(work.keys[index]), work.rows[index]
        if owner.digests[number].pop(key, None) is not None:
            outputs.append(Output(owner.inboxes[number], key, None, row.cause, row.timestamp_ms))
    FORWARDED.labels(inbox.view.agreement, "tombstone").inc(len(outputs))
    return outputs


def _parked(source: _Source, work: _Work, index: int, fault: Unacceptable, now: datetime) -> Output:
    """A record that admission let pass and this stage cannot read; its row in the inboxes stays as it is."""
    owner, row = work.owners[index], work.rows[index]
    PARKED.labels(str(source.dataset.id), fault.reason.value).inc()
    parked = Parked(
        reason=fault.reason,
        field=fault.field,
        detail=fault.detail,
        topic=owner.partition.topic,
        partition=owner.partition.number,
        offset=row.offset,
        timestamp_ms=row.timestamp_ms,
        original_key=work.keys[index],
        value=row.value,
    )
    to = Partition(source.dataset.id.quarantine, ANY_PARTITION)
    return Output(to, parked.key(), parked.value, list(parked.headers()), _milliseconds(now))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
