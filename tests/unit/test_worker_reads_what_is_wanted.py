"""What a worker reads follows its stage's rules, whenever they change: nothing waits for what nobody wants any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from confluent_kafka import TopicPartition

from civicbus.errors import Unavailable
from civicbus.names import CATALOGUE_TOPIC, Topic
from civicbus.transport import exactly_once, readback
from civicbus.transport.exactly_once import Loop, Worker
from civicbus.transport.partitions import LAST, Partition
from civicbus.transport.stage import Batch, Opening, Step

PERMITS, ENTERPRISES = Partition(Topic("records.a.permits"), 0), Partition(Topic("records.b.enterprises"), 0)
INBOX, OTHER = Partition(Topic("inbox.c.one"), 0), Partition(Topic("inbox.c.two"), 0)
DOOR = Partition(CATALOGUE_TOPIC, 0)


@dataclass
class Stage:
    """``wanted``: the outputs of each input; ``next_rules`` are taken in one after the other, each by one renewal."""

    wanted: dict[Partition, set[Partition]]
    followed_now: set[Partition] = field(default_factory=set)
    next_rules: list[Callable[[], None]] = field(default_factory=list)

    def renew(self, *, to_the_end: bool) -> bool:
        del to_the_end
        if not self.next_rules:
            return False
        self.next_rules.pop(0)()
        return True

    def inputs(self) -> Sequence[Topic]:
        return tuple(partition.topic for partition, outputs in self.wanted.items() if outputs)

    def followed(self) -> Mapping[Partition, int]:
        return dict.fromkeys(self.followed_now, 0)

    def outputs(self, partition: Partition) -> Mapping[Partition, int]:
        return dict.fromkeys(self.wanted.get(partition, set()), 0)

    def open(self, partition: Partition) -> Opening:
        return Opening(outputs=self.outputs(partition), start=0)

    def process(self, batches: Sequence[Batch]) -> Step:
        del batches
        return Step()

    def wants_checkpoint(self) -> bool:
        return False

    def restored(self, output: Partition) -> None:
        """Nothing is told apart here."""

    def close(self, partition: Partition) -> None:
        """Nothing is remembered here."""


class Consumer:
    """Assigns what the test gives it, inside ``consume``; has no records."""

    def __init__(self) -> None:
        self.given: list[Partition] = []
        self.assigned: set[Partition] = set()
        self.paused: set[Partition] = set()

    def list_topics(self, timeout: float) -> None:
        """Every topic is known."""

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        del topics
        self._callbacks = callbacks

    def consume(self, most: int, timeout_s: float) -> list[object]:
        del most, timeout_s
        given, self.given = self.given, []
        if given:
            self._callbacks["on_assign"](self, [TopicPartition(*partition) for partition in given])
        return []

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        del timeout
        return partitions

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned |= _places(partitions)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        self.assigned -= _places(partitions)

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= _places(partitions)

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= _places(partitions)

    def close(self) -> None:
        """Nothing to leave."""

    @property
    def flowing(self) -> set[Partition]:
        return self.assigned - self.paused


class Producer:
    def init_transactions(self, timeout_s: float) -> None:
        """There is no older instance."""


def _places(partitions: list[TopicPartition]) -> set[Partition]:
    return {Partition(Topic(each.topic), each.partition) for each in partitions}


@dataclass
class Bench:
    worker: Worker
    stage: Stage
    group: Consumer
    beside: Consumer

    def give(self, *partitions: Partition) -> None:
        self.group.given = list(partitions)
        self.worker.turn()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Stage], Bench]]:
    """A worker that is in its group, on outputs and followed topics that all end at 10."""
    workers: list[Worker] = []
    for module in (exactly_once, readback):
        monkeypatch.setattr(module, "offsets", lambda _, some, spec, __: dict.fromkeys(some, 10 if spec is LAST else 0))
    monkeypatch.setattr(exactly_once, "confluent_admin", lambda *_: None)
    monkeypatch.setattr(exactly_once, "confluent_producer", lambda *_: Producer())

    def bench(stage: Stage) -> Bench:
        group, beside = Consumer(), Consumer()
        consumers = [group, beside]
        monkeypatch.setattr(exactly_once, "confluent_consumer", lambda *_: consumers.pop(0))
        loop = Loop(process="test", group="test", instance="test", poll_timeout_s=0.0)
        worker = Worker(None, None, loop, stage)
        workers.append(worker)
        worker.start()
        made = Bench(worker, stage, group, beside)
        made.give(DOOR)
        return made

    yield bench
    for worker in workers:
        worker.close()


def test_a_partition_does_not_wait_for_what_is_wanted_no_more(make) -> None:
    bench = make(Stage({PERMITS: {INBOX, OTHER}}, {ENTERPRISES}))
    bench.give(PERMITS)
    assert bench.beside.assigned == {INBOX, OTHER, ENTERPRISES}
    assert PERMITS not in bench.group.flowing

    def fewer() -> None:
        bench.stage.wanted[PERMITS] = {OTHER}
        bench.stage.followed_now = set()

    bench.stage.next_rules = [fewer]
    bench.worker.turn()
    assert bench.beside.assigned == {OTHER}
    bench.stage.next_rules = [bench.stage.wanted[PERMITS].clear]
    bench.worker.turn()
    assert PERMITS in bench.group.flowing


@pytest.mark.parametrize("given", [(PERMITS, ENTERPRISES), (ENTERPRISES, PERMITS)])
def test_an_output_that_goes_to_another_input_is_read_back_for_it(make, given: tuple[Partition, ...]) -> None:
    bench = make(Stage({PERMITS: {INBOX}, ENTERPRISES: {OTHER}}))
    bench.give(*given)

    def moved() -> None:
        bench.stage.wanted = {PERMITS: set(), ENTERPRISES: {OTHER, INBOX}}

    bench.stage.next_rules = [moved]
    bench.worker.turn()
    assert bench.beside.assigned == {OTHER, INBOX}


def test_what_goes_in_a_rebalance_and_comes_back_is_read_anew(make) -> None:
    third = Partition(Topic("inbox.c.three"), 0)
    bench = make(Stage({PERMITS: {INBOX, third}, ENTERPRISES: {OTHER}}))
    bench.give(PERMITS)
    seen: list[set[Partition]] = []

    def back() -> None:
        seen.append(set(bench.beside.assigned))
        bench.stage.wanted[PERMITS].add(INBOX)

    # The first renewal is the turn's own, the second the rebalance's, the third the next turn's.
    bench.stage.next_rules = [lambda: None, lambda: bench.stage.wanted[PERMITS].remove(INBOX), back]
    bench.give(ENTERPRISES)
    bench.worker.turn()
    assert INBOX not in seen[0]
    assert INBOX in bench.beside.assigned


def test_a_partition_that_was_given_up_and_is_wanted_again_ends_the_worker(make) -> None:
    bench = make(Stage({PERMITS: {INBOX}, ENTERPRISES: {OTHER}}))
    bench.stage.next_rules = [lambda: None, bench.stage.wanted[ENTERPRISES].clear]
    bench.give(PERMITS, ENTERPRISES)
    bench.stage.next_rules = [lambda: bench.stage.wanted[ENTERPRISES].add(OTHER)]
    with pytest.raises(Unavailable, match="given up"):
        bench.worker.turn()
