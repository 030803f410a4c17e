"""The log file of each process, rotated by size, filled from the process's output by a thread each.

Reading never stops: a process is never blocked by its own log. Where the disk is full the bytes are dropped,
and the log says how many as soon as it can.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path
from typing import IO

LIMIT_BYTES = 10 * 1024 * 1024
KEPT = 3
_CHUNK = 64 * 1024
_TAIL = 8 * 1024


class RotatingLog:
    """``<name>.log``, and ``.1`` to ``.3`` for what came before; the last lines are kept at hand."""

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = path
        self._limit = limit_bytes
        self._tail = b""
        self._lost = 0
        self._lock = threading.Lock()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open(path)

    def write(self, output: bytes) -> None:
        """Append the bytes, in a new file where the present one is full."""
        with self._lock:
            self._tail = (self._tail + output)[-_TAIL:]
            try:
                self._append(output)
            except OSError:
                self._lost += len(output)

    def last_lines(self, count: int) -> list[str]:
        with self._lock:
            return self._tail.decode(errors="replace").splitlines()[-count:]

    def forget(self) -> None:
        """Begin the last lines anew, so that a process is not blamed with its predecessor's."""
        with self._lock:
            self._tail = b""

    def close(self) -> None:
        with self._lock:
            os.close(self._descriptor)

    def _append(self, output: bytes) -> None:
        if self._size and self._size + len(output) > self._limit:
            self._rotate()
        if self._lost:
            self._write(f"(here {self._lost} bytes were lost: the log could not be written)\n".encode())
            self._lost = 0
        self._write(output)

    def _write(self, output: bytes) -> None:
        while output:
            written = os.write(self._descriptor, output)
            self._size += written
            output = output[written:]

    def _rotate(self) -> None:
        full, draft = self._descriptor, self.path.with_suffix(".new")
        self._open(draft)
        os.close(full)
        for number in range(KEPT, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number - 1).replace(self._numbered(number))
        draft.replace(self.path)

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")

    def _open(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size


def follow(process: subprocess.Popen[bytes], log: RotatingLog) -> threading.Thread:
    """Move a process's output into its log until its end, in a thread, which is returned."""
    thread = threading.Thread(target=_follow, args=(process.stdout, log), name=f"log of {log.path.stem}", daemon=True)
    thread.start()
    return thread


def _follow(output: IO[bytes], log: RotatingLog) -> None:
    with output:
        while chunk := os.read(output.fileno(), _CHUNK):
            log.write(chunk)
