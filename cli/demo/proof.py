"""Proves a subscriber's table: row by row against the agreement's own SELECT, run by DuckDB over the records.

Nothing of the engine is used for the expected rows: they come from the records topic, the text of the agreement
and DuckDB. What is shown of a difference is where it is, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.names import AgreementId, DatasetId, DepartmentId, Topic
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import FRAME_BYTES, schema_id_of
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Catalogue
from civicbus.schemas.registry import Registry
from civicbus.schemas.sql.duckdb import SETTINGS, own_functions
from civicbus.schemas.views import View, check
from civicbus.secrets import OPERATOR, Credentials, SecretStore, agreement_secret, principal_of
from civicbus.settings import Endpoints
from civicbus.transport.assigned import AssignedReader, Record
from civicbus.transport.partitions import Partition

READ_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found of one agreement's table. ``difference`` is None where it is equal."""

    subscriber: DepartmentId
    agreement: AgreementId
    expected_rows: int
    table_rows: int
    inbox_rows: int
    repeats: int
    difference: str | None

    @property
    def holds(self) -> bool:
        return self.difference is None and self.repeats == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an agreement's SELECT returns over the records, and all that was ever written to its inbox."""

    agreement: Agreement
    view: View
    rows: pa.Table
    inbox: Sequence[Record]


def prove(
    endpoints: Endpoints,
    secrets: SecretStore,
    catalogue: Catalogue,
    agreements: Sequence[Agreement],
    tell: Callable[[str], None],
) -> list[Proof]:
    """One proof for each agreement, in the order given."""
    proofs = []
    for each in expected(endpoints, secrets, catalogue, agreements, tell):
        actual = _table(endpoints, secrets.read(principal_of(each.agreement.subscriber)), each.view)
        inbox_rows = len(latest(each.inbox))
        other = None if inbox_rows == each.rows.num_rows else f"{inbox_rows} rows in the inbox"
        proofs.append(
            Proof(
                subscriber=each.agreement.subscriber,
                agreement=each.agreement.id,
                expected_rows=each.rows.num_rows,
                table_rows=actual.num_rows,
                inbox_rows=inbox_rows,
                repeats=repeats(each.inbox),
                difference=difference(each.rows, actual) or other,
            )
        )
    return proofs


def expected(
    endpoints: Endpoints,
    secrets: SecretStore,
    catalogue: Catalogue,
    agreements: Sequence[Agreement],
    tell: Callable[[str], None],
) -> Iterator[Expected]:
    """What is to be found of each agreement, by the broker as it stands at the call."""
    views = [check(agreement, catalogue) for agreement in agreements]
    read = sorted(frozenset().union(*(view.datasets for view in views)))
    tell(f"reading {len(read)} datasets and {len(views)} inboxes from the broker")
    topics = [dataset.records for dataset in read] + [view.topic for view in views]
    logs = read_topics(endpoints, secrets.read(OPERATOR), topics)
    with Registry(endpoints.registry_url) as registry:
        tables = {name: rows_of(catalogue.datasets[name].schema, latest(logs[name.records]), registry) for name in read}
    for agreement, view in zip(agreements, views, strict=True):
        tell(f"comparing {agreement.subscriber}.{agreement.id}")
        key = secrets.read(agreement_secret(agreement.id)).password.encode()
        yield Expected(agreement=agreement, view=view, rows=_expected(agreement, tables, key), inbox=logs[view.topic])


def read_topics(endpoints: Endpoints, credentials: Credentials, topics: Iterable[Topic]) -> dict[Topic, list[Record]]:
    """Everything that a read-committed reader sees of these topics now; raises Unavailable where the end is far."""
    read: dict[Topic, list[Record]] = {topic: [] for topic in topics}
    with AssignedReader(endpoints, credentials, group="platform.operator") as reader:
        states = reader.describe(list(read))
        partitions = [Partition(topic, number) for topic in read for number in range(states[topic].partitions)]
        ends = reader.ends(partitions)
        behind = {partition for partition in partitions if ends[partition] > 0}
        reader.start(reader.first_offsets(behind))
        waited_s = 0.0
        while behind and waited_s < READ_WITHIN_S:
            reading = reader.read(0.5)
            waited_s += 0.0 if reading.records else 0.5
            for topic, records in reading.records.items():
                read[topic] += records
            behind -= {partition for partition, end in reading.ends.items() if end >= ends.get(partition, 0)}
    if behind:
        raise Unavailable(f"{len(behind)} partitions could not be read to their end")
    return read


