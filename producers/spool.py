"""The changes of one dataset that a program has published and the broker has not acknowledged, in an SQLite file.

Promise: what ``append`` has returned for is there after the death of the process or of the machine, in order, with
the event id and the sequence that it was given. While a spool is open no other process can open it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from civicbus.events import Headers
from civicbus.names import DatasetId
from civicbus.producers.held import HeldFile

VERSION = "spool 1"
_OVERHEAD_BYTES = 64
_BLOCK_BYTES = 8 * 2**20

_TABLES = """
CREATE TABLE IF NOT EXISTS pending (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    sequence TEXT,
    key BLOB,
    value BLOB,
    headers TEXT NOT NULL
);
"""
_INSERT = "INSERT INTO pending (event_id, sequence, key, value, headers) VALUES (?, ?, ?, ?, ?)"
_SELECT = "SELECT position, event_id, sequence, key, value, headers FROM pending ORDER BY position LIMIT ?"
_SUMS = """
SELECT count(*), coalesce(sum(coalesce(length(key), 0) + coalesce(length(value), 0) + length(headers)), 0),
       max(sequence)
FROM pending
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """One change as it goes to the broker."""

    event_id: str
    sequence: int | None
    key: bytes | None
    value: bytes | None
    headers: str

    @property
    def size(self) -> int:
        return _OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"") + len(self.headers)

    def kafka_headers(self) -> Headers:
        return [(name, value.encode()) for name, value in json.loads(self.headers)]


def headers_text(headers: Headers) -> str:
    """Headers as the spool keeps them; every header of a change is text."""
    return json.dumps([(name, value.decode() if isinstance(value, bytes) else value) for name, value in headers])


class Spool:
    """One dataset's spool, held by this process until it is closed. Not to be used by two threads at once."""

    def __init__(self, path: Path, dataset: DatasetId) -> None:
        """Open or make the file; raises ConfigurationError where another process holds it or it is no such spool."""
        self.path = path
        self._file = HeldFile(path, dataset, kind="spool", version=VERSION, tables=_TABLES)
        count, size, last = self._file.database.execute(_SUMS).fetchone()
        self.count = int(count)
        self.bytes = int(size) + self.count * _OVERHEAD_BYTES
        self.last_sequence = max(int(last or 0), int(self._file.about("last_sequence") or 0))

    def close(self) -> None:
        self._file.close()

    def schema_id(self, fingerprint: str) -> int | None:
        """The id under which the registry has this schema, if it was learned before."""
        known = self._file.about(f"schema {fingerprint}")
        return None if known is None else int(known)

    def learn_schema(self, fingerprint: str, schema_id: int) -> None:
        """Keep the registry's id of a schema for a start without the registry."""
        with self._file.transaction():
            self._file.put(f"schema {fingerprint}", schema_id)

    @property
    def epoch(self) -> int:
        """The epoch of the clock's sequences, as it was learned last."""
        return int(self._file.about("epoch") or 0)

    def learn_epoch(self, epoch: int) -> None:
        """Keep the epoch for a start without the broker."""
        with self._file.transaction():
            self._file.put("epoch", epoch)

    def append(self, change: Spooled) -> int:
        """Write a change down behind all others; returns its position."""
        sequence = None if change.sequence is None else f"{change.sequence:020}"
        with self._file.transaction():
            cursor = self._file.database.execute(
                _INSERT, (change.event_id, sequence, change.key, change.value, change.headers)
            )
        self.count += 1
        self.bytes += change.size
        self.last_sequence = max(self.last_sequence, change.sequence or 0)
        return int(cursor.lastrowid or 0)

    def first(self, limit: int) -> list[tuple[int, Spooled]]:
        """The first changes in their order, each with its position, up to the first that repeats a record's key.

        At least one where there is any, and beyond that no more than the memory should hold at once.

        A second version of a record is not sent before the first is settled: sent again after a kill, the first
        would be stale, and admission would park it.
        """
        found: list[tuple[int, Spooled]] = []
        keys: set[bytes] = set()
        left = _BLOCK_BYTES
        for position, event_id, sequence, key, value, headers in self._file.database.execute(_SELECT, (limit,)):
            if key in keys or left <= 0:
                break
            if key is not None:
                keys.add(key)
            number = None if sequence is None else int(sequence)
            change = Spooled(event_id=event_id, sequence=number, key=key, value=value, headers=headers)
            found.append((position, change))
            left -= change.size
        return found

    def settle(self, changes: Sequence[tuple[int, Spooled]]) -> None:
        """Forget changes that the broker has, or never takes.

        It is not worth a write to the disk of its own: where the machine's death undoes it, they are sent again, and
        admission drops them, or parks one as stale whose record has a newer version by then.
        """
        with self._file.following():
            self._file.database.executemany("DELETE FROM pending WHERE position = ?", _positions(changes))
            self._file.put("last_sequence", f"{self.last_sequence:020}")
        self.count -= len(changes)
        self.bytes -= sum(change.size for _, change in changes)


def _positions(changes: Iterable[tuple[int, Spooled]]) -> Iterable[tuple[int]]:
    return ((position,) for position, _ in changes)
