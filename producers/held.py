"""An SQLite file of one dataset that one process holds until it is closed: what journals and spools stand in.

What a transaction has written survives the death of the process and of the machine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.names import DatasetId

_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_ABOUT = "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"


def take(database: sqlite3.Connection, tables: str) -> None:
    """Hold an open file for this process alone, with these tables and one of facts; raises what SQLite does."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(f"BEGIN EXCLUSIVE; {_ABOUT} {tables} COMMIT;")


def fact(database: sqlite3.Connection, name: str) -> str | int | None:
    """What the file says about itself under this name."""
    row: tuple[str | int] | None = database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


@contextmanager
def transaction(database: sqlite3.Connection, what: str) -> Iterator[None]:
    """All of a block, or nothing of it; raises Unavailable, naming ``what``, where it cannot be written."""
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{what} cannot be written: {error}") from None
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


class HeldFile:
    """The file, its facts about itself, and its transactions. Not to be used by two threads at once."""

    def __init__(self, path: Path, dataset: DatasetId, *, kind: str, version: str, tables: str) -> None:
        """Open or make it; raises ConfigurationError where another process holds it or it is of another kind."""
        self.path = path
        self._dataset = dataset
        self._kind = kind
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self.database = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigurationError(f"{path} cannot be opened: {error}", mend="name another place") from None
        try:
            self._take(tables)
            self._belongs("version", version)
            self._belongs("dataset", str(dataset))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.database.close()

    def about(self, name: str) -> str | int | None:
        """A fact that was put before."""
        return fact(self.database, name)

    def put(self, name: str, value: str | int) -> None:
        """Write a fact down."""
        self.database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of a block, or nothing of it; raises Unavailable where it cannot be written."""
        with transaction(self.database, f"the {self._kind} of {self._dataset}"):
            yield

    @contextmanager
    def following(self) -> Iterator[None]:
        """A transaction that reaches the disk with the next one: the death of the machine may undo it, no other."""
        self.database.execute("PRAGMA synchronous = NORMAL")
        try:
            with self.transaction():
                yield
        finally:
            self.database.execute("PRAGMA synchronous = FULL")

    def _take(self, tables: str) -> None:
        try:
            take(self.database, tables)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _HELD:
                raise ConfigurationError(
                    f"{self.path} is no {self._kind}: {error}", mend="name another place"
                ) from None
            raise ConfigurationError(
                f"another run publishes {self._dataset} with the {self._kind} {self.path}",
                mend="let it end, then run this again",
            ) from None

    def _belongs(self, name: str, wanted: str) -> None:
        self.database.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (name, wanted))
        found = self.about(name)
        if found != wanted:
            raise ConfigurationError(
                f"{self.path} is a {self._kind} of {name} {found}, not {wanted}",
                mend=f"use one {self._kind} for each dataset",
            )
