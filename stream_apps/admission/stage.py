"""Admission as a stage: batches of changes in, records and parked changes out.

The state, record key → last admitted version, is read back from the records topic when a partition opens,
deletions included; it is never inferred from committed offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import polars as pl
from xxhash import xxh3_64_intdigest

from civicbus.errors import Unacceptable, Unavailable
from civicbus.events import CAUSE, SEQUENCE, ChangeEvent, Headers
from civicbus.names import DatasetId, Topic
from civicbus.quarantine import Parked
from civicbus.reasons import Reason
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import schema_id_of
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.quality import QualityRules
from civicbus.schemas.record_keys import record_keys
from civicbus.stream_apps.admission.metrics import ADMITTED, CHANGES, DUPLICATES, REFUSED
from civicbus.stream_apps.admission.rules import Verdict, Version, check_key, examine, judge
from civicbus.transport.partitions import Partition
from civicbus.transport.placing import places
from civicbus.transport.stage import ANY_PARTITION, Batch, Opening, Positions, Step
from civicbus.transport.transactions import Output


class Renewed(Protocol):
    """The datasets if the catalogue changed since the last call."""

    def __call__(self, *, to_the_end: bool) -> Iterable[Dataset] | None: ...


@dataclass(slots=True)
class _Examined:
    """Changes of one dataset on their way: per change its event and its fault, filled in by one check after another."""

    dataset: Dataset
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    events: list[ChangeEvent | None] = field(default_factory=list)
    faults: list[Unacceptable | None] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        self.partitions += [batch.partition.number] * len(batch)
        self.offsets += batch.offsets
        self.keys += batch.keys
        self.values += batch.values
        self.headers += batch.headers
        self.timestamps_ms += batch.timestamps_ms

    def sound(self, index: int) -> bool:
        return self.faults[index] is None


class Admission:
    """The stage. ``schema_of`` gives a registered schema by its id, ``clock`` the present in UTC."""

    def __init__(
        self,
        datasets: Iterable[Dataset],
        renewed: Renewed,
        schema_of: Callable[[int], AvroSchema],
        clock: Callable[[], datetime],
    ) -> None:
        self._renewed = renewed
        self._schema_of = schema_of
        self._clock = clock
        self._versions: dict[Partition, dict[bytes, Version]] = {}
        self._go_by(datasets)

    def renew(self, *, to_the_end: bool) -> bool:
        datasets = self._renewed(to_the_end=to_the_end)
        if datasets is None:
            return False
        self._go_by(datasets)
        return True

    def _go_by(self, datasets: Iterable[Dataset]) -> None:
        self._datasets: Mapping[Topic, Dataset] = {dataset.id.changes: dataset for dataset in datasets}
        self._rules = {dataset.id: QualityRules(dataset) for dataset in self._datasets.values()}
        self._codecs: dict[tuple[Topic, int], ColumnCodec] = {}

    def inputs(self) -> Sequence[Topic]:
        return tuple(self._datasets)

    def followed(self) -> Mapping[Partition, int]:
        return {}

    def outputs(self, partition: Partition) -> Mapping[Partition, int]:
        return {_records(partition): 0}

    def open(self, partition: Partition) -> Opening:
        self._versions[_records(partition)] = {}
        return Opening(outputs=self.outputs(partition))

    def restore(self, batch: Batch) -> None:
        versions = self._versions[batch.partition]
        for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True):
            if key is not None:
                versions[key] = Version(_sequence(headers), _digest(value))

    def restored(self, output: Partition) -> None:
        """The loop lets the input flow then."""

    def follow(self, batch: Batch) -> None:
        """Admission follows nothing."""

    def close(self, partition: Partition) -> None:
        del self._versions[_records(partition)]

    def wants_checkpoint(self) -> bool:
        return False

    def checkpoint(self, positions: Positions) -> None:
        """Admission reads back what it needs from the records."""

    def committed(self, step: Step) -> None:
        """Admission shows nothing more at a commit than the loop does."""

    def process(self, batches: Sequence[Batch]) -> Step:
        """The changes of one dataset are checked together, from whichever of its partitions."""
        step = Step()
        for topic, dataset in self._datasets.items():
            mine = [batch for batch in batches if batch.partition.topic == topic and len(batch)]
            if not mine:
                continue
            try:
                step.outputs += self._decide(dataset, mine)
            except Unavailable:
                step.waiting |= {batch.partition: batch.offsets[0] for batch in mine}
                continue
            step.touched |= {batch.partition for batch in mine}
        return step

    def _decide(self, dataset: Dataset, batches: Sequence[Batch]) -> list[Output]:
        """Headers and keys, then bytes by schema, then sequences in offset order."""
        examined = _Examined(dataset)
        for batch in batches:
            examined.add(batch)
        now = self._clock()
        self._check_headers(examined, now)
        self._check_rows(examined)
        CHANGES.labels(str(dataset.id)).inc(len(examined.offsets))
        return self._conclude(examined, now)

    def _check_headers(self, examined: _Examined, now: datetime) -> None:
        for key, value, headers in zip(examined.keys, examined.values, examined.headers, strict=True):
            try:
                examined.events.append(examine(examined.dataset, key, value, headers, now))
                examined.faults.append(None)
            except Unacceptable as refused:
                examined.events.append(None)
                examined.faults.append(refused)
        self._check_places(examined)

    def _check_places(self, examined: _Examined) -> None:
        """A record has one partition, or its versions could pass each other."""
        count = examined.dataset.partitions
        sound = [index for index, fault in enumerate(examined.faults) if fault is None]
        placed = places([examined.keys[index] or b"" for index in sound], count)
        stands = np.array([examined.partitions[index] for index in sound], np.int64)
        for place in np.flatnonzero(placed != stands).tolist():
            detail = f"its key belongs into partition {placed[place]} of {count}"
            examined.faults[sound[place]] = Unacceptable(Reason.KEY_MISPLACED, detail)

    def _check_rows(self, examined: _Examined) -> None:
        """Rows of one writer schema are decoded and checked together."""
        groups: dict[int, tuple[list[int], list[bytes]]] = {}
        for index, value in enumerate(examined.values):
            if value is None or not examined.sound(index):
                continue
            try:
                schema_id = schema_id_of(value)
            except Unacceptable as refused:
                examined.faults[index] = refused
                continue
            indices, values = groups.setdefault(schema_id, ([], []))
            indices.append(index)
            values.append(value)
        for schema_id, (indices, values) in groups.items():
            try:
                codec = self._codec(examined.dataset, schema_id)
            except Unacceptable as refused:
                for index in indices:
                    examined.faults[index] = refused
                continue
            self._check_group(examined, codec, indices, values)

    def _check_group(
        self, examined: _Examined, codec: ColumnCodec, indices: Sequence[int], values: Sequence[bytes]
    ) -> None:
        decoded = codec.decode_framed(values)
        for bad in decoded.bad:
            examined.faults[indices[bad.index]] = bad.fault
        good = [indices[index] for index in decoded.indices]
        if not good:
            return
        frame = pl.DataFrame(pl.from_arrow(decoded.batch))
        insides = record_keys([frame[name] for name in examined.dataset.key])
        for index, inside in zip(good, insides, strict=True):
            try:
                check_key(examined.dataset, examined.keys[index] or b"", inside)
            except Unacceptable as refused:
                examined.faults[index] = refused
        for violation in self._rules[examined.dataset.id].violations(frame):
            index = good[violation.row]
            if examined.sound(index):
                examined.faults[index] = Unacceptable(
                    violation.reason, "breaks the catalogue's rule", field=violation.field
                )

    def _codec(self, dataset: Dataset, schema_id: int) -> ColumnCodec:
        """Only schemas whose fingerprint the catalogue lists for this dataset; raises Unavailable to wait."""
        place = (dataset.id.changes, schema_id)
        codec = self._codecs.get(place)
        if codec is None:
            schema = self._schema_of(schema_id)
            if all(schema.fingerprint != known.fingerprint for known in dataset.schemas):
                raise Unacceptable(Reason.SCHEMA_FOREIGN, f"schema {schema_id} is not one of {dataset.id}")
            codec = self._codecs[place] = ColumnCodec(schema, dataset.schema)
        return codec

    def _conclude(self, examined: _Examined, now: datetime) -> list[Output]:
        """Every change becomes a record, a duplicate that is dropped, or a parked change."""
        dataset, now_ms = examined.dataset, int(now.timestamp() * 1000)
        admitted: list[Output] = []
        refused: list[Output] = []
        for index, event in enumerate(examined.events):
            fault = examined.faults[index]
            if fault is None and event is not None:
                try:
                    admitted += self._admitted(examined, index, event, now_ms)
                except Unacceptable as found:
                    fault = found
            if fault is not None:
                REFUSED.labels(str(dataset.id), fault.reason.value).inc()
                refused.append(_parked(examined, index, fault, now_ms))
        ADMITTED.labels(str(dataset.id)).inc(len(admitted))
        DUPLICATES.labels(str(dataset.id)).inc(len(examined.events) - len(admitted) - len(refused))
        return admitted + refused

    def _admitted(self, examined: _Examined, index: int, event: ChangeEvent, now_ms: int) -> list[Output]:
        """The record of a sound change, none of a duplicate; raises Unacceptable where its sequence is refused."""
        dataset, key, value = examined.dataset, examined.keys[index] or b"", examined.values[index]
        to = Partition(dataset.id.records, examined.partitions[index])
        versions = self._versions[to]
        version = Version(event.sequence or 0, _digest(value))
        if judge(versions.get(key), version, dataset.sequence) is Verdict.DUPLICATE:
            return []
        versions[key] = version
        timestamp_ms = min(int(event.time.timestamp() * 1000), now_ms)
        return [(to, key, value, _record_headers(event), timestamp_ms)]


def _records(changes: Partition) -> Partition:
    return Partition(DatasetId.of(changes.topic).records, changes.number)


def _record_headers(event: ChangeEvent) -> Headers:
    headers: Headers = [(CAUSE, event.id.encode())]
    if event.sequence is not None:
        headers.append((SEQUENCE, str(event.sequence).encode()))
    return headers


def _sequence(headers: Headers) -> int:
    for name, value in headers:
        if name == SEQUENCE and value is not None:
            return int(value)
    return 0


def _digest(value: bytes | None) -> int:
    return 0 if value is None else xxh3_64_intdigest(value)


def _parked(examined: _Examined, index: int, fault: Unacceptable, now_ms: int) -> Output:
    parked = Parked(
        reason=fault.reason,
        field=fault.field,
        detail=fault.detail,
        topic=examined.dataset.id.changes,
        partition=examined.partitions[index],
        offset=examined.offsets[index],
        timestamp_ms=examined.timestamps_ms[index],
        original_key=examined.keys[index],
        original_headers=tuple(
            (name, value.encode() if isinstance(value, str) else value) for name, value in examined.headers[index]
        ),
        value=examined.values[index],
    )
    to = Partition(examined.dataset.id.quarantine, ANY_PARTITION)
    return to, parked.key(), parked.value, list(parked.headers()), now_ms
