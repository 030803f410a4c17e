"""What is said of the platform's processes: a notice for each thing that happens, a snapshot of how all stand.

The snapshot stands in ``<home>/processes.json`` and is replaced as a whole, so that a reader never sees half.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

import psutil
from pydantic import BaseModel, ConfigDict

from civicbus.errors import ConfigurationError


class Event(StrEnum):
    """What happened to a process or a step of the start."""

    STARTED = "started"
    PROGRESS = "progress"
    READY = "ready"
    NOT_ANSWERING = "not answering"
    DIED = "died"
    STOPPING = "stopping"
    KILLED = "killed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that happened, for the log and for whoever looks on."""

    process: str
    event: Event
    detail: str = ""
    seconds: float | None = None


Tell = Callable[[Notice], None]


def unheard(_: Notice) -> None:
    """For who does not listen; the log has it."""


def notice_line(notice: Notice, at: datetime) -> str:
    """The notice as a line of the supervisor's log."""
    fields = {
        "timestamp": at.isoformat(),
        "event": notice.event,
        "process": notice.process,
        "detail": notice.detail,
        "seconds": notice.seconds,
    }
    return json.dumps({name: value for name, value in fields.items() if value not in ("", None)}, ensure_ascii=False)


def notice_of(line: bytes) -> Notice:
    """The notice that stands in a line of the supervisor's log."""
    fields = json.loads(line)
    return Notice(
        process=fields["process"],
        event=Event(fields["event"]),
        detail=fields.get("detail", ""),
        seconds=fields.get("seconds"),
    )


class State(StrEnum):
    """How a process stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    NOT_ANSWERING = "not answering"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Phase(StrEnum):
    """How the platform stands."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class ProcessStatus(BaseModel):
    """One process as its supervisor sees it. ``since`` is when the present state began, in Unix seconds."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: State
    detail: str
    pid: int | None
    since: float
    restarts: int
    log: Path


class Snapshot(BaseModel):
    """Every process of one home."""

    model_config = ConfigDict(frozen=True)

    supervisor: int
    phase: Phase
    parts_only: bool
    started: float
    processes: tuple[ProcessStatus, ...]

    @property
    def healthy(self) -> bool:
        return self.phase is Phase.RUNNING and all(process.state is State.READY for process in self.processes)

    @classmethod
    def load(cls, home: Path) -> Self:
        """Raises ConfigurationError where no platform has run."""
        try:
            return cls.model_validate_json(snapshot_file(home).read_bytes())
        except FileNotFoundError:
            raise ConfigurationError(f"no platform has run in {home}", mend="start one with `civicbus up`") from None

    def save(self, home: Path) -> None:
        replace_text(snapshot_file(home), self.model_dump_json())


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def snapshot_file(home: Path) -> Path:
    return home / "processes.json"


def replace_text(path: Path, text: str) -> None:
    """Put a whole new text in the file's place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.replace(path)
