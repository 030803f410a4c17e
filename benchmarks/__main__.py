"""``python -m benchmarks``: run the benchmarks, print a table for each workload, write the page."""

from __future__ import annotations

import os
import platform as machine
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, TypeVar

import psutil
import typer
from confluent_kafka import KafkaException

from benchmarks import latency, page, report, restart, throughput
from benchmarks.engines import FAMILIES, KAFKA_STREAMS, OURS, Engine, available
from benchmarks.platform import Bench, Tell, running
from benchmarks.results import Latency, Restart, Run, Throughput
from benchmarks.rows import Rows
from benchmarks.throughput import Material
from benchmarks.workloads import ENRICHED, MANY_COUNTS, THREE, Workload, selecting_nothing
from civicbus.errors import CivicbusError
from civicbus.schemas.agreement import Agreement

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
T = TypeVar("T")

_AGREEMENTS = {Workload.PROJECT: THREE, Workload.ENRICH: ENRICHED, Workload.BOTH_SIDES: ENRICHED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    rows: int
    warm: int
    enterprises: int
    pace: latency.Pace
    state_rows: int
    rounds: int


FULL = Size(
    rows=500_000,
    warm=100_000,
    enterprises=50_000,
    pace=latency.Pace(measured_s=30, warm_s=5),
    state_rows=1_000_000,
    rounds=3,
)
QUICK = Size(
    rows=40_000,
    warm=20_000,
    enterprises=4_000,
    pace=latency.Pace(measured_s=5, warm_s=2),
    state_rows=50_000,
    rounds=1,
)


@dataclass(slots=True, kw_only=True)
class Session:
    """One call of the benchmarks: what it runs on, and what it has measured so far."""

    bench: Bench
    size: Size
    engines: Sequence[Engine]
    tell: Tell
    throughput: list[Throughput] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    restart: list[Restart] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, workload: Workload, rows: Rows) -> None:
        """All rounds of one workload."""
        match workload:
            case Workload.PROJECT | Workload.ENRICH | Workload.BOTH_SIDES:
                self._side_by_side(workload, rows)
            case Workload.MANY:
                self._many(rows)
            case Workload.LATENCY:
                self._latency(rows)
            case Workload.RESTART:
                self._restart()

    def _side_by_side(self, workload: Workload, rows: Rows) -> None:
        engines = [engine for engine in self.engines if workload in engine.workloads]
        material = self._attempt(str(workload), lambda: self._material(workload, _AGREEMENTS[workload], rows))
        if material is None or not engines:
            return
        self._warm_the_broker(engines, material)
        failed: set[str] = set()
        for round_, engine in _in_turns(engines, self.size.rounds):
            if engine.name not in failed and not self._measure(engine, material, round_):
                failed.add(engine.name)

    def _many(self, rows: Rows) -> None:
        ours = self._ours()
        for round_, count in _in_turns(MANY_COUNTS, self.size.rounds if ours else 0):
            material = self._material(Workload.MANY, selecting_nothing(count), rows)
            self._measure(ours[0], material, round_, str(count))

    def _latency(self, rows: Rows) -> None:
        ways = [(engine, way) for engine in self._ours() for way in (True, False)]
        ways += [(engine, False) for engine in self.engines if engine.name == f"{KAFKA_STREAMS}-1"]
        for round_, (engine, whole_way) in _in_turns(ways, self.size.rounds):
            what = f"latency {round_}, {engine.title}, {latency.WHOLE_WAY if whole_way else latency.ONE_HOP}"
            found = self._attempt(
                what,
                lambda engine=engine, whole_way=whole_way, round_=round_: latency.measure(
                    self.bench, engine, rows, self.size.pace, round_, whole_way=whole_way
                ),
            )
            if found is not None:
                self.latency.append(found)
                self.tell(f"{what}: p50 {found.p50_ms:.0f} ms, p99 {found.p99_ms:.0f} ms")

    def _restart(self) -> None:
        ours = self._ours()
        if not ours:
            return
        self.tell(f"making {self.size.state_rows:,} rows of state")
        count = restart.rows_needed(self.size.state_rows)
        rows = Rows.make(count, self.size.enterprises, self.bench.permits.schema_id)
        for round_ in range(self.size.rounds):
            found = self._attempt(
                f"restart {round_}", lambda round_=round_: restart.measure(self.bench, ours[0], rows, round_)
            )
            if found is not None:
                self.restart.append(found)
                self.tell(
                    f"restart {round_}: {found.with_cache_s:.1f} s with the cache, {found.without_cache_s:.1f} s "
                    f"without, {found.anonymous_mb:.0f} MB"
                )

    def _ours(self) -> list[Engine]:
        return [engine for engine in self.engines if engine.name == OURS]

    def _material(self, workload: Workload, agreements: Sequence[Agreement], rows: Rows) -> Material:
        self.tell(f"{workload}: working out what should come of {self.size.rows:,} rows")
        oracle = throughput.oracle_of(self.bench, workload, agreements, rows)
        return Material(
            workload=workload,
            agreements=agreements,
            rows=rows,
            measured=self.size.rows,
            warm=self.size.warm,
            oracle=oracle,
        )

    def _warm_the_broker(self, engines: Sequence[Engine], material: Material) -> None:
        """A run that is not counted: the broker's JVM compiles too."""
        fastest = next((each for each in engines if each.copies), engines[0])
        first = replace(fastest, share=fastest.share / 4)
        self.tell(f"{material.workload}: a run that does not count, for the broker's sake")
        self._attempt("warming", lambda: throughput.measure(self.bench, first, material, -1))

    def _measure(self, engine: Engine, material: Material, round_: int, case: str = "") -> bool:
        """Whether it came to its end; one that does not costs minutes each time."""
        what = f"{material.workload} {case} {round_}, {engine.title}".replace("  ", " ")
        found = self._attempt(what, lambda: throughput.measure(self.bench, engine, material, round_, case))
        if found is not None:
            self.throughput.append(found)
            verdict = found.fault or "outputs right"
            self.tell(
                f"{what}: {found.rows_a_second:,.0f} rows a second, {found.cpu_s_a_million:.1f} CPU s a million, "
                f"{verdict}"
            )
        return found is not None

    def _attempt(self, what: str, do: Callable[[], T]) -> T | None:
        """What it gives; a fault is noted, and the others go on."""
        try:
            return do()
        except (CivicbusError, KafkaException) as fault:
            self.failed[what] = str(fault)
            self.tell(f"{what} FAILED: {fault}")
            return None


