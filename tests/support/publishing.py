"""A changes topic in memory, where admission's rules are applied as each change is read; and a process that dies.

A kill is an exception that no code of ours may catch: what was in memory is gone, the journal's file stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns

import polars as pl

from civicbus.producers.changes import Change
from civicbus.producers.journal import Journal
from civicbus.producers.table_source import Outcome, TableSource
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset

SCHEMA_ID = 7


class Killed(BaseException):
    """The process is no more."""


@dataclass
class MemoryTopic:
    """Everything that reached the topic, sent again or not, in order."""

    changes: list[Change] = field(default_factory=list)
    reach: Callable[[str], None] = lambda _: None
    id: str = "first"

    def topic_id(self) -> str:
        return self.id

    def sequence_now(self) -> int:
        return time_ns()

    def send(self, change: Change) -> None:
        self.reach("send")
        self.changes.append(change)

    def flush(self) -> None:
        self.reach("flush")

    @property
    def distinct(self) -> list[Change]:
        """Without what was sent again as it was."""
        return list({change.event.id: change for change in self.changes}.values())

    def state(self) -> dict[bytes, bytes]:
        """The rows after admission has read the topic; a sequence that conflicts or is stale fails."""
        rows: dict[bytes, tuple[int, bytes | None]] = {}
        for change in self.changes:
            if change.refusal is None:
                assert change.key is not None
                assert change.event.sequence is not None
                before = rows.get(change.key, (-1, None))
                now = (change.event.sequence, change.value)
                assert now == before or now[0] > before[0], "a sequence is stale or conflicts"
                rows[change.key] = now
        return {key: value for key, (_, value) in rows.items() if value is not None}

    def rows(self, dataset: Dataset) -> dict[str, dict[str, object]]:
        codec = RowCodec(dataset.schema)
        return {key.decode(): codec.decode(unframe(value)[1]) for key, value in self.state().items()}


class DyingJournal(Journal):
    """A journal that says when it is about to write and when it has written."""

    reach: Callable[[str], None] = staticmethod(lambda _: None)

    def plan(self, changes, forget=()):
        self.reach("before plan")
        super().plan(changes, forget)
        self.reach("after plan")

    def settle(self, position):
        self.reach("before settle")
        settled = super().settle(position)
        self.reach("after settle")
        return settled


POINTS = ("before plan", "after plan", "send", "flush", "before settle", "after settle")


def dying_at(point: str, occurrence: int) -> Callable[[str], None]:
    """Kills the process when it comes to this point for the n-th time."""
    left = occurrence

    def reach(here: str) -> None:
        nonlocal left
        if here == point:
            left -= 1
            if left == 0:
                raise Killed

    return reach


def run(
    journal: Path,
    dataset: Dataset,
    topic: MemoryTopic,
    frame: pl.DataFrame,
    *,
    full: bool = True,
    reach: Callable[[str], None] = lambda _: None,
) -> Outcome | None:
    """One run of a table source as a process of its own; None where it was killed."""
    topic.reach = reach
    with DyingJournal(journal, dataset.id) as opened:
        opened.reach = reach
        try:
            return TableSource(dataset, SCHEMA_ID, opened, topic).publish(frame, full=full)
        except Killed:
            return None
