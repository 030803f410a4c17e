"""One engine, one workload, once: the whole backlog appears at one moment to an engine that waits for it.

The steps of a run:
1. inputs and outputs are made anew; the joined dataset is written;
2. the engine starts, each of its threads or workers gets its partitions, and it works off some tenths of the rows, so
   that it is compiled and warm;
3. the measured rows are written into one open transaction, which no engine can see;
4. the transaction is committed, which starts the clock; the engine has the processors to itself and the broker;
5. the clock stops at the last thing that became visible; then every output is read back and compared.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from shutil import rmtree

import httpx
from confluent_kafka import IsolationLevel
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.bus import Backlog, digest_of
from benchmarks.engines import Engine, Started, commands_of, started, write_task
from benchmarks.measuring import Cpu, Reached, Seen, watch
from benchmarks.peers.task import CAUSE, Row, Stream
from benchmarks.platform import Bench, own_outputs
from benchmarks.results import Throughput
from benchmarks.rows import ENTERPRISES, PERMITS, Rows, enterprise_changes
from benchmarks.workloads import Expected, Oracle, Plan, Workload, inputs_of, plan
from civicbus.errors import Unavailable
from civicbus.names import Topic
from civicbus.observe import observed
from civicbus.schemas.agreement import Agreement

OUR_GROUP = "platform.views"
WARM_WITHIN_S = 240.0
DONE_WITHIN_S = 400.0
BEFORE_THE_CLOCK_S = 1.0
SHARES_EVERY_S = 0.5
PARTS = ("civicbus_loop_seconds", "civicbus_views_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What all engines of a workload get: its rows, and what should come of them."""

    workload: Workload
    agreements: Sequence[Agreement]
    rows: Rows
    measured: int
    warm: int
    oracle: Oracle

    def plan(self, engine: Engine) -> Plan:
        return plan(
            self.workload, int(self.measured * engine.share), int(self.warm * engine.share), self.rows.enterprises
        )

    def expected(self, engine: Engine, done: Plan) -> list[Expected]:
        return [_copied(self.rows, done)] if engine.copies else self.oracle.expected(done)


def oracle_of(bench: Bench, workload: Workload, agreements: Sequence[Agreement], rows: Rows) -> Oracle:
    """What should come of these rows, by the schemas that the agreements have on this platform."""
    if workload is Workload.MANY:
        return Oracle(workload, len(rows.keys), rows.enterprises, [_nothing] * len(agreements))
    encoders = [output.codec.encode for output in bench.have(agreements)]
    return Oracle(workload, len(rows.keys), rows.enterprises, encoders)


def _nothing(_: Row) -> bytes:
    return b""


def _copied(rows: Rows, done: Plan) -> Expected:
    numbers = [*done.warm, *done.measured]
    digest = sum(digest_of(rows.keys[number], rows.values[number]) for number in numbers) % 2**64
    return Expected(messages=len(numbers), keys=len(numbers), digest=digest)


def measure(bench: Bench, engine: Engine, material: Material, round_: int, case: str = "") -> Throughput:
    """Run it; see the steps above."""
    return _Run(bench, engine, material, round_, case).measure()


