"""The folder process of one department: ``python -m civicbus.producers.folder --home FOLDER --department ID``.

It has that department's credentials and no others. It looks into the folder every second and works on one file
after the other; a broker or a disk that is down is waited for, and so is a catalogue that is not right, while
files of other datasets go on.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from civicbus.errors import AccessDenied, ConfigurationError, Unavailable
from civicbus.names import DatasetId, DepartmentId
from civicbus.observe import Health
from civicbus.producers.folder.desk import Desk, Job, Moved, Seen
from civicbus.producers.folder.looking import being_written, settled
from civicbus.producers.folder.metrics import WAITING
from civicbus.producers.folder.place import Place, places_folder, read_place
from civicbus.producers.folder.work import Bench, dataset_named, finish_job
from civicbus.serving import Work, serve

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
_LONGEST_WAIT_S = 30.0
_WAITED_OUT = (Unavailable, AccessDenied, ConfigurationError)


@dataclass(slots=True, kw_only=True)
class FolderProcess:
    """One department's process: what it saw at its last look, and what it found begun when it started."""

    home: Path
    department: DepartmentId
    seen: dict[str, Seen] = field(default_factory=dict)
    resumed: Set[Path] | None = None

    @property
    def name(self) -> str:
        return f"folder-{self.department}"

    def run(self, stop: threading.Event, health: Health) -> None:
        """Look and work until ``stop``; after faults, longer and longer between two looks.

        What one department waits for is told, but leaves the process ready: with one that is not, the supervisor
        would not let the platform start.
        """
        failures = 0
        while not stop.is_set():
            fault = self.look(stop)
            failures = 0 if fault is None else failures + 1
            health.up("running" if fault is None else f"waits: {fault}")
            stop.wait(min(LOOK_EVERY_S * 2**failures, _LONGEST_WAIT_S))

    def look(self, stop: threading.Event) -> str | None:
        """Take up what is whole and do what is taken up; returns the first fault that has to be waited out."""
        try:
            place = read_place(self.home, self.department)
            desk = Desk(place.folder)
            desk.prepare()
            if self.resumed is None:
                self.resumed = frozenset(job.folder for job in desk.jobs())
            self._take(place, desk)
            jobs = desk.jobs()
            WAITING.set(len(jobs))
            return self._work(place, jobs, stop) if jobs else None
        except _WAITED_OUT as fault:
            log.warning("folder_waits", fault=str(fault))
            return str(fault)

    def _take(self, place: Place, desk: Desk) -> None:
        before, self.seen = self.seen, desk.dropped()
        whole = settled(before, self.seen)
        busy = being_written(place.folder / name for name in whole)
        for name in whole:
            if place.folder / name not in busy:
                desk.take(name, datetime.now(UTC))

    def _work(self, place: Place, jobs: list[Job], stop: threading.Event) -> str | None:
        """Do the jobs in their order; where one of a dataset waits, the later ones of that dataset wait too."""
        bench = Bench(
            home=self.home,
            department=self.department,
            language=place.language,
            catalogue=place.load_catalogue(),
            stop=stop.is_set,
        )
        waiting: set[DatasetId] = set()
        first: str | None = None
        for job in jobs:
            dataset = dataset_named(bench, job)
            if stop.is_set() or (dataset is not None and dataset.id in waiting):
                continue
            try:
                done = finish_job(bench, job, resumed=job.folder in (self.resumed or ()))
            except Moved:
                done = False
            except _WAITED_OUT as fault:
                log.warning("file_waits", dataset=str(dataset and dataset.id), fault=str(fault))
                first, done = first or str(fault), False
            if done:
                WAITING.dec()
            elif dataset is not None:
                waiting.add(dataset.id)
        return first


@contextmanager
def _alone(home: Path, department: DepartmentId) -> Iterator[None]:
    """One process a department: another one waits here until this one ends."""
    places_folder(home).mkdir(parents=True, exist_ok=True)
    with (places_folder(home) / f"{department}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def folder_of(home: Path, department: DepartmentId) -> Work:
    """Watches the department's drop folder."""

    def work(stop: threading.Event, health: Health) -> None:
        with _alone(home, department):
            FolderProcess(home=home, department=department).run(stop, health)

    return work


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    serve("folder", "civicbus.producers.folder", "whose drop folder is watched", folder_of)


if __name__ == "__main__":
    main()
