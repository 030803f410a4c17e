"""Which dropped files are whole: the same at two looks, and open for writing in no process that can be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from civicbus.producers.folder.desk import Seen
from civicbus.producers.folder.filenames import date_in, is_passed_over

_READS_ONLY = "r"


def settled(before: Mapping[str, Seen], now: Mapping[str, Seen]) -> tuple[str, ...]:
    """The files that did not change between two looks, in the order in which they are worked on. Pure.

    A file with an earlier date in its name comes first, then the one that was written earlier.
    """
    same = [name for name, seen in now.items() if before.get(name) == seen and not is_passed_over(name)]
    return tuple(sorted(same, key=lambda name: (date_in(name), now[name].changed_ns, name)))


def being_written(files: Iterable[Path]) -> frozenset[Path]:
    """Those of the files that a process has open for writing; only processes of the same user can be asked."""
    wanted = {str(file.resolve()): file for file in files}
    return frozenset(wanted[path] for path in _open_for_writing() if path in wanted) if wanted else frozenset()


def _open_for_writing() -> Iterable[str]:
    for process in psutil.process_iter():
        try:
            yield from (file.path for file in process.open_files() if getattr(file, "mode", _READS_ONLY) != _READS_ONLY)
        except (psutil.Error, OSError):
            continue
