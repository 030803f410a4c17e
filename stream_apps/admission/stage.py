"""Admission as a stage: batches of changes in, records and parked changes out.

The state, record key → last admitted version, is read back from the records topic when a partition opens,
deletions included; it is never inferred from committed offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl
from xxhash import xxh3_64_intdigest

from civicbus.errors import Unacceptable, Unavailable
from civicbus.events import CAUSE, SEQUENCE, ChangeEvent, Headers
from civicbus.keys import canonical_text, joined_key
from civicbus.names import Topic
from civicbus.quarantine import Parked
from civicbus.reasons import Reason
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import schema_id_of
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.quality import violations
from civicbus.stream_apps.admission.metrics import ADMITTED, CHANGES, DUPLICATES, REFUSED
from civicbus.stream_apps.admission.rules import Verdict, Version, check_key, examine, judge
from civicbus.transport.exactly_once import ANY_PARTITION, Batch, Output, Step
from civicbus.transport.partitions import Partition


@dataclass(slots=True)
class _Examined:
    """A batch on its way: per record its event and its fault, filled in by one check after another."""

    dataset: Dataset
    batch: Batch
    events: list[ChangeEvent | None] = field(default_factory=list)
    faults: list[Unacceptable | None] = field(default_factory=list)

    def sound(self, index: int) -> bool:
        return self.faults[index] is None


class Admission:
    """The stage. ``schema_of`` gives a registered schema by its id, ``clock`` the present in UTC."""

    from_start = False

    def __init__(
        self, datasets: Iterable[Dataset], schema_of: Callable[[int], AvroSchema], clock: Callable[[], datetime]
    ) -> None:
        self._datasets: Mapping[Topic, Dataset] = {dataset.id.changes: dataset for dataset in datasets}
        self._schema_of = schema_of
        self._clock = clock
        self._versions: dict[Partition, dict[bytes, Version]] = {}
        self._codecs: dict[tuple[Topic, int], ColumnCodec] = {}

    def inputs(self) -> Sequence[Topic]:
        return tuple(self._datasets)

    def open(self, partition: Partition) -> Sequence[Partition]:
        records = self._records(partition)
        self._versions[records] = {}
        return [records]

    def restore(self, batch: Batch) -> None:
        versions = self._versions[batch.partition]
        for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True):
            if key is not None:
                versions[key] = Version(_sequence(headers), _digest(value))

    def close(self, partition: Partition) -> None:
        del self._versions[self._records(partition)]

    def committed(self) -> None:
        """Admission shows nothing more at a commit than the loop does."""

    def process(self, batches: Sequence[Batch]) -> Step:
        step = Step()
        for batch in batches:
            try:
                step.outputs += self._decide(batch)
            except Unavailable:
                step.waiting[batch.partition] = batch.offsets[0]
                continue
            step.touched.add(batch.partition)
        return step

    def _decide(self, batch: Batch) -> list[Output]:
        """Headers and keys, then bytes by schema, then sequences in offset order."""
        examined = _Examined(self._datasets[batch.partition.topic], batch)
        now = self._clock()
        self._check_headers(examined, now)
        self._check_rows(examined)
        CHANGES.labels(str(examined.dataset.id)).inc(len(batch))
        return self._conclude(examined, now)

    def _check_headers(self, examined: _Examined, now: datetime) -> None:
        batch = examined.batch
        for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True):
            try:
                examined.events.append(examine(examined.dataset, key, value, headers, now))
                examined.faults.append(None)
            except Unacceptable as refused:
                examined.events.append(None)
                examined.faults.append(refused)

    def _check_rows(self, examined: _Examined) -> None:
        """Rows of one writer schema are decoded and checked together."""
        groups: dict[int, tuple[list[int], list[bytes]]] = {}
        for index, value in enumerate(examined.batch.values):
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
        for index, inside in zip(good, _keys_inside(frame, examined.dataset.key), strict=True):
            try:
                check_key(examined.dataset, examined.batch.keys[index] or b"", inside)
            except Unacceptable as refused:
                examined.faults[index] = refused
        for violation in violations(frame, examined.dataset):
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
        batch, dataset = examined.batch, examined.dataset
        to = self._records(batch.partition)
        versions = self._versions[to]
        now_ms = int(now.timestamp() * 1000)
        outputs: list[Output] = []
        duplicates = 0
        for index, event in enumerate(examined.events):
            key, value = batch.keys[index], batch.values[index]
            fault = examined.faults[index]
            if event is not None and key is not None and fault is None:
                version = Version(event.sequence or 0, _digest(value))
                try:
                    verdict = judge(versions.get(key), version, dataset.sequence)
                except Unacceptable as refused:
                    fault = refused
                else:
                    if verdict is Verdict.DUPLICATE:
                        duplicates += 1
                        continue
                    versions[key] = version
                    timestamp_ms = min(int(event.time.timestamp() * 1000), now_ms)
                    outputs.append(Output(to, key, value, _record_headers(event), timestamp_ms))
                    continue
            if fault is not None:
                REFUSED.labels(str(dataset.id), fault.reason.value).inc()
                outputs.append(_parked(dataset, batch, index, fault, now_ms))
        ADMITTED.labels(str(dataset.id)).inc(sum(output.to is to for output in outputs))
        DUPLICATES.labels(str(dataset.id)).inc(duplicates)
        return outputs

    def _records(self, changes: Partition) -> Partition:
        return Partition(self._datasets[changes.topic].id.records, changes.number)


def _keys_inside(frame: pl.DataFrame, names: Sequence[str]) -> list[bytes | None]:
    """The record keys of decoded rows; None where a key field is null or empty."""
    columns = [[None if v is None or v == "" else canonical_text(v) for v in frame[name].to_list()] for name in names]
    if len(columns) == 1:
        return [None if text is None else text.encode() for text in columns[0]]
    return [None if None in texts else joined_key(texts) for texts in zip(*columns, strict=True)]


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


def _parked(dataset: Dataset, batch: Batch, index: int, fault: Unacceptable, now_ms: int) -> Output:
    parked = Parked(
        reason=fault.reason,
        field=fault.field,
        detail=fault.detail,
        topic=batch.partition.topic,
        partition=batch.partition.number,
        offset=batch.offsets[index],
        timestamp_ms=batch.timestamps_ms[index],
        original_key=batch.keys[index],
        original_headers=tuple(
            (name, value.encode() if isinstance(value, str) else value) for name, value in batch.headers[index]
        ),
        value=batch.values[index],
    )
    to = Partition(dataset.id.quarantine, ANY_PARTITION)
    headers: Headers = list(parked.headers())
    return Output(to, parked.key(), parked.value, headers, now_ms)
