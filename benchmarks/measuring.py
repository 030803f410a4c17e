"""When an engine is done, and what it took: watched from outside, alike for every engine.

An engine is done when its group's committed offsets have passed the end of its input and nothing new has become
visible in its outputs for a while; the moment and the processor time are those of the last thing that changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from civicbus.errors import Unavailable

TICK_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Processor seconds so far."""

    engine_s: float
    broker_s: float

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(engine_s=self.engine_s - earlier.engine_s, broker_s=self.broker_s - earlier.broker_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look. ``passed``: every input is committed. ``state``: changes whenever something becomes visible."""

    passed: bool
    state: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The moment at which the last thing happened, on the monotonic clock, and the processor time by then."""

    at_s: float
    cpu: Cpu


def watch(
    look: Callable[[], Seen],
    cpu: Callable[[], Cpu],
    *,
    settle_s: float,
    within_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Reached:
    """Until everything is passed and nothing has changed for ``settle_s``; raises Unavailable where it does not end."""
    deadline = clock() + within_s
    before: Seen | None = None
    last = Reached(at_s=clock(), cpu=cpu())
    while clock() < deadline:
        seen = look()
        now = clock()
        if seen != before:
            before, last = seen, Reached(at_s=now, cpu=cpu())
        elif seen.passed and now - last.at_s >= settle_s:
            return last
        pause(TICK_S)
    raise Unavailable(f"the engine was not done within {within_s:.0f} s")


def cpu_seconds(pid: int) -> float:
    """What a process, its children and those of them that ended have used of the processors."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:4])
    return total


def anonymous_mb(pid: int) -> float:
    """The memory that is the process's own, without files, in units of a million bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Anonymous":
            return int(value.split()[0]) * 1024 / 1e6
    raise Unavailable(f"the kernel tells nothing of the memory of process {pid}")
