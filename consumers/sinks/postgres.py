"""The table of one inbox in the department's PostgreSQL.

Promise: rows, deletions, refusals and positions of a batch become visible together or not at all; one row that
PostgreSQL cannot take does not stop the others; a rebuild changes the table that readers see in one step.

A table object describes the table as it was found when it was opened. After any exception from a method it is
of no further use: open another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
import structlog
from psycopg.rows import args_row
from psycopg.sql import SQL, Composed, Identifier

from civicbus.consumers import positions
from civicbus.consumers.columns import LONGEST_NAME, Fit, Shape, fit, new_shape, widest
from civicbus.consumers.positions import Move, State, Stored
from civicbus.consumers.rows import UNSTORABLE, Prepared, Refused, Rows, Shaped, key_text
from civicbus.errors import ConfigurationError
from civicbus.names import AgreementId, Topic
from civicbus.postgres import Session, is_row_fault, row_fault
from civicbus.transport.assigned import TopicId

log = structlog.get_logger()

LIVE = "inbox"
NEXT = "inbox_next"

# A transaction whose owner sleeps is ended by the server, so that it holds up nobody. To the server an owner that
# sleeps in the middle of a COPY is not idle but slow, so a COPY, which is of one batch, has a limit of its own.
_STATEMENT_TIMEOUT, _COPY_TIMEOUT = "60s", "20s"
_SETTINGS = f"""
SET synchronous_commit = off;
SET idle_in_transaction_session_timeout = '10s';
SET statement_timeout = '{_STATEMENT_TIMEOUT}';
SET lock_timeout = '10s';
SET client_min_messages = warning
"""
_COPYING = f"SET LOCAL statement_timeout = '{_COPY_TIMEOUT}'"
_COPIED = f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a transaction brought into the table."""

    upserts: int
    refused: tuple[Refused, ...]


class Stage:
    """The temporary table of a session into which rows are copied as text, for all inboxes alike.

    One for each inbox would cost each commit a truncation of every one of them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._width = 0
        self._filled = False

    def widen(self, width: int) -> None:
        """Make room for this many fields; not within a transaction, which might take it back."""
        if width <= self._width:
            return
        if self._width:
            self._session.execute("DROP TABLE pg_temp.civicbus_stage")
        columns = SQL(", ").join(SQL("{} text").format(Identifier(f"c{place}")) for place in range(width))
        self._session.execute(
            SQL("CREATE TEMPORARY TABLE civicbus_stage (k text, {}) ON COMMIT DELETE ROWS").format(columns)
        )
        self._width = width

    def copy(self, rows: Rows) -> None:
        """Replace what is there by these rows: the key as ``k``, the fields as ``c0`` and so on."""
        width = rows.batch.num_columns
        if self._filled:
            self._session.execute("TRUNCATE pg_temp.civicbus_stage")
        self._filled = True
        columns = SQL(", ").join(map(Identifier, ["k", *(f"c{place}" for place in range(width))]))
        copy_in = SQL("COPY pg_temp.civicbus_stage ({}) FROM STDIN (FORMAT csv)").format(columns)
        text = rows.csv()
        self._session.execute(_COPYING)
        with self._session.cursor() as cursor, cursor.copy(copy_in) as copy:
            copy.write(text)
        self._session.execute(_COPIED)

    def committed(self) -> None:
        """The transaction ended, which emptied it."""
        self._filled = False


def prepare_session(session: Session) -> None:
    """Settings and civicbus's own tables, once for each connection."""
    session.execute(_SETTINGS)
    positions.ensure_tables(session)


