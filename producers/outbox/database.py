"""The outbox table in a department's database: taking rows, settling them, and being the only one who does.

Promise: of one record, rows are taken in the order of its commits. The trigger takes an id while it holds the
record's row lock or its place in a unique index, so a later commit has a higher id, and whoever sees it sees the
earlier one too; rows are taken by id among all that are visible. No position is kept: a transaction that commits
late is simply seen late, and no open one holds back the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId, DepartmentId
from civicbus.postgres import Session, connect, connect_to, translated
from civicbus.producers.outbox.resuming import ChangesTopic
from civicbus.producers.outbox.rows import Cells, OutboxRow
from civicbus.secrets import Principal, SecretStore, principal_of
from civicbus.settings import Endpoints, secrets_folder

CHANNEL = "civicbus_outbox"
OLDEST_VERSION = 130_000
BATCH_ROWS = 500
BATCH_BYTES = 8 * 2**20

_TAKE = """
SELECT id, dataset, operation, cells, created_at FROM (
    SELECT id, dataset, operation, created_at,
        coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(row)), '{}') AS cells,
        coalesce(sum(pg_column_size(row)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW), 0) AS before
    FROM (
        SELECT * FROM public.civicbus_outbox WHERE dataset = ANY (%(datasets)s) ORDER BY id LIMIT %(rows)s
    ) AS first
) AS measured
WHERE before < %(bytes)s ORDER BY id
"""
_WAITING = """
SELECT dataset, count(*) AS rows,
    greatest(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_s
FROM public.civicbus_outbox WHERE split_part(dataset, '.', 1) = %s GROUP BY dataset ORDER BY dataset
"""
_KEEP = """
INSERT INTO public.civicbus_outbox_positions
SELECT %s, %s, * FROM unnest(%s::integer[], %s::bigint[]) ON CONFLICT DO NOTHING
"""
_SETTLE = """
WITH gone AS (DELETE FROM public.civicbus_outbox WHERE id = ANY (%s))
INSERT INTO public.civicbus_outbox_positions
SELECT %s, %s, * FROM unnest(%s::integer[], %s::bigint[])
ON CONFLICT (dataset, topic_id, partition) DO UPDATE SET settled = excluded.settled
"""
_SETTLE_PUBLISHED = """
DELETE FROM public.civicbus_outbox AS waiting USING unnest(%s::bigint[], %s::timestamptz[]) AS published (id, at)
WHERE waiting.id = published.id AND waiting.created_at = published.at AND waiting.dataset = %s
"""
_LOCK = "SELECT pg_try_advisory_lock(hashtext('civicbus_outbox'), hashtext(%s))"
# Where the server forgets that rows were settled, it also forgets the positions that say so, and the rows are found
# on the topic. So nobody has to wait for the disk.
_AT_LEAST_ONCE = "SET synchronous_commit = off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What of a dataset is not published yet."""

    dataset: str
    rows: int
    oldest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    id: int
    dataset: str
    operation: str
    cells: Cells
    created_at: datetime


def place_of(department: DepartmentId) -> Principal:
    """Under which name the secret store keeps the connection string of the department's database."""
    return Principal(f"outbox-{department}")


@contextmanager
def open_outbox(home: Path, department: DepartmentId) -> Iterator[Outbox]:
    """The outbox of a department's database: the one that was named, or else its own on this platform."""
    secrets = SecretStore(secrets_folder(home))
    if secrets.location(place_of(department)).exists():
        session = connect_to(secrets.read(place_of(department)).password)
    else:
        own = secrets.read(principal_of(department))
        session = connect(Endpoints.load(home), role=own.principal, password=own.password, database=own.principal)
    with session, translated():
        yield Outbox(session, department)


class Outbox:
    """One session with the outbox of a department."""

    def __init__(self, session: Session, department: DepartmentId) -> None:
        """Raises ConfigurationError where the database has no outbox."""
        self._session = session
        self._department = department
        _refuse_unfit(session)
        session.execute(_AT_LEAST_ONCE)
        session.execute("SET TimeZone = 'UTC'")
        session.execute("SET client_encoding = 'UTF8'")

    def origin(self) -> str:
        """What names this database among all: the identifier of its server, and its own there."""
        row = self._session.execute(
            "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())"
            " FROM pg_control_system()"
        ).fetchone()
        return "-".join(map(str, row or ()))

    def datasets(self) -> list[DatasetId]:
        """The department's datasets that tables of this database fill."""
        rows = self._session.execute(
            "SELECT dataset FROM public.civicbus_outbox_tables WHERE split_part(dataset, '.', 1) = %s ORDER BY dataset",
            (self._department,),
        )
        return [DatasetId.parse(str(name)) for (name,) in rows]

    def become_the_only_one(self) -> bool:
        """Whether this session is now the department's only relay; once it is, until it ends."""
        row = self._session.execute(_LOCK, (self._department,)).fetchone()
        if row != (True,):
            return False
        self._session.execute(f"LISTEN {CHANNEL}")
        return True

    def take(self, datasets: Sequence[DatasetId]) -> list[OutboxRow]:
        """The first rows of these datasets that are committed, by their ids."""
        limits = {"datasets": list(map(str, datasets)), "rows": BATCH_ROWS, "bytes": BATCH_BYTES}
        with self._session.cursor(row_factory=class_row(_Stored)) as cursor:
            return [_row(stored) for stored in cursor.execute(_TAKE, limits)]

    def settle(self, rows: Sequence[OutboxRow], topic: ChangesTopic, settled: Mapping[int, int]) -> None:
        """The broker has the changes of these rows of one dataset, the last of them below these positions."""
        dataset = str(DatasetId.of(topic.name))
        positions = (dataset, topic.id, list(settled), list(settled.values()))
        self._session.execute(_SETTLE, ([row.id for row in rows], *positions))

    def settle_published(self, dataset: DatasetId, published: Mapping[int, datetime]) -> int:
        """The rows with these ids that were written at these times are on the topic; how many of them were here.

        An id alone says little: a restored database gives it again, to another change.
        """
        given = (list(published), list(published.values()), str(dataset))
        return self._session.execute(_SETTLE_PUBLISHED, given).rowcount

    def settled(self, topic: ChangesTopic) -> dict[int, int]:
        """The positions behind which rows of the outbox may be published already; from now on, where none is kept."""
        dataset = str(DatasetId.of(topic.name))
        ends = (dataset, topic.id, list(topic.ends), list(topic.ends.values()))
        self._session.execute(_KEEP, ends)
        rows = self._session.execute(
            "SELECT partition, settled FROM public.civicbus_outbox_positions WHERE dataset = %s AND topic_id = %s",
            (dataset, topic.id),
        )
        return {int(str(partition)): int(str(settled)) for partition, settled in rows}

    def waiting(self) -> list[Waiting]:
        """What waits, of every dataset of the department."""
        with self._session.cursor(row_factory=class_row(Waiting)) as cursor:
            return cursor.execute(_WAITING, (self._department,)).fetchall()

    def wait(self, timeout_s: float) -> None:
        """Until a transaction that wrote to the outbox has committed, or the time is over."""
        for _ in self._session.notifies(timeout=timeout_s, stop_after=1):
            pass


def _refuse_unfit(session: Session) -> None:
    if session.info.server_version < OLDEST_VERSION:
        raise ConfigurationError("an outbox needs PostgreSQL 13 or newer", mend="use another way to publish")
    if session.info.parameter_status("server_encoding") == "SQL_ASCII":
        raise ConfigurationError(
            "the database's encoding is SQL_ASCII, which does not say what its bytes mean",
            mend="use another way to publish, or convert the database to UTF8",
        )
    try:
        for table in ("civicbus_outbox", "civicbus_outbox_tables", "civicbus_outbox_positions"):
            session.execute(SQL("SELECT FROM public.{} LIMIT 0").format(Identifier(table)))
    except psycopg.errors.UndefinedTable:
        raise ConfigurationError(
            "the database has no outbox", mend="run what `civicbus outbox sql DEPT.DATASET --table TABLE` prints there"
        ) from None


def _row(stored: _Stored) -> OutboxRow:
    return OutboxRow(
        id=stored.id,
        dataset=DatasetId.parse(stored.dataset),
        deletion=stored.operation == "delete",
        cells=stored.cells,
        created_at=stored.created_at,
    )
