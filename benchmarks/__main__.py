"""``python -m benchmarks``: run the benchmarks, print a table for each workload, write the page."""

from __future__ import annotations

import gc
import os
import platform as machine
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import psutil
import typer

from benchmarks import page, report
from benchmarks.engines import FAMILIES, OURS, Engine, available
from benchmarks.platform import Bench, running
from benchmarks.results import Run, Throughput
from benchmarks.rows import Rows
from benchmarks.throughput import Material, measure
from benchmarks.workloads import ENRICHED, MANY_COUNTS, THREE, Workload, selecting_nothing
from civicbus.errors import CivicbusError
from civicbus.schemas.agreement import Agreement

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    rows: int
    warm: int
    enterprises: int
    latency_s: int
    latency_warm_s: int
    state_rows: int
    rounds: int


FULL = Size(
    rows=500_000,
    warm=100_000,
    enterprises=50_000,
    latency_s=30,
    latency_warm_s=5,
    state_rows=1_000_000,
    rounds=3,
)
QUICK = Size(
    rows=40_000, warm=20_000, enterprises=4_000, latency_s=5, latency_warm_s=2, state_rows=50_000, rounds=1
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
