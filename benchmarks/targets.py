"""What the project set out to reach on two processors with the broker on them, and whether this run did.

A ratio is made within a round, between two runs that follow each other, and the median of the rounds counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.engines import KAFKA_STREAMS, KAFKA_STREAMS_TABLES, OURS, RAW
from benchmarks.latency import WHOLE_WAY
from benchmarks.results import Run, Throughput
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One wish and its fate. ``measured`` is None where the run has no such figure."""

    wanted: str
    unit: str
    measured: tuple[float, ...] | None
    limit: float
    at_least: bool

    @property
    def value(self) -> float | None:
        return None if not self.measured else median(self.measured)

    @property
    def holds(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def figures(run: Run) -> list[Figure]:
    """Every figure that was wanted, with what this run has to say of it."""
    return [*_against_kafka_streams(run), *_against_raw(run), *_many(run), *_latency(run), *_restart(run)]


def best_threads(measured: Iterable[Throughput], family: str = KAFKA_STREAMS) -> str | None:
    """Of one workload's runs, the engine of a family with the higher median throughput."""
    rates: dict[str, list[float]] = {}
    for each in measured:
        if each.engine.startswith(family):
            rates.setdefault(each.engine, []).append(each.rows_a_second)
    return max(rates, key=lambda engine: median(rates[engine]), default=None)


def pairs(measured: Iterable[Throughput], peer: str | None) -> list[tuple[Throughput, Throughput]]:
    """Of one workload's runs, ours at its best and the peer's of each round; only those whose outputs were right."""
    right = {(each.engine, each.round): each for each in measured if each.fault is None}
    best = best_threads(right.values(), OURS)
    rounds = sorted(number for engine, number in right if engine == best)
    return [(right[best, number], right[peer, number]) for number in rounds if (peer, number) in right]


def _of(run: Run, workload: Workload) -> list[Throughput]:
    return [each for each in run.throughput if each.workload == workload]


def _at_least(wanted: str, limit: float, measured: Sequence[float]) -> Figure:
    return Figure(wanted=wanted, unit="x", measured=tuple(measured) or None, limit=limit, at_least=True)


def _at_most(wanted: str, limit: float, measured: Sequence[float], unit: str) -> Figure:
    return Figure(wanted=wanted, unit=unit, measured=tuple(measured) or None, limit=limit, at_least=False)


def _against_kafka_streams(run: Run) -> Iterator[Figure]:
    for workload, limit in ((Workload.PROJECT, 1.8), (Workload.ENRICH, 2.0), (Workload.BOTH_SIDES, 1.2)):
        measured = _of(run, workload)
        for family, what in _ways_of_kafka_streams(workload):
            both = pairs(measured, best_threads(measured, family))
            rates = [ours.rows_a_second / theirs.rows_a_second for ours, theirs in both]
            yield _at_least(f"{workload}: throughput at least {limit} times that of {what}", limit, rates)
            if workload is not Workload.BOTH_SIDES:
                cpu = [ours.cpu_s_a_million / theirs.cpu_s_a_million for ours, theirs in both]
                yield _at_most(f"{workload}: at most a third of the CPU of {what} for a row", 1 / 3, cpu, "x")


def _ways_of_kafka_streams(workload: Workload) -> Sequence[tuple[str, str]]:
    if workload is Workload.BOTH_SIDES:
        return ((KAFKA_STREAMS, "Kafka Streams"),)
    return (
        (KAFKA_STREAMS_TABLES, "Kafka Streams' tables, which do the same"),
        (KAFKA_STREAMS, "Kafka Streams' streams, which remember and take back nothing"),
    )


def _against_raw(run: Run) -> Iterator[Figure]:
    for workload in (Workload.PROJECT, Workload.ENRICH):
        rates = [ours.rows_a_second / raw.rows_a_second for ours, raw in pairs(_of(run, workload), RAW)]
        yield _at_least(f"{workload}: at least 60 % of the raw pass-through", 0.6, rates)


def _many(run: Run) -> Iterator[Figure]:
    cases = {(each.case, each.round): each for each in _of(run, Workload.MANY) if each.fault is None}
    rounds = sorted({number for case, number in cases if case == "50" and ("1", number) in cases})
    cpu = [cases["50", each].cpu_s_a_million / cases["1", each].cpu_s_a_million for each in rounds]
    yield _at_most("many: 50 agreements that select nothing cost at most 5 times the CPU of one", 5, cpu, "x")
    wall = [cases["1", each].rows_a_second / cases["50", each].rows_a_second for each in rounds]
    yield _at_most("many: and at most 5 times its time", 5, wall, "x")


def _latency(run: Run) -> Iterator[Figure]:
    whole = [each for each in run.latency if each.way == WHOLE_WAY and each.arrivals == each.changes]
    yield _at_most("latency: half of the changes within 60 ms", 60, [each.p50_ms for each in whole], "ms")
    yield _at_most("latency: 99 of 100 changes within 250 ms", 250, [each.p99_ms for each in whole], "ms")


def _restart(run: Run) -> Iterator[Figure]:
    wanted = "restart: flowing again within"
    yield _at_most(f"{wanted} 10 s with the cache", 10, [each.with_cache_s for each in run.restart], "s")
    yield _at_most(f"{wanted} 30 s without", 30, [each.without_cache_s for each in run.restart], "s")
    memory = [each.anonymous_mb for each in run.restart]
    yield _at_most("restart: at most 700 MB of anonymous memory", 700, memory, "MB")
