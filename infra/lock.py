"""One platform a home: a lock that the kernel gives back when its last holder ends, so no stale file is in the way.

The supervisor and its watchdog hold it together. While the watchdog still clears up after a killed supervisor,
a new one waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.infra.processes import is_alive

CLEARING_S = 20.0
_DYING_S = 1.0  # a supervisor that was just killed may still look alive
_LOOK_S = 0.05


@contextlib.contextmanager
def home_lock(home: Path) -> Iterator[int]:
    """Hold the home; gives the lock's descriptor. Raises ConfigurationError where a platform runs there."""
    descriptor = _open(home)
    try:
        _take(descriptor, home)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def holder(home: Path) -> int | None:
    """The process id of the supervisor that runs on this home, or was killed and is being cleared up after."""
    if not lock_file(home).exists():
        return None
    descriptor = _open(home)
    try:
        return None if _taken(descriptor) else _written_pid(descriptor)
    finally:
        os.close(descriptor)


def lock_file(home: Path) -> Path:
    return home / "supervisor.lock"


def _open(home: Path) -> int:
    home.mkdir(parents=True, exist_ok=True)
    return os.open(lock_file(home), os.O_RDWR | os.O_CREAT, 0o600)


def _take(descriptor: int, home: Path) -> None:
    began = time.monotonic()
    while not _taken(descriptor):
        waited_s, pid = time.monotonic() - began, _written_pid(descriptor)
        if waited_s > _DYING_S and pid is not None and is_alive(pid):
            raise ConfigurationError(
                f"a platform already runs on {home}, pid {pid}",
                mend="see it with `civicbus status`, or stop it with `civicbus down`",
            )
        if waited_s > CLEARING_S:
            raise Unavailable(f"the processes of a killed platform on {home} do not end", mend="run `civicbus doctor`")
        time.sleep(_LOOK_S)


def _taken(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _written_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else None
