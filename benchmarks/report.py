"""A run as tables in Markdown: what is printed and what stands on the page are the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from statistics import median
from typing import TypeVar

from benchmarks.engines import KAFKA_STREAMS, KAFKA_STREAMS_TABLES, OURS
from benchmarks.results import Latency, Run, Throughput
from benchmarks.targets import Figure, best_threads, figures, pairs
from benchmarks.workloads import Workload

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

_PARTS = ("consume", "decode", "evaluate", "compare", "encode", "produce", "commit")
_WORDS = {None: "not measured", True: "yes", False: "no"}


def tables(run: Run) -> Iterator[tuple[str, list[str]]]:
    """The title and the lines of each table that the run has something for."""
    for workload in (Workload.PROJECT, Workload.ENRICH, Workload.BOTH_SIDES):
        measured = [each for each in run.throughput if each.workload == workload]
        if measured:
            yield workload, _throughput(measured)
    many = [each for each in run.throughput if each.workload == Workload.MANY]
    if many:
        yield Workload.MANY, _many(many)
    if any(each.parts_s for each in run.throughput):
        yield "where our time goes", _parts(run.throughput)
    if run.latency:
        yield Workload.LATENCY, _latency(run.latency)
    if run.restart:
        yield Workload.RESTART, _restart(run)
    yield "wanted and measured", _figures(figures(run))


def _throughput(measured: Sequence[Throughput]) -> list[str]:
    best = {best_threads(measured, family) for family in (OURS, KAFKA_STREAMS, KAFKA_STREAMS_TABLES)}
    rows = []
    for engine, runs in _by_engine(measured):
        first = runs[0]
        chosen = " (the better)" if engine in best else ""
        ratios = [ours.rows_a_second / theirs.rows_a_second for ours, theirs in pairs(measured, engine)]
        rows.append(
            [
                f"{first.title}{chosen}",
                first.promise,
                f"{first.rows:,}",
                _spread([each.rows_a_second for each in runs], "{:,.0f}"),
                _spread([each.cpu_s_a_million for each in runs], "{:.1f}"),
                _spread([each.broker_cpu_s / each.rows * 1e6 for each in runs], "{:.1f}"),
                "" if engine.startswith(OURS) else _spread(ratios, "{:.2f}"),
                _verdict(runs),
            ]
        )
    heads = ["engine", "promise", "rows", "rows a second", "CPU s a million rows", "the broker's", "ours / theirs"]
    return _table([*heads, "outputs"], rows)


def _many(measured: Sequence[Throughput]) -> list[str]:
    rows = [
        [
            case,
            _spread([each.rows_a_second for each in runs], "{:,.0f}"),
            _spread([each.cpu_s_a_million for each in runs], "{:.1f}"),
            _verdict(runs),
        ]
        for case, runs in _grouped(measured, lambda each: each.case)
    ]
    return _table(["agreements", "rows a second", "CPU s a million rows", "outputs"], rows)


def _parts(measured: Iterable[Throughput]) -> list[str]:
    """Seconds of the loop's own clock a million rows."""
    told = [each for each in measured if each.parts_s]
    names = [part for part in _PARTS if any(part in each.parts_s for each in told)]
    names += sorted({part for each in told for part in each.parts_s} - set(names))
    rows = [
        [
            f"{workload} {case or title}",
            *(_spread([each.parts_s.get(part, 0.0) / each.rows * 1e6 for each in runs], "{:.2f}") for part in names),
        ]
        for (workload, case, title), runs in _grouped(told, lambda each: (each.workload, each.case, each.title))
    ]
    return _table(["workload", *(f"{name}, s a million rows" for name in names)], rows)


def _latency(measured: Sequence[Latency]) -> list[str]:
    rows = [
        [
            title,
            way,
            f"{runs[0].arrivals:,} of {runs[0].changes:,}",
            _spread([each.p50_ms for each in runs], "{:.0f}"),
            _spread([each.p99_ms for each in runs], "{:.0f}"),
            _spread([each.worst_ms for each in runs], "{:.0f}"),
        ]
        for (title, way), runs in _grouped(measured, lambda each: (each.title, each.way))
    ]
    return _table(["engine", "way", "messages", "p50 ms", "p99 ms", "worst ms"], rows)


def _restart(run: Run) -> list[str]:
    runs = run.restart
    row = [
        f"{runs[0].rows:,}",
        _spread([each.with_cache_s for each in runs], "{:.1f}"),
        _spread([each.without_cache_s for each in runs], "{:.1f}"),
        _spread([each.anonymous_mb for each in runs], "{:.0f}"),
    ]
    return _table(["rows of state", "back with the cache, s", "back without, s", "anonymous memory, MB"], [row])


def _figures(wanted: Iterable[Figure]) -> list[str]:
    rows = [[each.wanted, _measured(each), _WORDS[each.holds]] for each in wanted]
    return _table(["wanted", "measured", "holds"], rows)


def _measured(figure: Figure) -> str:
    return "" if figure.measured is None else f"{_spread(figure.measured, '{:.2f}')} {figure.unit}"


def _verdict(runs: Iterable[Throughput]) -> str:
    """What the comparison of the outputs with what they should be has found."""
    runs = list(runs)
    faults = sorted({each.fault for each in runs if each.fault is not None})
    if faults:
        return "WRONG: " + "; ".join(faults)
    beyond = max(each.beyond for each in runs)
    return f"right, up to {beyond:,} messages more than needed" if beyond else "right"


def _spread(values: Sequence[float], shape: str) -> str:
    """The median, and the range where there is one."""
    if not values:
        return ""
    middle = shape.format(median(values))
    low, high = shape.format(min(values)), shape.format(max(values))
    return middle if low == high else f"{middle} ({low}–{high})"


def _by_engine(measured: Sequence[Throughput]) -> Iterator[tuple[str, list[Throughput]]]:
    """Ours first, then the peers as fast as they are."""
    grouped = list(_grouped(measured, lambda each: each.engine))
    order = sorted(
        grouped, key=lambda pair: (not pair[0].startswith(OURS), -median(each.rows_a_second for each in pair[1]))
    )
    yield from order


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> Iterator[tuple[Key, list[Item]]]:
    """Items with the same key, in the order of their first."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.items()


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(each) + " |" for each in (heads, ["---"] * len(heads), *rows)]
