"""The department's own PostgreSQL: what a capture needs of it, and the slot that says how far it is captured.

Nothing here changes a table. What only the database's administrator may do is told as SQL, all of it at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg.sql import SQL, Identifier

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId
from civicbus.postgres import Session, translated
from civicbus.producers.capture.declared import Declared, capture_of
from civicbus.producers.capture.values import column_of
from civicbus.schemas.datasets import Dataset

OLDEST = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """How far the database's log was captured. ``usable``: it still has all of the log from there on."""

    usable: bool
    active: bool
    lag_bytes: int


def slot_name(dataset: DatasetId) -> str:
    """The name of a dataset's slot and of its publication."""
    digest = hashlib.sha256(str(dataset).encode()).hexdigest()[:8]
    return f"civicbus_{dataset.department[:20]}_{dataset.name[:20]}_{digest}"


def slot(session: Session, dataset: DatasetId) -> Slot | None:
    """The dataset's slot; None where there is none."""
    with translated():
        row = session.execute(
            "SELECT wal_status <> 'lost' AND confirmed_flush_lsn IS NOT NULL, active,"
            " coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint"
            " FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()",
            (slot_name(dataset),),
        ).fetchone()
    return None if row is None else Slot(usable=bool(row[0]), active=bool(row[1]), lag_bytes=int(str(row[2])))


def release_slot(session: Session, dataset: DatasetId) -> None:
    """End the connection that holds the slot: that of a connector which is no more."""
    with translated():
        session.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active",
            (slot_name(dataset),),
        )


def drop_slot(session: Session, dataset: DatasetId) -> None:
    """Have the database keep nothing more of its log for us."""
    with translated():
        session.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
            (slot_name(dataset),),
        )


def drop_publication(session: Session, dataset: DatasetId) -> None:
    """Raises AccessDenied where it belongs to somebody else."""
    with translated():
        session.execute(SQL("DROP PUBLICATION IF EXISTS {}").format(Identifier(slot_name(dataset))))


def require_ready(session: Session, found: Declared) -> None:
    """Raises ConfigurationError with everything that is missing, as the SQL that mends it."""
    with translated():
        faults = list(_faults(session, found))
    if faults:
        lines = "".join(f"\n  {line}" for line in faults)
        raise ConfigurationError(
            f"{found.capture.table} cannot be captured yet",
            mend=f"have the administrator of the database run this, then try again:{lines}",
        )


def _faults(session: Session, found: Declared) -> Iterator[str]:
    role = str(found.database.parameters["user"])
    if session.info.server_version // 10_000 < OLDEST:
        yield f"-- PostgreSQL {OLDEST} or newer is needed, this is {session.info.parameter_status('server_version')}"
    yield from _server_faults(session, role, slot_name(found.dataset.id))
    yield from _table_faults(session, found, role)


def _server_faults(session: Session, role: str, ours: str) -> Iterator[str]:
    if _one(session, "SELECT current_setting('wal_level')") != "logical":
        yield "ALTER SYSTEM SET wal_level = logical; -- then restart the server"
    if not _one(session, "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user"):
        yield f'ALTER ROLE "{role}" REPLICATION;'
    others = "SELECT count(*) FROM pg_replication_slots WHERE slot_name <> %s"
    if not _one(session, f"SELECT ({others}) < current_setting('max_replication_slots')::int", ours):
        yield "ALTER SYSTEM SET max_replication_slots = 20; -- then restart the server"


def _table_faults(session: Session, found: Declared, role: str) -> Iterator[str]:
    schema, _, name = found.capture.table.partition(".")
    table = f'"{schema}"."{name}"'
    about = session.execute(
        "SELECT c.oid, c.relkind::text, c.relreplident::text,"
        " c.relrowsecurity AND NOT r.rolbypassrls AND NOT r.rolsuper"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles r"
        " WHERE n.nspname = %s AND c.relname = %s AND r.rolname = current_user",
        (schema, name),
    ).fetchone()
    if about is None or about[1] != "r":
        yield f"-- {found.capture.table} is no table of this database: correct `capture.table` in the catalogue"
        return
    oid = int(str(about[0]))
    if not _one(session, "SELECT has_schema_privilege(%s, 'USAGE')", schema):
        yield f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}";'
    if not _one(session, "SELECT has_table_privilege(%s::oid, 'SELECT')", oid):
        yield f'GRANT SELECT ON {table} TO "{role}";'
    if about[2] != "f":
        yield f"ALTER TABLE {table} REPLICA IDENTITY FULL;"
    if about[3]:
        yield f'ALTER ROLE "{role}" BYPASSRLS; -- or the rows that it may not see are missing'
    yield from _column_faults(session, found.dataset, oid)
    yield from _publication_faults(session, found.dataset.id, oid, table, role)


def _column_faults(session: Session, dataset: Dataset, oid: int) -> Iterator[str]:
    """Every field has its column, and no two rows have one key at any moment."""
    rows = session.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped", (oid,)
    )
    columns = {str(name) for (name,) in rows}
    table = capture_of(dataset).table
    for field in dataset.schema.field_names:
        if column_of(dataset, field) not in columns:
            yield f"-- {table} has no column {column_of(dataset, field)}: name that of {field} in `capture.columns`"
    key = sorted(column_of(dataset, field) for field in dataset.key)
    unique = session.execute(
        'SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_index i'
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])"
        " WHERE i.indrelid = %s AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL"
        " AND i.indexprs IS NULL AND i.indnatts = i.indnkeyatts GROUP BY i.indexrelid",
        (oid,),
    )
    if key not in [row[0] for row in unique]:
        names = ", ".join(f'"{name}"' for name in key)
        yield f"CREATE UNIQUE INDEX ON {table} ({names}); -- not deferrable: one row for each record"


def _publication_faults(session: Session, dataset: DatasetId, oid: int, table: str, role: str) -> Iterator[str]:
    name = slot_name(dataset)
    found = session.execute(
        "SELECT p.puballtables, array_agg(r.prrelid::bigint), p.pubinsert AND p.pubupdate AND p.pubdelete"
        " AND p.pubtruncate FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid"
        " WHERE p.pubname = %s GROUP BY p.oid",
        (name,),
    ).fetchone()
    if found is None:
        yield f"CREATE PUBLICATION {name} FOR TABLE {table};"
        yield f'ALTER PUBLICATION {name} OWNER TO "{role}";'
    elif found != (False, [oid], True):
        yield f"DROP PUBLICATION {name}; -- it is not for this table alone"
        yield f"CREATE PUBLICATION {name} FOR TABLE {table};"
        yield f'ALTER PUBLICATION {name} OWNER TO "{role}";'


def _one(session: Session, query: str, *arguments: object) -> object:
    row = session.execute(query.encode(), arguments).fetchone()
    return None if row is None else row[0]