def unread(endpoints: Endpoints, secrets: SecretStore, datasets: Iterable[DatasetId]) -> int:
    """How many changes admission has not decided on yet."""
    with AssignedReader(endpoints, secrets.read(OPERATOR), group="platform.admission") as reader:
        states = reader.describe([dataset.changes for dataset in datasets])
        partitions = [Partition(topic, number) for topic, state in states.items() for number in range(state.partitions)]
        ends, decided = reader.ends(partitions), reader.committed(partitions)
    return sum(max(0, ends[partition] - decided[partition]) for partition in partitions)


def latest(records: Iterable[Record]) -> dict[bytes, bytes]:
    """The rows that stand after these records."""
    rows: dict[bytes, bytes] = {}
    for record in records:
        if record.key is not None and record.value is not None:
            rows[record.key] = record.value
        elif record.key is not None:
            rows.pop(record.key, None)
    return rows


def repeats(records: Iterable[Record]) -> int:
    """How often a key said again what it said last."""
    last: dict[bytes | None, bytes | None] = {}
    found = 0
    for record in records:
        if record.key in last and last[record.key] == record.value:
            found += 1
        last[record.key] = record.value
    return found


def rows_of(schema: AvroSchema, state: Mapping[bytes, bytes], registry: Registry) -> pa.Table:
    """The rows, whichever schema each was written by, in the columns of this one."""
    by_schema: dict[int, list[bytes]] = {}
    for value in state.values():
        by_schema.setdefault(schema_id_of(value), []).append(value[FRAME_BYTES:])
    batches = [
        ColumnCodec(registry.schema(schema_id), schema).decode(bodies).batch for schema_id, bodies in by_schema.items()
    ]
    return pa.Table.from_batches(batches, arrow_schema(schema))


def _expected(agreement: Agreement, tables: Mapping[DatasetId, pa.Table], key: bytes) -> pa.Table:
    with duckdb.connect() as connection:
        for statement in (*SETTINGS, *own_functions(key)):
            connection.execute(statement)
        for number, (dataset, table) in enumerate(tables.items()):
            connection.register(f"records_{number}", table)
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{dataset.department}"')
            connection.execute(f'CREATE VIEW "{dataset.department}"."{dataset.name}" AS FROM records_{number}')
        try:
            expected: pa.Table = connection.sql(agreement.select).to_arrow_table()
        except (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException) as error:
            raise ConfigurationError(
                f"the SELECT of {agreement.id} cannot be proved: where a view says NULL, DuckDB raises"
                f" ({type(error).__name__})",
                mend="write TRY_CAST for CAST, and calculate in BIGINT or DOUBLE what may overflow",
            ) from None
        return expected


def _table(endpoints: Endpoints, subscriber: Credentials, view: View) -> pa.Table:
    names = [column.name for column in view.columns]
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier("inbox", view.agreement)
    )
    rows = _fetched(endpoints, subscriber, query)
    schema = arrow_schema(view.output)
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, names=names)


def _fetched(endpoints: Endpoints, subscriber: Credentials, query: sql.Composed) -> list[tuple[object, ...]]:
    """The rows; none where there is no table yet. Raises Unavailable where the database does not answer."""
    try:
        with psycopg.connect(
            host=endpoints.database_host,
            port=endpoints.database_port,
            dbname=subscriber.principal,
            user=subscriber.principal,
            password=subscriber.password,
        ) as connection:
            return connection.execute(query).fetchall()
    except psycopg.errors.UndefinedTable:
        return []
    except psycopg.OperationalError as error:
        raise Unavailable(f"PostgreSQL: {str(error).strip()}") from None


def difference(expected: pa.Table, actual: pa.Table) -> str | None:
    """The first difference, or None: both are compared as bags of rows, by DuckDB."""
    with duckdb.connect() as connection:
        connection.register("expected", expected)
        connection.register("actual", actual)
        missing = _count(connection, "SELECT * FROM expected EXCEPT ALL SELECT * FROM actual")
        surplus = _count(connection, "SELECT * FROM actual EXCEPT ALL SELECT * FROM expected")
    if missing or surplus:
        return f"{missing} rows of the SELECT are not in the table, {surplus} rows of the table not in the SELECT"
    return None


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    found = connection.execute(f"SELECT count(*) FROM ({query})").fetchone()
    return 0 if found is None else int(found[0])
