"""The views as a stage: records in, the rows and tombstones of every agreement's inbox out.

It holds a :class:`Source` for each driving dataset and a :class:`Joined` for each joined one, and lets agreements come
and go while the others flow: a new view is first made ready (its joined datasets whole, its inbox read back), then
kept, with every row dirty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import pyarrow as pa
import structlog

from civicbus.errors import Unavailable
from civicbus.freshness import END_TO_END
from civicbus.names import DatasetId, Topic
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.views import View
from civicbus.stream_apps.views.cache import Cache, Copy
from civicbus.stream_apps.views.inbox import Inbox, Sent
from civicbus.stream_apps.views.joined import Joined, writers
from civicbus.stream_apps.views.metrics import ROWS
from civicbus.stream_apps.views.source import Source
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Batch, Opening, Positions, Step

log = structlog.get_logger()

TURN_ROWS = 10_000
MANY_RECORDS = 1_000
"""A batch of so many shows a backlog: what can wait waits."""
RETRY = timedelta(seconds=1)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The catalogue's datasets, and the inboxes of the agreements that are in force."""

    datasets: Mapping[DatasetId, Dataset]
    inboxes: Sequence[Inbox]


class Renewed(Protocol):
    """The rules if they changed since the last call."""

    def __call__(self, *, to_the_end: bool) -> Rules | None: ...


