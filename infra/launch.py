"""Becomes a process of the platform: ties itself to its supervisor's life, drops to another user, executes.

Run as ``python -I -S launch.py <supervisor pid> <orphan signal> <uid|-> <gid|-> -- <command…>``, with the
standard library only. Being a program, and not code run between fork and exec, it is safe beside the
supervisor's threads. Where the system has no parent-death signal, the watchdog alone clears orphans.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_EXECUTE = 127


def main(arguments: list[str]) -> None:
    supervisor, orphan_signal, uid, gid, _, *command = arguments
    if uid != "-":
        become_user(int(uid), int(gid))
    # After the change of user, which clears it; execve keeps it.
    die_with_parent(int(orphan_signal))
    if os.getppid() != int(supervisor):
        sys.exit(_CANNOT_EXECUTE)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is the supervisor's own list
    except OSError as error:
        sys.stderr.write(f"cannot execute {command[0]}: {error.strerror}\n")
        sys.exit(_CANNOT_EXECUTE)


def become_user(uid: int, gid: int) -> None:
    """Give up this process's user and groups for good."""
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)


def die_with_parent(orphan_signal: int) -> None:
    """Have the kernel send the signal when the thread that started this process ends (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


if __name__ == "__main__":
    main(sys.argv[1:])