class InboxTable:
    """The table that an inbox flows into now: the one that readers see, or in a rebuild the next one."""

    def __init__(self, session: Session, stage: Stage, agreement: AgreementId, stored: Stored) -> None:
        self._session = session
        self._stage = stage
        self.agreement = agreement
        self.stored = stored
        self.committed = dict(stored.positions)
        self._name = Identifier(_schema(stored.state), agreement)
        self._shape = shape_of(session, _schema(stored.state), agreement)
        self._columns = stored.columns
        self._fitting: set[int] = set()
        self._inserts: dict[int, bytes] = {}
        self._refusals = _has_refusals(session, stored.topic)

    @property
    def damage(self) -> str | None:
        """What somebody took away from the table, if anything."""
        if self._shape is None:
            return "the table is missing" if self._columns else None
        if missing := sorted(set(self._columns) - set(self._shape.types)):
            return f"columns are missing: {', '.join(missing)}"
        return None

    @property
    def exists(self) -> bool:
        return self._shape is not None

    def takes(self, shaped: Shaped) -> bool:
        """Whether the table can hold this schema's rows, at most after being altered."""
        return self._shape is None or not fit(self._shape, shaped.types).conflicts

    def make(self, shaped: Shaped) -> None:
        """Make the table before its first row comes, so that an empty inbox has an empty table."""
        with self._session.transaction():
            self._lock()
            self._take_shape(shaped)

    def write(self, prepared: Prepared, moves: Sequence[Move]) -> Written:
        """One transaction: 1. positions, 2. columns, 3. deletions, 4. rows, 5. refusals.

        Raises Fenced, with nothing written, where another instance moved a position.
        """
        refused = list(prepared.refused)
        self._stage.widen(max((rows.batch.num_columns for rows in prepared.rows), default=0))
        with self._session.transaction():
            positions.advance(self._session, self.stored.topic, self.stored.generation, moves)
            for rows in prepared.rows:
                self._take_shape(rows.shaped)
            self._delete(record.key for record in prepared.deletions)
            for rows in prepared.rows:
                self._store(rows, refused)
            self._note(prepared, refused)
        self._stage.committed()
        self.committed.update({move.partition: move.new for move in moves})
        upserts = sum(map(len, prepared.rows)) - len(refused) + len(prepared.refused)
        return Written(upserts=upserts, refused=tuple(refused))

    def finish(self) -> None:
        """The end was reached for the first time in this generation: make the table current, in one step."""
        with self._session.transaction():
            self._lock()
            if self.stored.state is State.REBUILD:
                self._replace_live()
            positions.finished(self._session, self.stored.topic, self.stored.generation)

    def _lock(self) -> None:
        """Move no position, but be sure that nobody else does until the end of the transaction."""
        here = [Move(partition, at, at) for partition, at in self.committed.items()]
        positions.advance(self._session, self.stored.topic, self.stored.generation, here)

    # Columns.

    def _take_shape(self, shaped: Shaped) -> None:
        """Make the table, or alter it, so that rows of this schema fit."""
        if shaped.schema_id in self._fitting:
            return
        if self._shape is None:
            self._shape = new_shape(shaped.types)
            self._session.execute(_create(self._name, self.agreement, self.stored.generation, self._shape))
        change = fit(self._shape, shaped.types)
        _alter(self._session, self._name, change)
        self._shape = widest(self._shape, change)
        self._columns = (*self._columns, *(c.name for c in change.columns if c.name not in self._columns))
        positions.shaped(self._session, self.stored.topic, self.stored.generation, self._columns)
        self._fitting.add(shaped.schema_id)
        self._inserts.clear()

    def _insert(self, shaped: Shaped) -> bytes:
        """The statement that takes this schema's rows from the stage."""
        assert self._shape is not None  # noqa: S101 - the table has taken its shape
        if shaped.schema_id not in self._inserts:
            columns = fit(self._shape, shaped.types).columns
            casts = [
                SQL("{}::{}").format(Identifier(f"c{place}"), _type(self._shape.types[column.name]))
                for place, column in enumerate(columns)
            ]
            select = SQL("SELECT k, {} FROM pg_temp.civicbus_stage").format(SQL(", ").join(casts))
            names = [column.name for column in columns]
            statement = _upsert(self._name, self._shape.key, names, self._columns, select)
            self._inserts[shaped.schema_id] = statement.as_bytes(self._session)
        return self._inserts[shaped.schema_id]

    # Rows.

    def _store(self, rows: Rows, refused: list[Refused]) -> None:
        """Write rows; where that fails for a row's sake, halve them until those rows are alone."""
        try:
            with self._session.transaction():
                self._stage.copy(rows)
                self._session.execute(self._insert(rows.shaped))
        except psycopg.Error as error:
            if not is_row_fault(error):
                raise
            if len(rows) == 1:
                refused.append(Refused(record=rows.records[0], reason=UNSTORABLE, detail=row_fault(error)))
                return
            half = len(rows) // 2
            self._store(rows.part(0, half), refused)
            self._store(rows.part(half, len(rows) - half), refused)

    def _delete(self, keys: Iterable[bytes | None]) -> None:
        texts = [text for key in keys if key is not None and (text := key_text(key)) is not None]
        if not texts or self._shape is None:
            return
        statement = SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(self._name, Identifier(self._shape.key))
        self._session.execute(statement, (texts,))

    def _note(self, prepared: Prepared, refused: Sequence[Refused]) -> None:
        """Keep what was refused, take its older row away, and forget refusals that a later version mended."""
        if refused or self._refusals:
            self._session.execute(
                "DELETE FROM civicbus.refused WHERE topic = %s AND record_key = ANY(%s)",
                (self.stored.topic, list(prepared.keys)),
            )
        if not refused:
            return
        self._refusals = True
        self._delete(each.record.key for each in refused)
        with self._session.cursor() as cursor:
            cursor.executemany(
                'INSERT INTO civicbus.refused (topic, partition, "offset", record_key, reason, detail, value)'
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    (self.stored.topic, r.partition, r.offset, r.key, each.reason, each.detail, r.value)
                    for each in refused
                    for r in [each.record]
                ],
            )

    # The end of a rebuild.

    def _replace_live(self) -> None:
        live = Identifier(LIVE, self.agreement)
        shape = shape_of(self._session, LIVE, self.agreement)
        self._session.execute("SET LOCAL statement_timeout = 0")
        if shape is None or self._shape is None:
            self._session.execute(SQL("DROP TABLE IF EXISTS {}").format(live))
            self._move_next()
            return
        change = fit(shape, {name: self._shape.types[name] for name in self._columns})
        if change.conflicts or shape.key != self._shape.key:
            self._set_aside(live)
            self._move_next()
            return
        _alter(self._session, live, change)
        self._session.execute(SQL("ANALYZE {}").format(self._name))
        for statement in _make_equal(live, self._name, shape.key, self._columns):
            self._session.execute(statement)
        self._session.execute(SQL("DROP TABLE {}").format(self._name))

    def _move_next(self) -> None:
        if self._shape is not None:
            self._session.execute(SQL("ALTER TABLE {} SET SCHEMA {}").format(self._name, Identifier(LIVE)))

    def _set_aside(self, live: Identifier) -> None:
        """Drop the table, or where the department's own views need it, keep it under another name."""
        try:
            with self._session.transaction():
                self._session.execute(SQL("DROP TABLE {}").format(live))
        except psycopg.errors.DependentObjectsStillExist:
            aside = Identifier(f"until~{self.stored.generation}~{self.agreement}"[:LONGEST_NAME])
            self._session.execute(SQL("ALTER TABLE {} RENAME TO {}").format(live, aside))
            log.warning("table_set_aside", agreement=self.agreement, name=aside.as_string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """An inbox is to be read again from its start.

    ``seen``: the generation that the new one takes the place of. ``shaped``: the schema to shape the next table
    for, where it is not to be like the one that is there.
    """

    topic: Topic
    agreement: AgreementId
    topic_id: TopicId
    starts: Mapping[int, int]
    seen: int
    reason: str
    shaped: Shaped | None = None


def start_over(session: Session, restart: Restart) -> None:
    """Begin the next generation; the table that readers see stays as it is until the end of a rebuild.

    Raises Fenced where another instance was here first.
    """
    next_table, live = Identifier(NEXT, restart.agreement), Identifier(LIVE, restart.agreement)
    with session.transaction():
        rebuild = shape_of(session, LIVE, restart.agreement) is not None
        # The positions first: everybody locks them before a table.
        generation = positions.start_over(
            session,
            restart.topic,
            restart.topic_id,
            restart.starts,
            seen=restart.seen,
            to=State.REBUILD if rebuild else State.FIRST,
            reason=restart.reason,
        )
        session.execute(SQL("DROP TABLE IF EXISTS {}").format(next_table))
        if rebuild and restart.shaped is None:
            session.execute(SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(next_table, live))
        elif rebuild and restart.shaped is not None:
            shape = new_shape(restart.shaped.types)
            session.execute(_create(next_table, restart.agreement, generation, shape))
            positions.shaped(session, restart.topic, generation, list(shape.types))
    log.info("starting_over", agreement=restart.agreement, reason=restart.reason)


def shape_of(session: Session, schema: str, table: str) -> Shape | None:
    """A table as the database has it; raises ConfigurationError where it has no key of one column."""
    with session.cursor(row_factory=args_row(lambda name, kind, key: (str(name), str(kind), bool(key)))) as cursor:
        columns = cursor.execute(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnum = ANY(i.indkey)"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary"
            " WHERE n.nspname = %s AND c.relname = %s ORDER BY a.attnum",
            (schema, table),
        ).fetchall()
    if not columns:
        return None
    keys = [name for name, _, is_key in columns if is_key]
    if len(keys) != 1:
        raise ConfigurationError(
            f"the table {schema}.{table} has no primary key of one column",
            mend="give it back its primary key, or drop it: it is filled again",
        )
    return Shape(key=keys[0], types={name: kind for name, kind, is_key in columns if not is_key})


def _schema(state: State) -> str:
    return NEXT if state is State.REBUILD else LIVE


def _has_refusals(session: Session, topic: Topic) -> bool:
    found = session.execute("SELECT 1 FROM civicbus.refused WHERE topic = %s LIMIT 1", (topic,))
    return found.fetchone() is not None


def _create(table: Identifier, agreement: AgreementId, generation: int, shape: Shape) -> Composed:
    """The statement that makes a table. Its index has a name that is no agreement's and no other generation's."""
    index = Identifier(f"~{generation}~{agreement}"[:LONGEST_NAME])
    columns = [SQL("{} {}").format(Identifier(name), _type(kind)) for name, kind in shape.types.items()]
    key = SQL("{} text CONSTRAINT {} PRIMARY KEY").format(Identifier(shape.key), index)
    return SQL("CREATE TABLE {} ({})").format(table, SQL(", ").join([key, *columns]))


def _alter(session: Session, table: Identifier, change: Fit) -> None:
    steps = [
        SQL("ADD COLUMN IF NOT EXISTS {} {}").format(Identifier(column.name), _type(column.type))
        for column in change.added
    ] + [
        SQL("ALTER COLUMN {} TYPE {}").format(Identifier(column.name), _type(column.type)) for column in change.widened
    ]
    if steps:
        session.execute("SET LOCAL statement_timeout = 0")  # a widened column is written anew, row by row
        session.execute(SQL("ALTER TABLE {} {}").format(table, SQL(", ").join(steps)))


def _upsert(table: Identifier, key: str, names: Sequence[str], ours: Sequence[str], select: Composed) -> Composed:
    """Insert rows, or update where any of civicbus's columns differs, bit by bit.

    Columns that the rows do not have become NULL; columns of the department's own stay.
    """
    listed = SQL(", ").join(map(Identifier, [key, *names]))
    sets = [SQL("{0} = excluded.{0}").format(Identifier(name)) for name in ours]
    return SQL(
        "INSERT INTO {} AS t ({}) {} ON CONFLICT ({}) DO UPDATE SET {} WHERE ROW({})::record *<> ROW({})::record"
    ).format(
        table,
        listed,
        select,
        Identifier(key),
        SQL(", ").join(sets),
        SQL(", ").join(Identifier("t", name) for name in ours),
        SQL(", ").join(Identifier("excluded", name) for name in ours),
    )


def _make_equal(live: Identifier, to: Identifier, key: str, ours: Sequence[str]) -> list[Composed]:
    """Delete what the next table has not, and write what differs from it."""
    same_key = SQL("t.{0} = n.{0}").format(Identifier(key))
    columns = SQL(", ").join(map(Identifier, [key, *ours]))
    same = SQL("ROW({})::record *= ROW({})::record").format(
        SQL(", ").join(Identifier("t", name) for name in ours),
        SQL(", ").join(Identifier("n", name) for name in ours),
    )
    differing = SQL("SELECT {} FROM {} AS n WHERE NOT EXISTS (SELECT FROM {} AS t WHERE {} AND {})").format(
        columns, to, live, same_key, same
    )
    return [
        SQL("DELETE FROM {} AS t WHERE NOT EXISTS (SELECT FROM {} AS n WHERE {})").format(live, to, same_key),
        _upsert(live, key, ours, ours, differing),
    ]


def _type(name: str) -> SQL:
    """A type's name as SQL: columns.py and PostgreSQL's own format_type are where it comes from."""
    return SQL(name)
