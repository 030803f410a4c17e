"""How long the engine is away after kill -9 with much state, and how much memory that state takes.

The steps: the state is written and worked off; the memory is looked at; the process is killed; changes are
published; it starts again, and from that moment one change after the other is published until one is in the
inbox. Then the same without the cache.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from shutil import rmtree

from confluent_kafka import IsolationLevel

from benchmarks.bus import Backlog, Marks
from benchmarks.engines import Engine, Started, commands_of, started
from benchmarks.latency import listen, sender, wait_until_flowing
from benchmarks.measuring import Cpu, Seen, anonymous_mb, watch
from benchmarks.platform import Bench
from benchmarks.results import Restart
from benchmarks.rows import ENTERPRISES, PERMITS, Rows, enterprise_changes
from benchmarks.throughput import OUR_GROUP
from benchmarks.workloads import ENRICHED, Workload, inputs_of
from civicbus.names import Topic

STATE_WITHIN_S = 400.0
CACHE_IS_WRITTEN_S = 15.0
WHILE_DEAD = 1_000
PROBES = 400
AFTER_A_KILL = WHILE_DEAD + PROBES
NOTHING = Cpu(engine_s=0.0, broker_s=0.0)


def measure(bench: Bench, engine: Engine, rows: Rows, round_: int) -> Restart:
    """All of it, once. The last rows are kept for the time after the first kill."""
    state = len(rows.keys) - 2 * AFTER_A_KILL
    topics = _prepare(bench, rows, state)
    folder = bench.home / "bench"
    with started(engine.name, commands_of(bench, engine, folder), folder) as process:
        _wait_until_done(bench, process, topics)
        time.sleep(CACHE_IS_WRITTEN_S)
        memory_mb = anonymous_mb(process.pid)
        process.kill()
    with_cache_s = _back_after_s(bench, engine, rows, topics, range(state, state + AFTER_A_KILL))
    rmtree(bench.cache, ignore_errors=True)
    without_cache_s = _back_after_s(bench, engine, rows, topics, range(state + AFTER_A_KILL, len(rows.keys)))
    return Restart(
        round=round_,
        rows=state,
        anonymous_mb=memory_mb,
        with_cache_s=with_cache_s,
        without_cache_s=without_cache_s,
    )


def rows_needed(state: int) -> int:
    """How many rows there must be for so much state."""
    return state + 2 * AFTER_A_KILL


def _prepare(bench: Bench, rows: Rows, state: int) -> list[Topic]:
    rmtree(bench.cache, ignore_errors=True)
    rmtree(bench.home / "bench", ignore_errors=True)
    (bench.home / "bench").mkdir()
    bench.empty(inputs_of(Workload.RESTART))
    outputs = bench.have(ENRICHED)
    enterprises = enterprise_changes(range(rows.enterprises), 0, bench.enterprises.schema_id)
    bench.bus.publish(Backlog(ENTERPRISES.records, enterprises))
    bench.bus.publish(Backlog(PERMITS.records, rows.changes(range(state))))
    return [Topic(output.stream.topic) for output in outputs]


def _wait_until_done(bench: Bench, process: Started, topics: list[Topic]) -> None:
    marks: Marks = bench.bus.ends([PERMITS.records], IsolationLevel.READ_UNCOMMITTED)
    partitions = bench.bus.partitions(topics)

    def look() -> Seen:
        process.must_run()
        committed = bench.bus.committed(OUR_GROUP, marks)
        passed = all(committed.get(partition, 0) >= mark for partition, mark in marks.items())
        return Seen(passed=passed, state=bench.bus.ends_of(partitions))

    watch(look, lambda: NOTHING, settle_s=5.0, within_s=STATE_WITHIN_S)


def _back_after_s(bench: Bench, engine: Engine, rows: Rows, topics: list[Topic], numbers: range) -> float:
    """Seconds from the start of the process until a change of after the start is visible; it is killed then."""
    bench.bus.publish(Backlog(PERMITS.records, rows.changes(numbers[:WHILE_DEAD])))
    folder = bench.home / "bench"
    with ExitStack() as stack:
        arrivals = listen(bench, topics, stack)
        send = sender(bench, rows, whole_way=False)
        began_s = time.monotonic()
        process = stack.enter_context(started(engine.name, commands_of(bench, engine, folder), folder))
        wait_until_flowing(send, arrivals, [process], numbers[WHILE_DEAD:])
        back_s = time.monotonic() - began_s
        process.kill()
    return back_s
