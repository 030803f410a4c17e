"""The views as a stage: records in, the rows and tombstones of every agreement's inbox out.

It holds a :class:`Source` for each driving dataset and a :class:`Joined` for each joined one, and lets agreements come
and go while the others flow: a new view is first made ready (its joined datasets whole, its inbox read back), then
kept, with every row dirty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from civicbus.errors import Unavailable
from civicbus.freshness import END_TO_END
from civicbus.names import DatasetId, Topic
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.views import View
from civicbus.stream_apps.views.inbox import Inbox, Sent
from civicbus.stream_apps.views.joined import Joined, writers
from civicbus.stream_apps.views.metrics import ROWS
from civicbus.stream_apps.views.source import Source
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Batch, Opening, Step

log = structlog.get_logger()

TURN_ROWS = 10_000
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
        self, rules: Rules, renewed: Renewed, schema_of: Callable[[int], AvroSchema], clock: Callable[[], datetime]
    ) -> None:
        self._renewed = renewed
        self._schema_of = schema_of
        self._clock = clock
        self._sources: dict[DatasetId, Source] = {}
        self._joined: dict[DatasetId, Joined] = {}
        self._restoring: dict[Topic, Sent] = {}
        self._open: set[Partition] = set()
        self._retry_at = LONG_AGO
        self._go_by(rules)

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
            source = self._sources.setdefault(name, Source(dataset, writers(self._schema_of, dataset.schema)))
            self._divide(source, dataset, driven.get(name, []))
        self._let_go()
        self._restoring = {sent.inbox.view.topic: sent for source in self._sources.values() for sent in _all(source)}

    def _follow_joined(self, rules: Rules) -> None:
        needs = _joined_fields([inbox.view for inbox in rules.inboxes], rules.datasets)
        for name in self._joined.keys() - needs.keys():
            del self._joined[name]
        for name, fields in needs.items():
            dataset = rules.datasets[name]
            codec_of = writers(self._schema_of, dataset.schema)
            self._joined.setdefault(name, Joined(dataset, codec_of)).serve(dataset, fields, codec_of)

    def _let_go(self) -> None:
        """Forget the datasets that drive nothing any more, once the group has taken their partitions back."""
        held = {DatasetId.of(partition.topic) for partition in self._open}
        self._sources = {name: source for name, source in self._sources.items() if name in held or any(_all(source))}

    def _divide(self, source: Source, dataset: Dataset, inboxes: Sequence[Inbox]) -> None:
        """Which views stay, which end, and which are new to a source."""
        known = {sent.inbox.view.agreement: sent for sent in _all(source)}
        wanted = {inbox.view.agreement: inbox for inbox in inboxes}
        for agreement in known.keys() - wanted.keys():
            known.pop(agreement).drop()
            log.info("view_ended", agreement=agreement)
        staying: list[Sent] = []
        coming: list[Sent] = []
        for agreement, inbox in wanted.items():
            sent = known.get(agreement)
            if sent is None:
                coming.append(self._new(source, inbox))
            elif sent in source.sent and sent.inbox == inbox:
                staying.append(sent)
            else:
                sent.inbox = inbox
                coming.append(sent)
        source.getting_ready = coming
        source.serve(dataset, staying, self._joined, writers(self._schema_of, dataset.schema))

    def _new(self, source: Source, inbox: Inbox) -> Sent:
        sent = Sent(inbox, source.rows)
        sent.awaited = {sent.output(each.number) for each in self._open if each.topic == source.dataset.id.records}
        return sent

    def _keep_what_is_ready(self, step: Step, now_ms: int) -> None:
        """Views whose joined datasets are whole and whose inboxes are read back are kept from now on."""
        for source in self._sources.values():
            for sent in [sent for sent in source.getting_ready if self._is_ready(sent)]:
                source.getting_ready.remove(sent)
                source.serve(
                    source.dataset,
                    [*source.sent, sent],
                    self._joined,
                    writers(self._schema_of, source.dataset.schema),
                )
                view = sent.inbox.view
                cause = f"civicbus:{view.agreement}:activated".encode()
                step.outputs += source.make_all_dirty(cause, sent, now_ms)
                step.touched |= {place for place in self._open if place.topic == source.dataset.id.records}
                log.info("view_kept", agreement=view.agreement)

    def _is_ready(self, sent: Sent) -> bool:
        return not sent.awaited and all(self._joined[join.dataset].whole for join in sent.inbox.view.joins)

    # What is read.

    def inputs(self) -> Sequence[Topic]:
        return tuple(name.records for name, source in self._sources.items() if any(_all(source)))

    def followed(self) -> Mapping[Partition, int]:
        return {place: start for joined in self._joined.values() for place, start in joined.partitions.items()}

    def outputs(self, partition: Partition) -> Mapping[Partition, int]:
        source = self._sources.get(DatasetId.of(partition.topic))
        return {} if source is None else {sent.output(partition.number): 0 for sent in _all(source)}

    def open(self, partition: Partition) -> Opening:
        self._open.add(partition)
        outputs = self.outputs(partition)
        for sent in _all(self._sources[DatasetId.of(partition.topic)]):
            sent.awaited.add(sent.output(partition.number))
        return Opening(outputs=outputs, start=0)

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

    # What is decided.

    def process(self, batches: Sequence[Batch]) -> Step:
        """Take everything in, then evaluate: fresh changes first, the rest in chunks."""
        now = self._clock()
        now_ms = int(now.timestamp() * 1000)
        waiting = now < self._retry_at
        self._refresh_joined(now)
        step = Step()
        self._keep_what_is_ready(step, now_ms)
        for batch in batches:
            if batch.partition in self._open:
                step.outputs += self._sources[DatasetId.of(batch.partition.topic)].take_in(batch, now_ms)
                step.touched.add(batch.partition)
        for source in self._sources.values():
            if waiting:
                source.put_off()
            else:
                self._evaluate(source, step, now)
        step.more = now >= self._retry_at and any(source.has_dirty for source in self._sources.values())
        return step

    def committed(self, step: Step) -> None:
        now_ms = self._clock().timestamp() * 1000
        for agreement, timestamps_ms in step.fresh.items():
            END_TO_END.observe(("inbox", agreement), [(now_ms - each) / 1000 for each in timestamps_ms])

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
