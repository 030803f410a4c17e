"""The drop folder on disk. A file lies in one place at a time, and every move is one rename.

The steps of a file: it is dropped into the folder; ``take`` moves it into a folder of its own below ``working``;
its result is written beside it; ``finish`` moves that folder as a whole to ``done`` or ``refused``. Whatever is
killed when, the file is found in one of these places, and what stands in ``working`` is worked on again.
Links are moved like files and never followed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from civicbus.errors import Unavailable
from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.producers.folder.result import Arrival

WORKING = "working"
RESULTS = ("result.txt", "civicbus_result.txt")
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"(?P<stamp>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)_(?P<file>.+)", re.DOTALL)
_NAME_BYTES = 200
_NAME_END = 50
_DRAFT = ".draft"


class End(StrEnum):
    """Where a finished file lies."""

    DONE = "done"
    REFUSED = "refused"


OWN = (WORKING, *End)


@dataclass(frozen=True, slots=True)
class Seen:
    """A dropped file at one look; equal at two looks means that nobody wrote in between."""

    inode: int
    size: int
    changed_ns: int


class Moved(Exception):
    """Somebody took or changed the file in the meantime; it is looked at again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file that was taken up, in a folder of its own below ``working``."""

    folder: Path
    file: Path

    @property
    def arrival(self) -> Arrival:
        time = datetime.strptime(self.folder.name.partition("_")[0], _STAMP).replace(tzinfo=UTC)
        return Arrival(file=self.file.name, time=time)

    @property
    def _root(self) -> Path:
        return self.folder.parents[1]

    def beside(self, *names: str) -> str:
        """The first of these names that the dropped file has not itself."""
        return next(name for name in names if name != self.file.name)

    def content(self, limit_bytes: int) -> bytes:
        """All bytes of the file; raises FileRefused where it is none or too large, Moved where it is written to."""
        with _within(self._root), _opened(self.file) as file:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                raise FileRefused(Fault.NO_FILE)
            if before.st_size > limit_bytes:
                raise FileRefused(Fault.TOO_LARGE, limit=limit_bytes // 2**20)
            with os.fdopen(os.dup(file), "rb") as reader:
                content = reader.read(limit_bytes + 1)
            after = os.fstat(file)
            if _seen(before) != _seen(after) or len(content) != after.st_size:
                raise Moved
            return content

    def write(self, name: str, content: bytes) -> None:
        """Put a file beside the dropped one, whole or not at all, in the place of whatever has the name."""
        draft = self.folder / _DRAFT
        with _within(self._root):
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o660), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.folder / name)

    def finish(self, end: End) -> None:
        """Move the file and its results to where they stay."""
        with _within(self._root):
            self.folder.rename(self._root / end / self.folder.name)


class Desk:
    """One department's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make the folders inside; raises Unavailable where one is not there or is a link to another place."""
        with _within(self._folder):
            for name in OWN:
                inner = self._folder / name
                inner.mkdir(exist_ok=True)
                if not stat.S_ISDIR(inner.lstat().st_mode):
                    raise Unavailable(f"{inner} is a link to another place; remove it")

    def dropped(self) -> dict[str, Seen]:
        """What lies in the folder itself, but for folders."""
        found: dict[str, Seen] = {}
        with _within(self._folder), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if not entry.is_dir(follow_symlinks=False):
                        found[entry.name] = _seen(entry.stat(follow_symlinks=False))
        return found

    def take(self, name: str, now: datetime) -> None:
        """Take a file up; one that is gone by now is left to the next look."""
        kept = name if len(os.fsencode(name)) <= _NAME_BYTES else name[-_NAME_END:]
        folder = self._folder / WORKING / f"{now.astimezone(UTC).strftime(_STAMP)}_{kept}"
        with _within(self._folder):
            folder.mkdir()
            try:
                (self._folder / name).rename(folder / kept)
            except FileNotFoundError:
                folder.rmdir()

    def jobs(self) -> list[Job]:
        """What is taken up and not finished, oldest first."""
        with _within(self._folder):
            return [job for folder in sorted((self._folder / WORKING).iterdir()) for job in _jobs_in(folder)]

    def count(self, end: End) -> int:
        with _within(self._folder):
            return sum(1 for _ in (self._folder / end).iterdir())


def _jobs_in(folder: Path) -> Iterator[Job]:
    """The job of a folder; one that a kill left without its file is removed."""
    name = _NAME.fullmatch(folder.name)
    if name is None or not stat.S_ISDIR(folder.lstat().st_mode):
        return
    file = folder / name["file"]
    if file.is_symlink() or file.exists():
        yield Job(folder=folder, file=file)
    elif not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of what lies here itself, not of what a link leads to, and without waiting for a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Moved from None
    except OSError:
        if path.is_symlink() or not path.is_file():
            raise FileRefused(Fault.NO_FILE) from None
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    """Faults of the disk are waited out; they name the drop folder and no file, whose name may be somebody's."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the drop folder {folder} does not answer as one: {error.strerror}") from None


def _seen(status: os.stat_result) -> Seen:
    return Seen(inode=status.st_ino, size=status.st_size, changed_ns=status.st_mtime_ns)