def _in_turns(items: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Every item once a round; each round begins with another."""
    for round_ in range(rounds):
        start = round_ % max(1, len(items))
        yield from ((round_, item) for item in [*items[start:], *items[:start]])


def _teller() -> Tell:
    began_s = time.monotonic()

    def tell(text: str) -> None:
        typer.echo(f"{(time.monotonic() - began_s) / 60:6.1f} min  {text}", err=True)

    return tell


def _machine() -> str:
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} processors, {memory_gib:.0f} GiB, {machine.system()}, Python {machine.python_version()}"


def _versions() -> dict[str, str]:
    names = ("confluent-kafka", "fastavro", "polars", "pyarrow", "pyruhvro")
    return {name: version(name) for name in names}


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def benchmarks(
    *,
    workload: Annotated[
        list[Workload] | None, typer.Option(help="Only this one; may be given again. Default: all.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help=f"Only this one; may be given again. Of: {', '.join(FAMILIES)}.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each is measured; default 3, quick 1.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few rows, for trying out; its figures mean nothing.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write everything that was measured into this file.")] = None,
    write_page: Annotated[bool, typer.Option("--page", help="Write docs/benchmarks.md from this run.")] = False,
    home: Annotated[
        Path | None, typer.Option(help="Where the platform's files go and stay; default: a folder that is removed.")
    ] = None,
) -> None:
    """Measure civicbus beside its peers on a broker of its own; prints a table for each workload."""
    unknown = sorted(set(engine or ()) - set(FAMILIES))
    if unknown:
        raise typer.BadParameter(f"no engine is called {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    size = QUICK if quick else FULL
    size = replace(size, rounds=rounds or size.rounds)
    run = _run(size, workload or list(Workload), engine or [], home, quick=quick)
    for title, lines in report.tables(run):
        typer.echo("\n".join(["", f"## {title}", "", *lines]))
    if json is not None:
        json.write_text(page.as_json(run))
    if write_page:
        PAGE.write_text(page.text(run), encoding="utf-8")
        typer.echo(f"\nwritten: {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")
    if run.failed:
        raise typer.Exit(1)


def _run(size: Size, workloads: Sequence[Workload], names: Sequence[str], home: Path | None, *, quick: bool) -> Run:
    tell, began = _teller(), datetime.now(UTC)
    engines, skipped = available(names, tell)
    for name, reason in skipped.items():
        tell(f"skipped: {name}: {reason}")
    with running(home, tell) as bench:
        session = Session(bench=bench, size=size, engines=engines, tell=tell)
        rows = Rows.make(size.rows + size.warm, size.enterprises, bench.permits.schema_id)
        for workload in workloads:
            session.run(workload, rows)
    return Run(
        began=began.isoformat(timespec="minutes"),
        minutes=(datetime.now(UTC) - began).total_seconds() / 60,
        machine=_machine(),
        versions=_versions(),
        quick=quick,
        rows=size.rows,
        rounds=size.rounds,
        skipped=skipped,
        failed=session.failed,
        throughput=tuple(session.throughput),
        latency=tuple(session.latency),
        restart=tuple(session.restart),
    )


def main() -> None:
    """Run the command; Ctrl-C and SIGTERM end what was started, in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(benchmarks)
    try:
        app(prog_name="python -m benchmarks")
    except CivicbusError as fault:
        typer.secho(f"benchmarks: {fault}", fg="red", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
