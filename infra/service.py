"""What the supervisor needs to know of one process: how to start it, when it is ready, how to stop it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunAs:
    """The user that a process runs as, where it must not be root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process of the platform. ``ready`` is called until it returns True; it never blocks over a second.

    A start waits for it and fails without it, unless it is not ``essential``: what one department's own system keeps
    waiting, as a database that is away, is no reason for the others to wait.
    """

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    run_as: RunAs | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    ready_timeout_s: float = 60.0
    stop_timeout_s: float = 15.0
    essential: bool = True
