"""Clears what a supervisor leaves behind when it is killed: holds the read end of its pipe and acts on the end.

Run as ``python -I -S watchdog.py <grace seconds>`` with the pipe as standard input, with the standard library
only. Lines on the pipe: ``+ <pid> <orphan signal>`` for a process group that began, ``- <pid>`` for one that
is over, ``bye`` for an orderly end. When the pipe closes without ``bye``, each group gets its signal, and
SIGKILL after the grace. A process id that was given to somebody else since is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

_TICK_S = 0.05
_KILLED_S = 2.0  # what the kernel may need to end a process after SIGKILL
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


@dataclass(frozen=True)
class Group:
    """A process group by its leader, and when the leader began (where the system tells)."""

    pid: int
    orphan_signal: int
    began: str | None

    def kill(self, number: int) -> None:
        if self.exists():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def exists(self) -> bool:
        """Whether a living member of the group is left, as far as it is still the same group."""
        leader = stat_of(self.pid)
        if leader is not None and leader.began != self.began:
            return False
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):  # macOS gives the second for a group of zombies
            return False
        return not all_zombies(self.pid)


def main(arguments: list[str]) -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    orphans = listen(sys.stdin)
    for group in orphans:
        group.kill(group.orphan_signal)
    wait_for_end(orphans, float(arguments[0]))
    for group in orphans:
        group.kill(signal.SIGKILL)
    wait_for_end(orphans, _KILLED_S)


def wait_for_end(groups: list[Group], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while any(group.exists() for group in groups) and time.monotonic() < deadline:
        time.sleep(_TICK_S)


def listen(lines: Iterable[str]) -> list[Group]:
    """The groups that were left when the pipe closed; none after ``bye``."""
    groups: dict[int, Group] = {}
    for line in lines:
        match line.split():
            case ["+", pid, orphan_signal]:
                stat = stat_of(int(pid))
                groups[int(pid)] = Group(int(pid), int(orphan_signal), stat.began if stat else None)
            case ["-", pid]:
                groups.pop(int(pid), None)
            case ["bye"]:
                return []
    return list(groups.values())


@dataclass(frozen=True)
class Stat:
    """What the kernel tells of a process; ``began`` in its ticks since the machine started."""

    state: str
    group: int
    began: str


def stat_of(pid: int) -> Stat | None:
    """None where there is no such process, or no /proc to tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - quick to start
            # The command's name stands in brackets and may hold spaces.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return Stat(fields[0], int(fields[2]), fields[19])


def all_zombies(group: int) -> bool:
    """Whether only ended processes that nobody has waited for are left of the group; where /proc tells."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112 - quick to start
        return False
    stats = [stat_of(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - quick to start
    return all(stat.state == "Z" for stat in stats if stat is not None and stat.group == group)


if __name__ == "__main__":
    main(sys.argv[1:])
