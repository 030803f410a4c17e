"""What the ingress has taken, in one SQLite file: every event's receipt, its change, and what became of it.

The steps of a request, each one transaction: ``plan`` writes its changes with their sequences and bytes, before
anything is sent; ``acknowledge`` notes where the broker put them. An event that was planned and not acknowledged,
because the process was killed or the broker was away, is sent again as it was planned when its sender repeats it,
so that admission drops it where it has it. An event that was acknowledged is not sent again.
Promise: for ``REMEMBERED`` one event id never stands for two different changes.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NewType, Self

from civicbus.errors import ConfigurationError
from civicbus.events import ChangeEvent, deleted, parse_time, time_text, upserted
from civicbus.names import DatasetId, DepartmentId
from civicbus.producers.changes import Change, Refusal, next_sequence
from civicbus.producers.held import fact, take, transaction
from civicbus.producers.http.events import Asked
from civicbus.reasons import Reason
from civicbus.transport.outgoing import Position

ReceiptId = NewType("ReceiptId", str)

# As long as changes stay on their topic unless the catalogue says otherwise.
REMEMBERED = timedelta(days=7)
VERSION = "1"
_FORGET_ROWS = 20_000

_TABLES = """
CREATE TABLE IF NOT EXISTS receipts (
    number INTEGER PRIMARY KEY,
    receipt TEXT NOT NULL UNIQUE,
    dataset TEXT NOT NULL,
    digest BLOB NOT NULL,
    event_id TEXT NOT NULL,
    source TEXT NOT NULL,
    deletion INTEGER NOT NULL,
    time TEXT NOT NULL,
    sequence TEXT,
    traceparent TEXT,
    key BLOB,
    value BLOB,
    partition INTEGER,
    offset INTEGER,
    admitted INTEGER,
    made_s INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (
    receipt TEXT, partition INTEGER, offset INTEGER, reason TEXT NOT NULL, field TEXT,
    PRIMARY KEY (receipt, partition, offset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS read_to (
    dataset TEXT, partition INTEGER, offset INTEGER NOT NULL, PRIMARY KEY (dataset, partition)
) WITHOUT ROWID;
"""
_INSERT = """
INSERT INTO receipts
(receipt, dataset, digest, event_id, source, deletion, time, sequence, traceparent, key, value, made_s)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_KNOWN = "SELECT digest, offset, time, sequence, traceparent, key, value FROM receipts WHERE receipt = ?"
_ACKNOWLEDGE = """
UPDATE receipts SET partition = ?, offset = ?, key = NULL, value = NULL WHERE receipt = ? AND offset IS NULL
"""
_SHOW = """
SELECT dataset, event_id, partition, offset, admitted, reason, field
FROM receipts LEFT JOIN refused USING (receipt, partition, offset) WHERE receipt = ?
"""
# An event may have been sent twice, so a refusal belongs to a position, which may not be acknowledged yet.
_REFUSE = """
INSERT OR IGNORE INTO refused SELECT receipt, ?, ?, ?, ? FROM receipts WHERE receipt = ?
"""
# The oldest have the lowest numbers, so no more than these are looked at.
_FORGET = """
DELETE FROM receipts
WHERE number IN (SELECT number FROM (SELECT number, made_s FROM receipts ORDER BY number LIMIT ?) WHERE made_s < ?)
"""
_FORGET_REFUSED = """
DELETE FROM refused WHERE NOT EXISTS (SELECT 1 FROM receipts WHERE receipts.receipt = refused.receipt)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An asked change with the key and the value that it has on its topic."""

    asked: Asked
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The receipt of an event, and its change where the broker has not acknowledged it yet."""

    receipt: ReceiptId
    dataset: DatasetId
    change: Change | None


class Conflicting(Exception):
    """These events of the request have ids that stand for other changes; nothing was planned."""

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__(f"{len(positions)} event ids were used before")
        self.positions = tuple(positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a receipt stands for and what is known of it. ``position`` is None until the broker has the change."""

    receipt: ReceiptId
    dataset: DatasetId
    event_id: str
    position: Position | None
    admitted: bool
    refusal: Refusal | None


def receipt_of(department: DepartmentId, source: str, event_id: str) -> ReceiptId:
    """The receipt of an event: the same for every repetition, and nobody can tell the event from it."""
    text = f"{department}\x00{source}\x00{event_id}"
    return ReceiptId(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


class Receipts:
    """The file, held by this process until it is closed. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Open or make it; raises ConfigurationError where another ingress holds it or it is no such file."""
        self._path = folder / "receipts.sqlite"
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
            self._database = sqlite3.connect(self._path, isolation_level=None, timeout=2, check_same_thread=False)
            self._take()
        except (OSError, sqlite3.DatabaseError) as error:
            raise ConfigurationError(
                f"{self._path} cannot be opened: {error}", mend="let the other ingress of this home end"
            ) from None

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plan(self, changes: Sequence[Encoded], clocks: Mapping[DatasetId, int | None], now: datetime) -> list[Planned]:
        """Write down what is new; raises Conflicting, and writes nothing, where an id stands for another change.

        ``clocks``: for each dataset the sequence of this moment, None where it has no sequences.
        """
        with self._transaction():
            conflicting: list[int] = []
            planned: list[Planned] = []
            last = {name: int(self._about(_last_of(name)) or 0) for name in clocks}
            for position, change in enumerate(changes):
                asked = change.asked
                receipt = receipt_of(asked.dataset.department, asked.source, asked.event_id)
                known = self._database.execute(_KNOWN, (receipt,)).fetchone()
                if known is None:
                    sequence, clock = asked.sequence, clocks[asked.dataset]
                    if sequence is None and clock is not None:
                        sequence = last[asked.dataset] = next_sequence(last[asked.dataset], clock)
                    planned.append(self._new(receipt, change, sequence, now))
                elif known[0] != asked.digest():
                    conflicting.append(position)
                else:
                    planned.append(_repeated(receipt, asked, known))
            if conflicting:
                raise Conflicting(conflicting)
            rows = [(_last_of(name), str(number)) for name, number in last.items()]
            self._database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)
        return planned

    def belong_to(self, dataset: DatasetId, topic_id: str) -> None:
        """Forget what a dataset's topic held that was made anew since: nothing of it is there any more."""
        name = f"topic {dataset}"
        with self._transaction():
            if self._about(name) not in {None, topic_id}:
                self._database.execute("DELETE FROM receipts WHERE dataset = ?", (str(dataset),))
                self._database.execute("DELETE FROM read_to WHERE dataset = ?", (str(dataset),))
            self._database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, topic_id))

    def acknowledge(self, positions: Iterable[tuple[ReceiptId, Position]]) -> None:
        """The broker has these changes, there; their rows are kept no longer."""
        with self._transaction():
            self._database.executemany(_ACKNOWLEDGE, ((at.partition, at.offset, receipt) for receipt, at in positions))

    def show(self, receipt: ReceiptId) -> Shown | None:
        """What is known of a receipt; None where there is none of this name."""
        with self._lock:
            row = self._database.execute(_SHOW, (receipt,)).fetchone()
        if row is None:
            return None
        dataset, event_id, partition, offset, admitted, reason, field = row
        return Shown(
            receipt=receipt,
            dataset=DatasetId.parse(dataset),
            event_id=event_id,
            position=None if offset is None else Position(partition, offset),
            admitted=bool(admitted),
            refusal=None if reason is None else Refusal(reason=Reason(reason), field=field),
        )

    def read_to(self, dataset: DatasetId) -> dict[int, int]:
        """How far each partition of a dataset's quarantine was read."""
        with self._lock:
            rows = self._database.execute("SELECT partition, offset FROM read_to WHERE dataset = ?", (str(dataset),))
            return dict(rows.fetchall())

    def refuse(
        self,
        dataset: DatasetId,
        refused: Iterable[tuple[ReceiptId, Position, Refusal]],
        read_to: Mapping[int, int],
    ) -> None:
        """These changes were parked, and the dataset's quarantine was read so far."""
        with self._transaction():
            self._database.executemany(
                _REFUSE,
                ((at.partition, at.offset, why.reason.value, why.field, receipt) for receipt, at, why in refused),
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO read_to VALUES (?, ?, ?)",
                ((str(dataset), partition, offset) for partition, offset in read_to.items()),
            )

    def admit(self, receipt: ReceiptId) -> None:
        """Admission has decided on this change, and it was not parked."""
        with self._transaction():
            self._database.execute("UPDATE receipts SET admitted = 1 WHERE receipt = ?", (receipt,))

    def forget(self, now: datetime) -> int:
        """Forget some of what is older than REMEMBERED; returns how many."""
        with self._transaction():
            before = int((now - REMEMBERED).timestamp())
            forgotten = self._database.execute(_FORGET, (_FORGET_ROWS, before)).rowcount
            if forgotten:
                self._database.execute(_FORGET_REFUSED)
            return forgotten

    def _new(self, receipt: ReceiptId, change: Encoded, sequence: int | None, now: datetime) -> Planned:
        asked = change.asked
        event = _event(asked, asked.time or now, sequence, asked.traceparent)
        row = (
            *(receipt, str(asked.dataset), asked.digest(), event.id, event.source, asked.deletion),
            *(time_text(event.time), None if sequence is None else str(sequence), event.traceparent),
            *(change.key, change.value, int(now.timestamp())),
        )
        self._database.execute(_INSERT, row)
        ready = Change(event=event, key=change.key, value=change.value)
        return Planned(receipt=receipt, dataset=asked.dataset, change=ready)

    def _take(self) -> None:
        take(self._database, _TABLES)
        self._database.execute("INSERT OR IGNORE INTO about VALUES ('version', ?)", (VERSION,))
        if (found := self._about("version")) != VERSION:
            raise ConfigurationError(f"{self._path} has version {found}, not {VERSION}", mend="remove it")

    def _about(self, name: str) -> str | int | None:
        return fact(self._database, name)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self._database, str(self._path)):
            yield


def _repeated(receipt: ReceiptId, asked: Asked, known: tuple[object, ...]) -> Planned:
    """An event that was planned before, with its change as it was planned, unless the broker has it."""
    _, offset, time, sequence, traceparent, key, value = known
    if offset is not None:
        return Planned(receipt=receipt, dataset=asked.dataset, change=None)
    event = _event(
        asked,
        parse_time(str(time)),
        None if sequence is None else int(str(sequence)),
        None if traceparent is None else str(traceparent),
    )
    change = Change(event=event, key=_bytes(key), value=_bytes(value))
    return Planned(receipt=receipt, dataset=asked.dataset, change=change)


def _last_of(dataset: DatasetId) -> str:
    return f"last_sequence {dataset}"


def _event(asked: Asked, time: datetime, sequence: int | None, traceparent: str | None) -> ChangeEvent:
    return ChangeEvent(
        id=asked.event_id,
        source=asked.source,
        type=deleted(asked.dataset) if asked.deletion else upserted(asked.dataset),
        time=time,
        sequence=sequence,
        traceparent=traceparent,
    )


def _bytes(column: object) -> bytes | None:
    return column if isinstance(column, bytes) else None
