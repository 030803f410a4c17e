"""Room on the disk, asked for before a download or a format and named when it runs out; and private files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from civicbus.errors import ConfigurationError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_MB = 1_000_000


def require_room(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raises ConfigurationError with both figures where the folder's disk has less room than needed."""
    free = _free_bytes(folder)
    if free < needed_bytes:
        raise _full(folder, f"{purpose} need {_megabytes(needed_bytes)}, {_megabytes(free)} are free")


@contextmanager
def full_disk_named(folder: Path, purpose: str) -> Iterator[None]:
    """Turn the system's "no space left" into a ConfigurationError that names the folder and what was written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _full(folder, f"{purpose} did not fit, {_megabytes(_free_bytes(folder))} are free") from None


def reports_full_disk(output: str) -> bool:
    """Whether a program's output says that it found the disk full."""
    return "No space left on device" in output or "Disk quota exceeded" in output


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, from its first moment on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _full(folder: Path, detail: str) -> ConfigurationError:
    return ConfigurationError(
        f"the disk of {folder} is full: {detail}",
        mend="make room, or choose other folders with CIVICBUS_HOME and CIVICBUS_CACHE",
    )


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _megabytes(count: int) -> str:
    return f"{count / _MB:,.0f} MB"
