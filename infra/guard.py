"""Starts every process of the platform so that none outlives its supervisor, and tells the watchdog of each.

Two independent means: the kernel's parent-death signal (Linux, set by ``launch``) and the watchdog, a process
of its own that acts when its pipe from the supervisor closes. The watchdog also shares the home's lock, so
that a new supervisor waits until the old one's processes are gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from civicbus.infra.logfiles import RotatingLog, follow
from civicbus.infra.service import Service

GRACE_S = 5.0
_LOG_END_S = 1.0  # what the last output needs to reach the log
_PROGRAMS = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that was spawned, and the thread that moves its output into its log."""

    process: subprocess.Popen[bytes]
    follower: threading.Thread

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """End the process and its group at once."""
        signal_group(self.pid, signal.SIGKILL)


class Guard:
    """Spawns process groups and keeps the watchdog informed. For the supervisor's main thread only.

    The kernel ties the parent-death signal to the thread that spawned the process: were it another one, the
    process would die with that thread.
    """

    def __init__(self, environment: Mapping[str, str], lock: int | None = None) -> None:
        self._environment = dict(environment)
        self._lock = lock
        self._living: dict[int, Service] = {}
        self._watchdog = self._start_watchdog()

    def spawn(self, service: Service, log: RotatingLog) -> Child:
        """Start the service in a session of its own; its output goes to the log, its input is empty."""
        process = subprocess.Popen(
            [*_program("launch"), *_launch_arguments(service)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=service.folder or "/",
            env=self._environment | dict(service.environment),
            start_new_session=True,
            umask=0o077,
        )
        self._living[process.pid] = service
        self._tell(_begun(process.pid, service))
        return Child(process=process, follower=follow(process, log))

    def bury(self, child: Child) -> str:
        """Clear away a child that has ended, and what is left of its group; says how it ended."""
        signal_group(child.pid, signal.SIGKILL)
        del self._living[child.pid]
        self._tell(f"- {child.pid}\n")
        child.follower.join(_LOG_END_S)
        return ended_text(child.process.wait())

    def watch(self) -> None:
        """Start the watchdog again where somebody killed it."""
        if self._watchdog.poll() is not None:
            self._close()
            self._watchdog = self._start_watchdog()

    def dismiss(self) -> None:
        """End the watchdog in order; it clears what is still alive, which after an orderly stop is nothing."""
        if not self._living:
            self._tell("bye\n")
        self._close()
        self._watchdog.wait()

    def _start_watchdog(self) -> subprocess.Popen[bytes]:
        end, self._pipe = os.pipe()
        watchdog = subprocess.Popen(
            [*_program("watchdog"), str(GRACE_S)],
            stdin=end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=self._environment,
            start_new_session=True,
            pass_fds=() if self._lock is None else (self._lock,),
        )
        os.close(end)
        for pid, service in self._living.items():
            self._tell(_begun(pid, service))
        return watchdog

    def _tell(self, line: str) -> None:
        # A watchdog that is gone is noticed by ``watch``, which tells the next one everything.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, line.encode())

    def _close(self) -> None:
        os.close(self._pipe)


def ended_text(status: int) -> str:
    """How a process ended, in words."""
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def signal_group(pid: int, number: int) -> None:
    """Signal every member of a process group, where one is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _program(name: str) -> list[str]:
    """One of the standard-library programs beside this file; isolated, it starts in 20 ms."""
    return [sys.executable, "-I", "-S", str(_PROGRAMS / f"{name}.py")]


def _launch_arguments(service: Service) -> list[str]:
    user = ("-", "-") if service.run_as is None else (str(service.run_as.uid), str(service.run_as.gid))
    return [str(os.getpid()), str(int(service.orphan_signal)), *user, "--", *service.command]


def _begun(pid: int, service: Service) -> str:
    return f"+ {pid} {int(service.orphan_signal)}\n"
