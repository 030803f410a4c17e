"""What is promised of a city that came to rest, and whether it is kept; raises Unfulfilled where it is not."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from functools import cache

import duckdb
import polars as pl

from civicbus.keys import record_key
from civicbus.names import DatasetId
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.sql.duckdb import SETTINGS, own_functions
from civicbus.stream_apps.views.expressions import keyed_hash
from support.city import SHAPES, City, Unfulfilled
from support.selects import KEYS, Joined, Wish, schemas, view_of
from support.simulation import Log

Row = dict[str, object]


def check_promises(city: City) -> None:
    """The records are what was published, each inbox is its SELECT, nothing came twice, and nothing went back."""
    check_records(city)
    law = tables(city)
    for name, wish in city.agreements.items():
        check_inbox(city, name, wish, law)
    for topic in sorted(city.topics):
        for log in city.logs(topic):
            check_repeats(log)
            check_versions(log)


def check_records(city: City) -> None:
    """Promise 1: a change that was admitted is the record, or one that is newer is."""
    for (name, key), newest in city.newest.items():
        if city.state(name.records).get(record_key(key)) != newest.value:
            raise Unfulfilled(f"{name} {key} is not as it was published")


def check_inbox(city: City, name: str, wish: Wish, law: duckdb.DuckDBPyConnection) -> None:
    """Promise 2: the inbox's latest state is what DuckDB makes of the SELECT, each row under its record's key."""
    view = view_of(name, wish, city.versions)
    state = city.state(view.topic)
    found = {key: tuple(decoded(value)[1].values()) for key, value in state.items()}
    wanted = law.execute(wish.select).fetchall()
    if sorted(map(repr, found.values())) != sorted(map(repr, wanted)):
        raise Unfulfilled(f"{name} holds {sorted(found.values(), key=str)} and not {sorted(wanted, key=str)}")
    number = len(KEYS[wish.driving])
    if wish.hashed:
        keys = {keyed_hash(name.encode(), key).encode() for key in city.state(wish.driving.records)}
        strangers = found.keys() - keys
    else:
        strangers = {key for key, row in found.items() if record_key(row[:number]) != key}
    if strangers:
        raise Unfulfilled(f"{name} has rows under the keys {strangers}")


def check_repeats(log: Log) -> None:
    """Promise 1: no row of a key comes twice in succession, and no deletion of what is not there."""
    last: dict[bytes | None, bytes | None] = {}
    for entry in log.history:
        if last.get(entry.key) == entry.value:
            raise Unfulfilled(f"{entry.key} says at {entry.offset} what it said before: {entry.value}")
        last[entry.key] = entry.value


def check_versions(log: Log) -> None:
    """Promise 3: in the rows of one inbox key, no record is ever shown in an older version than before.

    Exactly: for each inbox key and each record, driving or joined, its versions never fall, over all SELECTs that the
    agreement ever had, whether the row left the inbox meanwhile or not (a record that is created again has a higher
    version). A row may name another record and come back to the first, which is then no older than it was. A record
    that a row names and does not find is deleted: what is found after that is newer than what was before.
    """
    shown: dict[object, int] = {}
    gone: set[object] = set()
    for entry in log.history:
        if entry.value is None:
            continue
        for record, version in seen(entry.value):
            of_key = (entry.key, record)
            before = shown.get(of_key, 0)
            if version is None:
                gone.add(of_key)
                continue
            if version < before or (version == before and of_key in gone):
                raise Unfulfilled(f"{entry.key} shows {record} at {entry.offset} as of {version} after {before}")
            gone.discard(of_key)
            shown[of_key] = version


def seen(value: bytes) -> Iterator[tuple[object, int | None]]:
    """The records that a row of an inbox shows, each with its version; None where there is none."""
    wish, row = decoded(value)
    yield wish.driving, number(row["v0"])
    for place, join in enumerate(wish.joins, 1):
        named = names(row, place, join)
        if None not in named:
            yield (join.dataset, named), number(row[f"v{place}"])


def names(row: Row, place: int, join: Joined) -> tuple[object, ...]:
    return tuple(row[f"o{place}_{n}"] for n in range(len(join.on)))


def number(value: object) -> int | None:
    assert value is None or isinstance(value, int)
    return value


@cache
def reader(schema_id: int) -> RowCodec:
    return RowCodec(SHAPES.by_id[schema_id])


def decoded(value: bytes) -> tuple[Wish, Row]:
    schema_id, body = unframe(value)
    return SHAPES.wishes[schema_id], reader(schema_id).decode(body)


@cache
def law_of_meaning() -> duckdb.DuckDBPyConnection:
    atexit.register(law_of_meaning.cache_clear)
    connection = duckdb.connect(":memory:", config={"threads": 1})
    departments = {name.department for name in KEYS}
    for statement in (*SETTINGS, *own_functions(b""), *(f"CREATE SCHEMA {each}" for each in sorted(departments))):
        connection.execute(statement)
    return connection


def tables(city: City) -> duckdb.DuckDBPyConnection:
    """DuckDB with the records as they stand."""
    law = law_of_meaning()
    for name in KEYS:
        rows = records(city, name)
        schema = pl.DataFrame(pl.from_arrow(arrow_schema(schemas(name)[0]).empty_table())).schema
        law.register("rows", pl.DataFrame(rows, schema=schema).to_arrow())
        law.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM rows")
    return law


def records(city: City, name: DatasetId) -> list[Row]:
    """The records, without what later schemas add."""
    fields = schemas(name)[0].field_names
    rows = []
    for value in city.state(name.records).values():
        schema_id, body = unframe(value)
        row = reader(schema_id).decode(body)
        rows.append({field: row[field] for field in fields})
    return rows
