"""What of a captured table is published, and how far its captured events are read; one SQLite file a dataset.

Promise: ``settle`` writes positions and keys in one transaction. What a process that is killed had not settled
is read and sent again as it was, so that admission drops it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId

_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS standing (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    topic TEXT NOT NULL,
    position INTEGER NOT NULL,
    run TEXT NOT NULL,
    lsn INTEGER NOT NULL,
    place INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS keys (
    key BLOB PRIMARY KEY,
    generation INTEGER NOT NULL,
    lsn INTEGER NOT NULL,
    stands INTEGER NOT NULL
) WITHOUT ROWID;
"""
_STAND = "INSERT OR REPLACE INTO standing VALUES (1, ?, ?, ?, ?, ?, ?, ?)"
_LAST = "SELECT key, generation, lsn, stands FROM keys"
_KEEP = "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)"
_ASKED_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a capture stands.

    ``generation``: the snapshot that is taken or followed, ``complete`` once all of it was published. ``topic``
    and ``position``: what is read next, and of which topic. ``run``, ``lsn``, ``place``: the last event's
    connector and log position, and how many changes were made from that position.
    """

    generation: int = 0
    complete: bool = False
    topic: str = ""
    position: int = 0
    run: str = ""
    lsn: int = 0
    place: int = 0


class Kept(NamedTuple):
    """The last change of a key; ``stands`` where it was no deletion."""

    key: bytes
    generation: int
    lsn: int
    stands: bool


def journal_path(home: Path, dataset: DatasetId) -> Path:
    return home / "sources" / f"{dataset}.capture.sqlite"


def begin_journal(path: Path, topic: str) -> bool:
    """Have a journal for this topic, by the broker's id for it; returns whether it was made new.

    One of another topic is of a platform that is no more, or was wiped: what it knows was published there.
    """
    known = path.exists()
    with Journal(path) as journal:
        if journal.standing.topic == topic:
            return False
    if known:
        path.unlink()
    with Journal(path) as journal:
        journal.settle(Standing(topic=topic))
    return True


def require_same_topic(journal: Journal, topic: str, dataset: DatasetId) -> None:
    """Raises ConfigurationError where the journal is lost, or tells of another topic than this."""
    if journal.standing.topic != topic:
        raise ConfigurationError(
            f"the journal of the capture of {dataset} is gone, or the topic was made anew",
            mend=f"run `civicbus capture add {dataset}` again",
        )


class Journal:
    """Close it, or use ``with``."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; raises ConfigurationError where it cannot be."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"{path} cannot be used: {error}", mend="remove it, and the table is captured from its start"
            ) from None
        self.standing = self._standing()

    def kept(self, key: bytes) -> Kept | None:
        """The last change of this key."""
        row = self._database.execute(f"{_LAST} WHERE key = ?", (key,)).fetchone()
        return None if row is None else Kept(*row)

    def recall(self, keys: Iterable[bytes]) -> dict[bytes, Kept | None]:
        """The last change of each of these keys, None where there is none; for many at once."""
        found: dict[bytes, Kept | None] = dict.fromkeys(keys)
        asked = [*found]
        for start in range(0, len(asked), _ASKED_AT_ONCE):
            some = asked[start : start + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._database.execute(f"{_LAST} WHERE key IN ({marks})", some)
            found |= {row[0]: Kept(*row) for row in rows}
        return found

    def standing_before(self, generation: int, lsn: int) -> Iterator[bytes]:
        """The keys that stand by a change before this place."""
        found = self._database.execute(
            "SELECT key FROM keys WHERE stands AND (generation, lsn) < (?, ?) ORDER BY key", (generation, lsn)
        )
        return (key for (key,) in found.fetchall())

    def settle(self, standing: Standing, kept: Iterable[Kept] = ()) -> None:
        """Write down how the capture stands now, with the keys whose changes the broker has."""
        values = (standing.generation, standing.complete, standing.topic, standing.position)
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute(_STAND, (*values, standing.run, standing.lsn, standing.place))
            self._database.executemany(_KEEP, kept)
        self.standing = standing

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _standing(self) -> Standing:
        row = self._database.execute(
            "SELECT generation, complete, topic, position, run, lsn, place FROM standing"
        ).fetchone()
        if row is None:
            return Standing()
        generation, complete, topic, position, run, lsn, place = row
        return Standing(
            generation=generation,
            complete=bool(complete),
            topic=topic,
            position=position,
            run=run,
            lsn=lsn,
            place=place,
        )
