"""Starts a platform as a process of its own, and ends one.

Promise: ``start_platform`` returns when everything answers and is provisioned, or raises what was in the way
with nothing left running. A platform that is not detached ends with the process that started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.infra.lock import CLEARING_S, holder
from civicbus.infra.processes import Phase, ProcessStatus, Snapshot, Tell, is_alive, notice_of, snapshot_file, unheard
from civicbus.infra.run import WRONG_CONFIGURATION, Order
from civicbus.settings import Endpoints, Settings, logs_folder

START_WITHIN_S = 900.0
STOP_WITHIN_S = 120.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPlatform:
    """A platform that this process started."""

    home: Path
    process: subprocess.Popen[bytes]
    leash: IO[bytes]

    @property
    def running(self) -> bool:
        """Whether everything has started."""
        if not snapshot_file(self.home).exists():
            return False
        snapshot = Snapshot.load(self.home)
        return snapshot.supervisor == self.process.pid and snapshot.phase is Phase.RUNNING

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.load(self.home)

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot.load(self.home)

    def stop(self) -> None:
        """Stop in order; returns when nothing runs any more."""
        self.process.terminate()
        self._end(STOP_WITHIN_S)

    def kill(self) -> None:
        """Kill the supervisor; returns when the watchdog has cleared up after it."""
        self.process.kill()
        self._end(CLEARING_S)

    def _end(self, limit_s: float) -> None:
        self.process.wait(limit_s)
        self.leash.close()
        if not _is_released_within(self.home, self.process.pid, CLEARING_S):
            raise Unavailable(f"the platform on {self.home} does not end", mend="run `civicbus doctor`")


def start_platform(
    settings: Settings, *, apps: bool = True, detached: bool = False, listen: Tell = unheard
) -> RunningPlatform:
    """Start a platform and wait until it is ready. Without ``apps``: broker, registry and database only.

    Raises ConfigurationError or Unavailable with what the platform said when it could not start.
    """
    home = settings.home.resolve()
    order = Order(settings=settings.model_copy(update={"home": home}), apps=apps, tied=not detached)
    news = _News(logs_folder(home) / "supervisor.log")
    with tempfile.TemporaryFile() as complaints:
        platform = _spawn(order, complaints)
        try:
            _wait_until_ready(platform, news, listen, complaints)
        except BaseException:
            platform.kill()
            raise
    return platform


def stop_platform(home: Path) -> bool:
    """Stop the platform that runs on this home; False where none does. Returns when nothing of it is left.

    One that does not stop in time is killed, and its watchdog clears up; raises Unavailable if even then a
    process remains.
    """
    supervisor = holder(home)
    if supervisor is None:
        return False
    members = _members(home, supervisor)
    with suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGTERM)
    if not _is_released_within(home, supervisor, STOP_WITHIN_S):
        with suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGKILL)
        _is_released_within(home, supervisor, CLEARING_S)
    if left := _left_after(members, CLEARING_S):
        pids = ", ".join(str(process.pid) for process in left)
        raise Unavailable(f"processes of the platform still run: {pids}", mend=f"end them with kill -9 {pids}")
    return True


def _spawn(order: Order, complaints: IO[bytes]) -> RunningPlatform:
    """A session of its own: Ctrl-C reaches whoever started it, who then stops it in order."""
    theirs, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "civicbus.infra.run"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        start_new_session=True,
    )
    os.close(theirs)
    leash = os.fdopen(ours, "wb", buffering=0)
    leash.write(order.model_dump_json().encode() + b"\n")
    if not order.tied:
        leash.close()
    return RunningPlatform(home=order.settings.home, process=process, leash=leash)


def _wait_until_ready(platform: RunningPlatform, news: _News, listen: Tell, complaints: IO[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while not platform.running:
        ended = platform.process.poll()
        news.pass_on(listen)
        if ended is not None:
            raise _start_failed(ended, complaints)
        if time.monotonic() > deadline:
            raise Unavailable(f"the platform on {platform.home} is not ready after {START_WITHIN_S:g} s")
        time.sleep(_LOOK_S)
    news.pass_on(listen)


def _start_failed(status: int, complaints: IO[bytes]) -> ConfigurationError | Unavailable:
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip() or "the platform was stopped before it was ready"
    return ConfigurationError(said) if status == WRONG_CONFIGURATION else Unavailable(said)


class _News:
    """What a log says of processes from now on."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = log.stat().st_size if log.exists() else 0

    def pass_on(self, listen: Tell) -> None:
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            listen(notice_of(line))


def _members(home: Path, supervisor: int) -> list[psutil.Process]:
    """Every process of the platform, with what they have started themselves."""
    found = []
    for pid in (supervisor, *(status.pid for status in _snapshot_processes(home) if status.pid is not None)):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def _left_after(processes: list[psutil.Process], limit_s: float) -> list[psutil.Process]:
    """Those that have not ended in time."""
    deadline = time.monotonic() + limit_s
    while left := [process for process in processes if process.is_running() and is_alive(process.pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_S)
    return left


def _snapshot_processes(home: Path) -> tuple[ProcessStatus, ...]:
    return Snapshot.load(home).processes if snapshot_file(home).exists() else ()


def _is_released_within(home: Path, supervisor: int, limit_s: float) -> bool:
    """Whether this supervisor and its watchdog let go of the home in time."""
    deadline = time.monotonic() + limit_s
    while holder(home) == supervisor:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True