class Views:
    """The stage. ``schema_of`` gives a registered schema by its id, ``clock`` the present in UTC."""

    def __init__(
        self,
        rules: Rules,
        renewed: Renewed,
        schema_of: Callable[[int], AvroSchema],
        clock: Callable[[], datetime],
        cache: Cache | None = None,
    ) -> None:
        self._renewed = renewed
        self._schema_of = schema_of
        self._clock = clock
        self._sources: dict[DatasetId, Source] = {}
        self._joined: dict[DatasetId, Joined] = {}
        self._writers: dict[DatasetId, tuple[AvroSchema, Callable[[int], ColumnCodec]]] = {}
        self._restoring: dict[Topic, Sent] = {}
        self._open: set[Partition] = set()
        self._retry_at = LONG_AGO
        self._cache = cache
        self._cached: Positions | None = None
        self._busy = False
        self._go_by(rules)
        self._begin_with_cached()

    # Rules.

    def renew(self, *, to_the_end: bool) -> bool:
        rules = self._renewed(to_the_end=to_the_end)
        if rules is None:
            return False
        self._go_by(rules)
        return True

    def _go_by(self, rules: Rules) -> None:
        """Keep the views that stay as they are, let go of those that ended, make the new ones ready."""
        self._follow_joined(rules)
        driven: dict[DatasetId, list[Inbox]] = {}
        for inbox in rules.inboxes:
            driven.setdefault(inbox.view.driving, []).append(inbox)
        for name in self._sources.keys() | driven.keys():
            dataset = rules.datasets[name]
            if name not in self._sources:
                self._sources[name] = Source(dataset, self._writers_of(dataset))
            self._divide(self._sources[name], dataset, driven.get(name, []))
        self._let_go()
        self._restoring = {sent.inbox.view.topic: sent for source in self._sources.values() for sent in _all(source)}

    def _follow_joined(self, rules: Rules) -> None:
        needs = _joined_fields([inbox.view for inbox in rules.inboxes], rules.datasets)
        for name in self._joined.keys() - needs.keys():
            del self._joined[name]
        for name, fields in needs.items():
            dataset = rules.datasets[name]
            codec_of = self._writers_of(dataset)
            if name not in self._joined:
                self._joined[name] = Joined(dataset, codec_of)
            self._joined[name].serve(dataset, fields, codec_of)

    def _writers_of(self, dataset: Dataset) -> Callable[[int], ColumnCodec]:
        """The codecs that read a dataset's rows, kept as long as its schema is the same."""
        kept = self._writers.get(dataset.id)
        if kept is None or kept[0] != dataset.schema:
            kept = self._writers[dataset.id] = (dataset.schema, writers(self._schema_of, dataset.schema))
        return kept[1]

    def _let_go(self) -> None:
        """Forget the datasets that drive nothing any more, once the group has taken their partitions back."""
        held = {DatasetId.of(partition.topic) for partition in self._open}
        self._sources = {name: source for name, source in self._sources.items() if name in held or any(_all(source))}

    def _divide(self, source: Source, dataset: Dataset, inboxes: Sequence[Inbox]) -> None:
        """Which views stay, which end, and which are new to a source."""
        known = {sent.inbox.view.topic: sent for sent in _all(source)}
        wanted = {inbox.view.topic: inbox for inbox in inboxes}
        for topic in known.keys() - wanted.keys():
            ended = known.pop(topic)
            ended.drop()
            log.info("view_ended", agreement=ended.inbox.view.agreement)
        staying: list[Sent] = []
        coming: list[Sent] = []
        for topic, inbox in wanted.items():
            sent = known.get(topic)
            if sent is None:
                coming.append(self._new(source, inbox))
            elif sent in source.sent and sent.inbox == inbox:
                staying.append(sent)
            else:
                sent.change(inbox)
                coming.append(sent)
        source.serve(dataset, staying, coming, self._joined, self._writers_of(dataset))

    def _new(self, source: Source, inbox: Inbox) -> Sent:
        sent = Sent(inbox, source.rows)
        sent.awaited = {sent.output(each.number) for each in self._open if each.topic == source.dataset.id.records}
        return sent

    def _keep_what_is_ready(self, step: Step, now_ms: int) -> None:
        """Views whose joined datasets are whole and whose inboxes are read back are kept from now on."""
        for source in self._sources.values():
            ready = [sent for sent in source.getting_ready if self._is_ready(sent)]
            if ready:
                rest = [sent for sent in source.getting_ready if sent not in ready]
                codec_of = self._writers_of(source.dataset)
                source.serve(source.dataset, [*source.sent, *ready], rest, self._joined, codec_of)
                step.touched |= {place for place in self._open if place.topic == source.dataset.id.records}
            for sent in ready:
                step.outputs += source.make_dirty_for(sent, now_ms)
                log.info("view_kept", agreement=sent.inbox.view.agreement)

    def _is_ready(self, sent: Sent) -> bool:
        return not sent.awaited and all(self._joined[join.dataset].whole for join in sent.inbox.view.joins)

    # What is read.

    def inputs(self) -> Sequence[Topic]:
        return tuple(name.records for name, source in self._sources.items() if any(_all(source)))

    def followed(self) -> Mapping[Partition, int]:
        return {place: start for joined in self._joined.values() for place, start in joined.partitions.items()}

    def outputs(self, partition: Partition) -> Mapping[Partition, int]:
        source = self._sources.get(DatasetId.of(partition.topic))
        if source is None:
            return {}
        return {sent.output(partition.number): self._start(sent, partition.number) for sent in _all(source)}

    def _start(self, sent: Sent, number: int) -> int:
        """From where an inbox is read back."""
        if self._cached is None or number not in sent.known:
            return 0
        return self._cached.outputs.get(sent.output(number), 0)

    def open(self, partition: Partition) -> Opening:
        source = self._sources[DatasetId.of(partition.topic)]
        self._open.add(partition)
        for sent in _all(source):
            sent.awaited.add(sent.output(partition.number))
        cached = None if self._cached is None else self._cached.inputs.get(partition)
        return Opening(outputs=self.outputs(partition), start=cached or 0)

    def restore(self, batch: Batch) -> None:
        self._restoring[batch.partition.topic].restore(batch)

    def restored(self, output: Partition) -> None:
        self._restoring[output.topic].awaited.discard(output)

    def follow(self, batch: Batch) -> None:
        joined = self._joined.get(DatasetId.of(batch.partition.topic))
        if joined is not None:
            joined.follow(batch)

    def close(self, partition: Partition) -> None:
        if partition in self._open:
            self._open.discard(partition)
            self._sources[DatasetId.of(partition.topic)].close(partition.number)
            self._let_go()
            if self._cached is not None:
                # What was cached of it does not say what changed since in what it names.
                inputs = {place: at for place, at in self._cached.inputs.items() if place != partition}
                self._cached = replace(self._cached, inputs=inputs)

    # What is decided.

    def process(self, batches: Sequence[Batch]) -> Step:
        """Take everything in, then evaluate: fresh changes first, the rest in chunks."""
        now = self._clock()
        now_ms = int(now.timestamp() * 1000)
        self._refresh_joined(now)
        waiting = now < self._retry_at
        self._move_to_disk()
        self._busy = sum(map(len, batches)) >= MANY_RECORDS
        step = Step()
        self._keep_what_is_ready(step, now_ms)
        for batch in batches:
            if batch.partition in self._open:
                step.outputs += self._sources[DatasetId.of(batch.partition.topic)].take_in(batch, now_ms)
                step.touched.add(batch.partition)
        for source in self._sources.values():
            if waiting:
                source.postpone()
            else:
                self._evaluate(source, step, now)
        step.more = now >= self._retry_at and any(source.has_dirty for source in self._sources.values())
        return step

    # What is cached.

    def _begin_with_cached(self) -> None:
        """Begin with the last checkpoint, where it holds and nothing was read yet."""
        cached = None if self._cache is None else self._cache.load()
        if cached is None:
            return
        whole = set()
        for name, joined in self._joined.items():
            table = cached.joined.get(name)
            if table is not None and joined.partitions.keys() <= cached.positions.followed.keys():
                joined.load(table, cached.positions.followed)
                whole.add(name)
        begun = {}
        for partition, position in cached.positions.inputs.items():
            source = self._sources.get(DatasetId.of(partition.topic))
            mapped = cached.rows.get(partition)
            if source is not None and mapped is not None:
                source.load(partition.number, cached, mapped, whole)
                begun[partition] = position
        self._cached = replace(cached.positions, inputs=begun)
        log.info("begun_with_cache", rows=sum(len(source.rows) for source in self._sources.values()))

    def wants_checkpoint(self) -> bool:
        return (
            self._cache is not None
            and self._cache.is_due(busy=self._busy, memory_bytes=self._value_bytes)
            and all(joined.decoded for joined in self._joined.values())
            and all(source.at_rest for source in self._sources.values())
            and all(place.number in self._sources[DatasetId.of(place.topic)].live for place in self._open)
        )

    def checkpoint(self, positions: Positions) -> None:
        if self._cache is None:
            return
        self._cached = None
        rows = {place: copy for source in self._sources.values() for place, copy in source.copy().items()}
        self._cache.write(
            Copy(
                positions=replace(positions, inputs={place: positions.inputs[place] for place in rows}),
                views={
                    sent.inbox.view.agreement: sent.inbox.identity
                    for source in self._sources.values()
                    for sent in source.sent
                },
                rows=rows,
                joined={name: joined.copy() for name, joined in self._joined.items()},
            )
        )

    @property
    def _value_bytes(self) -> int:
        return sum(source.rows.value_bytes_in_memory for source in self._sources.values())

    def _move_to_disk(self) -> None:
        """Rows for which there is too little memory stand in the checkpoint from now on, once that is written."""
        written = {} if self._cache is None else self._cache.written()
        moved = set()
        for place, (copied, file) in written.items():
            source = self._sources.get(DatasetId.of(place.topic))
            if source is not None:
                source.rows.move_to_disk(place.number, copied, file)
                moved.add(source)
        for source in moved:
            source.rows.tidy()
        if moved:
            # The allocator keeps what was freed between what is in use, unless asked.
            pa.default_memory_pool().release_unused()

    def committed(self, step: Step) -> None:
        now_ms = self._clock().timestamp() * 1000
        for agreement, timestamps_ms in step.fresh.items():
            END_TO_END.observe(("inbox", agreement), (now_ms - np.array(timestamps_ms)) / 1000)

    def _refresh_joined(self, now: datetime) -> None:
        if now < self._retry_at:
            return
        for joined in self._joined.values():
            try:
                changed = joined.refresh()
            except Unavailable as fault:
                self._wait(now, fault)
                continue
            if changed is not None:
                for source in self._sources.values():
                    source.follow(joined, changed)

    def _evaluate(self, source: Source, step: Step, now: datetime) -> None:
        lot = source.work(TURN_ROWS)
        if lot is None:
            return
        try:
            written = source.evaluate(lot, int(now.timestamp() * 1000))
        except Unavailable as fault:
            source.put_back(lot)
            self._wait(now, fault)
            return
        records = source.dataset.id.records
        step.outputs += written.outputs
        step.touched |= {Partition(records, number) for number in written.partitions}
        for agreement, timestamps_ms in written.fresh.items():
            step.fresh.setdefault(agreement, []).extend(timestamps_ms)
        ROWS.labels(str(source.dataset.id)).set(len(source.rows))

    def _wait(self, now: datetime, fault: Unavailable) -> None:
        log.warning("waiting", fault=str(fault))
        self._retry_at = now + RETRY


def _all(source: Source) -> Iterator[Sent]:
    yield from source.sent
    yield from source.getting_ready


def _joined_fields(views: Sequence[View], datasets: Mapping[DatasetId, Dataset]) -> dict[DatasetId, set[str]]:
    """What the views read of each joined dataset; its key always."""
    needs: dict[DatasetId, set[str]] = {}
    for view in views:
        sources = {join.label: join.dataset for join in view.joins}
        read = [*view.fields, *(on for join in view.joins for on in join.on)]
        for join in view.joins:
            needs.setdefault(join.dataset, set(datasets[join.dataset].key))
        for field in read:
            if field.source:
                needs[sources[field.source]].add(field.name)
    return needs
