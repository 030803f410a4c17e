"""How far each inbox is in the table: kept in the department's database, moved in the transaction of the rows.

A position moves only from where its owner last saw it (compare-and-set). Whoever finds it elsewhere is not
alone, drops what it has and loads again: that is the fence against a twin, also one that slept.

States of an inbox: ``first`` (the table is being filled for the first time), ``current``, and ``rebuild`` (the
rows are read again from the start into a second table, and the first one is then made equal in one transaction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from psycopg.rows import kwargs_row, tuple_row

from civicbus.errors import Fenced
from civicbus.names import Topic
from civicbus.postgres import Session
from civicbus.transport.assigned import TopicId, TopicIdentity

TOMBSTONE_HORIZON = timedelta(days=30)
"""How long deletions stay on an inbox topic."""

LONGEST_ABSENCE = TOMBSTONE_HORIZON / 2

_TABLES = """
SELECT pg_advisory_xact_lock(hashtext('civicbus.positions'));
CREATE SCHEMA IF NOT EXISTS inbox;
CREATE SCHEMA IF NOT EXISTS inbox_next;
CREATE SCHEMA IF NOT EXISTS civicbus;
CREATE TABLE IF NOT EXISTS civicbus.inboxes (
    topic text PRIMARY KEY,
    topic_id text NOT NULL,
    generation bigint NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    columns text[] NOT NULL DEFAULT '{}',
    caught_up_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS civicbus.positions (
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    generation bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE TABLE IF NOT EXISTS civicbus.refused (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    record_key bytea,
    reason text NOT NULL,
    detail text NOT NULL,
    value bytea,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX IF NOT EXISTS refused_by_key ON civicbus.refused USING hash (record_key);
"""


class State(StrEnum):
    FIRST = "first"
    CURRENT = "current"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the database knows of an inbox.

    ``columns``: those that civicbus made, beside which the department may have columns of its own; none, where
    there is no table yet. ``caught_up_at``: when the table was last at the end.
    """

    topic: Topic
    topic_id: TopicId
    generation: int
    state: State
    columns: tuple[str, ...]
    caught_up_at: datetime
    positions: Mapping[int, int]


class Move(NamedTuple):
    """A partition's position, from where it was last seen."""

    partition: int
    old: int
    new: int


def ensure_tables(session: Session) -> None:
    """Make civicbus's own tables where they are missing."""
    with session.transaction():
        session.execute(_TABLES)


def load(session: Session, topic: Topic) -> Stored | None:
    """The inbox as the database has it; None for one that was never read."""
    with session.cursor(row_factory=kwargs_row(_stored)) as cursor:
        return cursor.execute(
            "SELECT i.topic, i.topic_id, i.generation, i.state, i.columns, i.caught_up_at,"
            " array_remove(array_agg(p.partition), NULL) AS partitions,"
            " array_remove(array_agg(p.position), NULL) AS positions"
            " FROM civicbus.inboxes AS i LEFT JOIN civicbus.positions AS p USING (topic, generation)"
            " WHERE topic = %s GROUP BY i.topic",
            (topic,),
        ).fetchone()


def _stored(
    *,
    topic: str,
    topic_id: str,
    generation: int,
    state: str,
    columns: list[str],
    caught_up_at: datetime,
    partitions: list[int],
    positions: list[int],
) -> Stored:
    return Stored(
        topic=Topic(topic),
        topic_id=TopicId(topic_id),
        generation=generation,
        state=State(state),
        columns=tuple(columns),
        caught_up_at=caught_up_at,
        positions=dict(zip(partitions, positions, strict=True)),
    )


def why_start_over(stored: Stored, now: datetime, topic: TopicIdentity, bounds: Mapping[int, range]) -> str | None:
    """Why the positions are of no use, if they are not. ``bounds``: the offsets each partition can be read from."""
    if stored.topic_id != topic.id:
        return "the topic was deleted and made again"
    if set(stored.positions) != set(range(topic.partitions)):
        return "the topic has another number of partitions"
    if any(position not in bounds[partition] for partition, position in stored.positions.items()):
        return "the topic no longer has what comes after the last row"
    if now - stored.caught_up_at > LONGEST_ABSENCE:
        return "the table was behind for longer than deletions are sure to stay"
    return None


def start_over(
    session: Session, topic: Topic, topic_id: TopicId, starts: Mapping[int, int], *, seen: int, to: State, reason: str
) -> int:
    """Begin a new generation from these offsets; ``seen`` is the generation it takes the place of, 0 for none.

    Call it inside a transaction. Raises Fenced where another instance was here first.
    """
    generation = seen + 1
    done = session.execute(
        "INSERT INTO civicbus.inboxes AS i (topic, topic_id, generation, state, reason)"
        " VALUES (%(topic)s, %(id)s, %(new)s, %(state)s, %(reason)s)"
        " ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id, generation = excluded.generation,"
        " state = excluded.state, reason = excluded.reason, caught_up_at = now()"
        " WHERE i.generation = %(seen)s",
        {"topic": topic, "id": topic_id, "new": generation, "state": to, "reason": reason, "seen": seen},
    )
    if done.rowcount != 1:
        raise Fenced(f"another instance starts {topic} over")
    session.execute("DELETE FROM civicbus.positions WHERE topic = %s", (topic,))
    session.execute("DELETE FROM civicbus.refused WHERE topic = %s", (topic,))
    session.execute(
        "INSERT INTO civicbus.positions (topic, topic_id, generation, partition, position)"
        " SELECT %s, %s, %s, * FROM unnest(%s::integer[], %s::bigint[])",
        (topic, topic_id, generation, list(starts), list(starts.values())),
    )
    return generation


def advance(session: Session, topic: Topic, generation: int, moves: Sequence[Move]) -> None:
    """Move positions, all or none; raises Fenced where one is not where it was last seen."""
    moved = session.execute(
        "UPDATE civicbus.positions AS p SET position = m.new"
        " FROM unnest(%s::integer[], %s::bigint[], %s::bigint[]) AS m (partition, old, new)"
        " WHERE p.topic = %s AND p.generation = %s AND p.partition = m.partition AND p.position = m.old",
        (
            [move.partition for move in moves],
            [move.old for move in moves],
            [move.new for move in moves],
            topic,
            generation,
        ),
    )
    if moved.rowcount != len(moves):
        raise Fenced(f"another instance moved the positions of {topic}")


def shaped(session: Session, topic: Topic, generation: int, columns: Sequence[str]) -> None:
    """Remember which columns of the table are civicbus's."""
    session.execute(
        "UPDATE civicbus.inboxes SET columns = %s WHERE topic = %s AND generation = %s",
        (list(columns), topic, generation),
    )


def finished(session: Session, topic: Topic, generation: int) -> None:
    """The table is current now."""
    session.execute(
        "UPDATE civicbus.inboxes SET state = %s, reason = '', caught_up_at = now()"
        " WHERE topic = %s AND generation = %s",
        (State.CURRENT, topic, generation),
    )


def caught_up(session: Session, topics: Sequence[Topic]) -> None:
    """These inboxes are read to their ends at this moment; written down once in half a minute."""
    session.execute(
        "UPDATE civicbus.inboxes SET caught_up_at = now()"
        " WHERE topic = ANY(%s) AND caught_up_at < now() - interval '30 seconds'",
        (list(topics),),
    )


def generations(session: Session) -> dict[Topic, int]:
    """The generation of every inbox, as the database has it now."""
    with session.cursor(row_factory=tuple_row) as cursor:
        return dict(cursor.execute("SELECT topic, generation FROM civicbus.inboxes").fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """An inbox as its table shows it."""

    topic: Topic
    state: State
    reason: str
    caught_up_at: datetime
    refused: int


def overview(session: Session) -> list[Overview]:
    """Every inbox that has been read; none where no table process has run."""
    if session.execute("SELECT to_regclass('civicbus.inboxes')").fetchone() == (None,):
        return []
    with session.cursor(row_factory=kwargs_row(_overview)) as cursor:
        return cursor.execute(
            "SELECT topic, state, reason, caught_up_at,"
            " (SELECT count(*) FROM civicbus.refused AS r WHERE r.topic = i.topic) AS refused"
            " FROM civicbus.inboxes AS i ORDER BY topic"
        ).fetchall()


def _overview(*, topic: str, state: str, reason: str, caught_up_at: datetime, refused: int) -> Overview:
    return Overview(topic=Topic(topic), state=State(state), reason=reason, caught_up_at=caught_up_at, refused=refused)