class _Run:
    def __init__(self, bench: Bench, engine: Engine, material: Material, round_: int, case: str) -> None:
        self._bench, self._engine, self._material = bench, engine, material
        self._round, self._case = round_, case
        self._plan = material.plan(engine)
        self._group = OUR_GROUP if engine.ours else f"bench.{engine.name}.{material.workload}.{time.time_ns()}"
        self._folder = bench.home / "bench"
        self._records = PERMITS.records

    def measure(self) -> Throughput:
        outputs = self._prepare()
        topics = [Topic(output.topic) for output in outputs]
        task = write_task(
            self._bench,
            self._engine,
            workload=self._material.workload,
            group=self._group,
            outputs=outputs,
            folder=self._folder,
        )
        commands = commands_of(self._bench, self._engine, task)
        with started(self._engine.name, commands, self._folder) as process:
            self._warm_up(process, topics)
            began_s, reached, cpu, parts_s = self._clocked(process, topics)
        fault, beyond = self._looked_at(topics)
        self._clear(topics)
        return Throughput(
            workload=self._material.workload,
            engine=self._engine.name,
            title=self._engine.title,
            promise="exactly once" if self._engine.exactly_once else "at least once",
            round=self._round,
            rows=self._plan.rows,
            seconds=reached.at_s - began_s,
            cpu_s=cpu.engine_s,
            broker_cpu_s=cpu.broker_s,
            case=self._case,
            beyond=beyond,
            fault=fault,
            parts_s=parts_s,
        )

    def _prepare(self) -> list[Stream]:
        """Empty topics and folders; gives where the engine writes to."""
        rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        rmtree(self._bench.cache, ignore_errors=True)
        self._bench.empty(inputs_of(self._material.workload))
        outputs = self._bench.have(self._material.agreements)
        if ENTERPRISES in inputs_of(self._material.workload):
            everyone = range(self._plan.enterprises)
            changes = enterprise_changes(everyone, 0, self._bench.enterprises.schema_id)
            self._bench.bus.publish(Backlog(ENTERPRISES.records, changes))
        streams = [output.stream for output in outputs]
        if self._engine.ours:
            return streams
        return own_outputs(self._bench, self._engine.name, streams[:1] if self._engine.copies else streams)

    def _warm_up(self, process: Started, topics: Sequence[Topic]) -> None:
        bus = self._bench.bus
        self._wait_for_all(process)
        bus.publish(Backlog(self._records, self._material.rows.changes(self._plan.warm)))
        warm = replace(self._plan, measured=range(0), changing=range(0))
        self._watched(process, self._look(process, topics, warm), WARM_WITHIN_S)

    def _wait_for_all(self, process: Started) -> None:
        """Until each thread or worker has partitions: one that comes later would take them while the clock runs."""
        deadline = time.monotonic() + WARM_WITHIN_S
        while self._engine.threads > 1 and self._bench.bus.sharing(self._group, self._records) < self._engine.threads:
            process.must_run()
            if time.monotonic() > deadline:
                raise Unavailable(f"{self._engine.title}: not all of it has partitions after {WARM_WITHIN_S:.0f} s")
            time.sleep(SHARES_EVERY_S)

    def _clocked(self, process: Started, topics: Sequence[Topic]) -> tuple[float, Reached, Cpu, dict[str, float]]:
        bus = self._bench.bus
        backlogs = [Backlog(self._records, self._material.rows.changes(self._plan.measured))]
        if self._plan.changing:
            changes = enterprise_changes(self._plan.changing, 1, self._bench.enterprises.schema_id)
            backlogs.append(Backlog(ENTERPRISES.records, changes))
        show = bus.hidden(*backlogs)
        look = self._look(process, topics, self._plan)
        time.sleep(BEFORE_THE_CLOCK_S)
        parts_s = self._parts_s()
        cpu, began_s = self._cpu(process), time.monotonic()
        show()
        reached = self._watched(process, look, DONE_WITHIN_S)
        return began_s, reached, reached.cpu - cpu, _grown(parts_s, self._parts_s())

    def _look(self, process: Started, topics: Sequence[Topic], done: Plan) -> Callable[[], Seen]:
        """What looks whether everything of the plan is worked off. Made before a hidden backlog is shown: the ends
        are then those of the last records, which every engine commits, and not those of the markers behind them."""
        bus = self._bench.bus
        inputs = bus.ends([self._records], IsolationLevel.READ_UNCOMMITTED)
        outputs = bus.partitions(topics)
        messages = sum(each.messages for each in self._material.expected(self._engine, done))

        def look() -> Seen:
            process.must_run()
            ends = bus.ends_of(outputs)
            if not self._engine.commits:
                return Seen(passed=sum(ends.values()) >= messages, state=ends)
            committed = bus.committed(self._group, inputs)
            return Seen(passed=all(committed.get(each, 0) >= end for each, end in inputs.items()), state=ends)

        return look

    def _watched(self, process: Started, look: Callable[[], Seen], within_s: float) -> Reached:
        return watch(look, lambda: self._cpu(process), settle_s=self._engine.settle_s, within_s=within_s)

    def _cpu(self, process: Started) -> Cpu:
        return Cpu(engine_s=process.cpu_s(), broker_s=self._bench.broker_cpu_s())

    def _parts_s(self) -> dict[str, float]:
        """Where our engine's time went so far, if it tells."""
        if not self._engine.ours:
            return {}
        names = {"views", *(f"views-{number}" for number in range(1, self._engine.threads))}
        parts_s: Counter[str] = Counter()
        for worker in observed(self._bench.home):
            if worker.process in names:
                text = httpx.get(f"{worker.url}/metrics", timeout=5).text
                families = [each for each in text_string_to_metric_families(text) if each.name in PARTS]
                for sample in (sample for family in families for sample in family.samples):
                    if sample.name.endswith("_total"):
                        parts_s[sample.labels["part"]] += sample.value
        return dict(parts_s)

    def _looked_at(self, topics: Sequence[Topic]) -> tuple[str | None, int]:
        """What is wrong with the outputs, if anything is; and how many messages there are beyond those needed."""
        beyond = 0
        for topic, should_be in zip(topics, self._material.expected(self._engine, self._plan), strict=True):
            found = self._bench.bus.found(topic, (CAUSE,))
            if fault := should_be.fault_of(found):
                return f"{topic}: {fault}", beyond
            beyond += found.messages - should_be.messages
        return None, beyond

    def _clear(self, topics: Sequence[Topic]) -> None:
        """The disk and the broker's attention are the next engine's."""
        if self._engine.ours:
            return
        internal = [topic for topic in self._bench.bus.topics() if topic.startswith(f"{self._group}-")]
        self._bench.bus.delete([*topics, *internal])


def _grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {part: value - before.get(part, 0.0) for part, value in after.items()}
