"""What was measured, as plain records that go into the JSON file and onto the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """One engine, once. ``case``: how many agreements, in *many*. ``fault``: what was wrong with what it wrote.

    ``beyond``: messages that a reader saw beyond those that bring every row there once.
    """

    workload: str
    engine: str
    title: str
    promise: str
    round: int
    rows: int
    seconds: float
    cpu_s: float
    broker_cpu_s: float
    case: str = ""
    beyond: int = 0
    fault: str | None = None
    parts_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def rows_a_second(self) -> float:
        return self.rows / self.seconds

    @property
    def cpu_s_a_million(self) -> float:
        return self.cpu_s / self.rows * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From the producer's call to the reader, for each change of one run."""

    engine: str
    title: str
    way: str
    round: int
    changes: int
    arrivals: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """From the start of a process after kill -9 until a change published since is in the inbox."""

    round: int
    rows: int
    anonymous_mb: float
    with_cache_s: float
    without_cache_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything of one call of the benchmarks."""

    began: str
    machine: str
    versions: Mapping[str, str]
    quick: bool
    rows: int
    rounds: int
    minutes: float
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    throughput: tuple[Throughput, ...] = ()
    latency: tuple[Latency, ...] = ()
    restart: tuple[Restart, ...] = ()
