"""What a table source has published and what it is about to publish, in one SQLite file a dataset.

The steps, each one transaction: ``plan`` writes every change of a run with its event id, sequence and bytes;
the changes are sent; ``settle`` moves those that the broker has acknowledged into the published state. A run
that is killed in between leaves pending changes, which the next run sends again as they are, so that admission
drops what it has already. While a journal is open no other run can open it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import polars as pl

from civicbus.events import SEQUENCE_LIMIT, ChangeEvent, deleted, parse_time, time_text, upserted
from civicbus.names import DatasetId, source_of
from civicbus.producers.changes import Change, Refusal
from civicbus.producers.difference import HASH, KEY
from civicbus.producers.held import HeldFile
from civicbus.reasons import Reason

VERSION = "1"
PUBLISHED = {KEY: pl.Binary, HASH: pl.Binary}
_READ_ROWS = 50_000

_TABLES = """
CREATE TABLE IF NOT EXISTS published (key BLOB PRIMARY KEY, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reported (hash BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (
    position INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    time TEXT NOT NULL,
    sequence INTEGER,
    key BLOB,
    value BLOB,
    reason TEXT,
    field TEXT,
    hash BLOB
);
"""
_INSERT = """
INSERT INTO pending (event_id, time, sequence, key, value, reason, field, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_SELECT = """
SELECT position, event_id, time, sequence, key, value, reason, field FROM pending ORDER BY position LIMIT ?
"""
_LAST = "SELECT sequence FROM pending WHERE sequence IS NOT NULL ORDER BY position DESC LIMIT 1"
_SETTLE = (
    """
DELETE FROM published
WHERE key IN (SELECT key FROM pending WHERE position <= ? AND value IS NULL)
""",
    """
INSERT OR REPLACE INTO published
SELECT key, hash FROM pending WHERE position <= ? AND value IS NOT NULL AND reason IS NULL
""",
    """
INSERT OR REPLACE INTO reported
SELECT hash FROM pending WHERE position <= ? AND reason IS NOT NULL
""",
    "DELETE FROM pending WHERE position <= ?",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A change, and the hash of its row: of an upsert's bytes or a report's; a deletion has none."""

    change: Change
    row_hash: bytes | None = None


def journal_path(home: Path, dataset: DatasetId) -> Path:
    """Where a dataset's journal stands unless another place is given."""
    return home / "sources" / f"{dataset}.sqlite"


class Journal:
    """One dataset's journal, held by this process until it is closed."""

    def __init__(self, path: Path, dataset: DatasetId) -> None:
        """Open or make the file; raises ConfigurationError where another run holds it or it is no such journal."""
        self._dataset = dataset
        self._file = HeldFile(path, dataset, kind="journal", version=VERSION, tables=_TABLES)
        self._database = self._file.database

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def belongs_to(self, topic_id: str) -> bool:
        """Whether this journal tells of the topic; one of a topic that is gone is emptied, but for its sequence."""
        known = self._file.about("topic")
        if known == topic_id:
            return True
        with self._file.transaction():
            for table in ("published", "reported", "pending"):
                self._database.execute(f"DELETE FROM {table}")
            self._file.put("topic", topic_id)
        return known is None

    def published(self) -> pl.DataFrame:
        """The key and the hash of every row that the broker has."""
        cursor = self._database.execute("SELECT key, hash FROM published")
        return pl.concat([pl.DataFrame(schema=PUBLISHED), *_frames(cursor)])

    def reported(self) -> frozenset[bytes]:
        """The hashes of the rows that were reported as unsendable."""
        return frozenset(row_hash for (row_hash,) in self._database.execute("SELECT hash FROM reported"))

    def last_sequence(self) -> int:
        """The highest sequence that any run has planned; 0 before the first."""
        return int(self._file.about("last_sequence") or 0)

    def plan(self, changes: Iterable[Planned], forget: Iterable[bytes] = ()) -> None:
        """Write a run's changes, and forget reported rows that are gone from the source."""
        with self._file.transaction():
            self._database.executemany("DELETE FROM reported WHERE hash = ?", ((row_hash,) for row_hash in forget))
            self._database.executemany(_INSERT, map(_columns, changes))
            last = self._database.execute(_LAST).fetchone()
            if last is not None:
                self._file.put("last_sequence", str(_unsigned(last[0])))

    def waiting(self) -> int:
        """How many planned changes are not settled."""
        (count,) = self._database.execute("SELECT count(*) FROM pending").fetchone()
        return int(count)

    def pending(self, limit: int) -> Iterator[tuple[int, Change]]:
        """The first planned changes in their order, each with its position."""
        for position, event_id, time, sequence, key, value, reason, field in self._database.execute(_SELECT, (limit,)):
            event = ChangeEvent(
                id=event_id,
                source=source_of(self._dataset.department),
                type=deleted(self._dataset) if value is None else upserted(self._dataset),
                time=parse_time(time),
                sequence=None if sequence is None else _unsigned(sequence),
            )
            refusal = None if reason is None else Refusal(reason=Reason(reason), field=field)
            yield position, Change(event=event, key=key, value=value, refusal=refusal)

    def settle(self, position: int) -> int:
        """Every change up to this position is acknowledged: published or reported, no longer pending. How many."""
        with self._file.transaction():
            for statement in _SETTLE:
                cursor = self._database.execute(statement, (position,))
        return cursor.rowcount


def _columns(planned: Planned) -> tuple[str | int | bytes | None, ...]:
    change = planned.change
    event = change.event
    reason, field = (None, None) if change.refusal is None else (change.refusal.reason.value, change.refusal.field)
    sequence = None if event.sequence is None else _signed(event.sequence)
    return event.id, time_text(event.time), sequence, change.key, change.value, reason, field, planned.row_hash


def _signed(sequence: int) -> int:
    """The integer of SQLite, which has a sign, with the same 64 bits."""
    return sequence if sequence < SEQUENCE_LIMIT // 2 else sequence - SEQUENCE_LIMIT


def _unsigned(stored: int) -> int:
    return stored % SEQUENCE_LIMIT


def _frames(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[pl.DataFrame]:
    while block := list(islice(rows, _READ_ROWS)):
        yield pl.DataFrame(block, schema=PUBLISHED, orient="row")
