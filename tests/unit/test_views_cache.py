"""A worker that begins with a checkpoint ends where one ends that begins with nothing, whatever happened meanwhile."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from civicbus.names import DatasetId, DepartmentId
from civicbus.schemas.agreement import Consent, KeyMode
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import frame, unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.sql.duckdb import own_functions
from civicbus.schemas.views import View, check
from civicbus.stream_apps.views import cache
from civicbus.stream_apps.views.cache import Cache
from civicbus.stream_apps.views.dirty import Lot
from civicbus.stream_apps.views.inbox import Inbox, Sent, Written
from civicbus.stream_apps.views.rows import Rows
from civicbus.stream_apps.views.stage import Rules, Views
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Batch, Positions
from support.samples import agreement, catalogue, permits
from support.simulation import Bus, Death, Worker

SEED = int(os.environ.get("CIVICBUS_TEST_SEED", "0"))
EXAMPLES = int(os.environ.get("CIVICBUS_TEST_EXAMPLES", "60"))
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
PARTITIONS = 2
SECRET = b"secret"
ENOUGH = 2**30


def dataset(name: str, **fields: object) -> Dataset:
    record = {"type": "record", "name": "row", "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    key = next(iter(fields))
    return replace(permits(), id=DatasetId.parse(name), key=(key,), schemas=(AvroSchema.parse(json.dumps(record)),))


PERMITS = dataset("construction.permits", permit_no="string", enterprise=["null", "string"], version="int")
ENTERPRISES = dataset("market.enterprises", code="string", parent=["null", "string"], version="int")
DATASETS = {one.id: one for one in (PERMITS, ENTERPRISES)}
SCHEMA_IDS = {one.id: number for number, one in enumerate(DATASETS.values(), 1)}
SELECTS = {
    "plain": "SELECT p.permit_no, p.version FROM construction.permits p WHERE p.version % 3 > 0",
    "named": "SELECT p.permit_no, p.version, e.version AS e FROM construction.permits p "
    "LEFT JOIN market.enterprises e ON e.code = p.enterprise",
    "parents": "SELECT p.permit_no, e.version AS e, f.version AS f FROM construction.permits p "
    "JOIN market.enterprises e ON e.code = p.enterprise LEFT JOIN market.enterprises f ON f.code = e.parent",
}


def view_of(name: str, key: KeyMode = KeyMode.RECORD) -> View:
    wanted = agreement(name, SELECTS[name], key=key)
    market = Consent(department=DepartmentId("market"), by="x", date=wanted.valid_from)
    return check(replace(wanted, owner_consents=(*wanted.owner_consents, market)), catalogue(*DATASETS.values()))


VIEWS = [view_of("plain", KeyMode.HASHED), view_of("named"), view_of("parents", KeyMode.HASHED)]
SCHEMAS = {SCHEMA_IDS[one.id]: one.schema for one in DATASETS.values()} | {
    100 + number: view.output for number, view in enumerate(VIEWS)
}
INBOXES = [
    Inbox(view=view, schema_id=100 + number, secret=SECRET, codec=ColumnCodec(view.output))
    for number, view in enumerate(VIEWS)
]


@dataclass
class Broker:
    """What the simulated bus says of its topics."""

    bus: Bus
    generation: int = 1

    def ids(self, topics: object) -> dict[str, str]:
        return {topic: str(self.generation) for topic in topics}

    def ends(self, partitions: object) -> dict[Partition, int]:
        return {partition: self.bus.log(partition).end for partition in partitions}


class Town:
    """A bus, and one views worker that keeps checkpoints."""

    def __init__(self, folder: Path, memory_bytes: int = ENOUGH) -> None:
        self.bus, self.folder, self.memory_bytes = Bus(), folder, memory_bytes
        self.broker = Broker(self.bus)
        self.active = set(SELECTS)
        self.versions = 0
        self.worker = Worker(self.bus, self.stage, range(PARTITIONS))

    def stage(self) -> Views:
        def unchanged(*, to_the_end: bool) -> None:
            del to_the_end

        inboxes = [inbox for inbox in INBOXES if inbox.view.agreement in self.active]
        kept = Cache(self.folder, self.broker, memory_bytes=self.memory_bytes)
        return Views(Rules(datasets=DATASETS, inboxes=inboxes), unchanged, SCHEMAS.__getitem__, lambda: NOW, kept)

    def put(self, name: DatasetId, key: str, other: str | None, *, gone: bool) -> None:
        self.versions += 1
        names = DATASETS[name].schema.field_names
        row = dict(zip(names, (key, other, self.versions), strict=True))
        value = None if gone else frame(SCHEMA_IDS[name], RowCodec(DATASETS[name].schema).encode(row))
        log = self.bus.log(Partition(name.records, ord(key[-1]) % PARTITIONS))
        log.append(key.encode(), value, [("cause", str(self.versions).encode())], 0)

    def checkpoint(self) -> bool:
        stage, opened = self.worker.stage, self.worker.opened
        if any(each.awaited for each in opened.values()) or not stage.wants_checkpoint():
            return False
        positions = Positions(
            inputs={partition: each.position for partition, each in opened.items()},
            outputs={output: self.bus.log(output).end for each in opened.values() for output in each.outputs},
            followed=dict(self.worker.followed),
        )
        stage.checkpoint(positions)
        stage._cache._writing.join()
        return True

    def check(self) -> None:
        records = {name: self.rows(name.records, one.schema) for name, one in DATASETS.items()}
        for view in VIEWS:
            if view.agreement not in self.active:
                continue
            with duckdb.connect() as connection:
                for statement in own_functions(SECRET):
                    connection.execute(statement)
                for name, rows in records.items():
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name.department}")
                    columns = ", ".join(
                        f"{field} {'INT' if field == 'version' else 'TEXT'}"
                        for field in DATASETS[name].schema.field_names
                    )
                    connection.execute(f"CREATE TABLE {name} ({columns})")
                    if rows:
                        connection.executemany(
                            f"INSERT INTO {name} VALUES (?, ?, ?)", [[*row.values()] for row in rows]
                        )
                expected = connection.execute(SELECTS[view.agreement]).fetchall()
            mine = [tuple(row.values()) for row in self.rows(view.topic, view.output)]
            assert sorted(mine, key=str) == sorted(expected, key=str)
            for partition, log in self.bus.logs.items():
                last: dict[bytes, bytes | None] = {}
                for entry in log.history if partition.topic == view.topic else ():
                    assert entry.key not in last or last[entry.key] != entry.value
                    last[entry.key] = entry.value

    def rows(self, topic: str, schema: AvroSchema) -> list[dict[str, object]]:
        codec = RowCodec(schema)
        logs = [log for partition, log in self.bus.logs.items() if partition.topic == topic]
        return [codec.decode(unframe(value)[1]) for log in logs for value in log.state().values()]


PUTS = st.tuples(
    st.just("put"),
    st.sampled_from([PERMITS.id, ENTERPRISES.id]),
    st.sampled_from(["c1", "c2", "c3", "c4"]),
    st.sampled_from(["c1", "c2", "c3", "c9", None]),
    st.sampled_from([False, False, False, True]),
)
OTHERS = st.one_of(
    st.tuples(st.just("turn"), st.integers(1, 4), st.sampled_from([False, False, True])),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("crash"), st.sets(st.sampled_from(sorted(SELECTS)), min_size=2)),
    st.tuples(st.just("drain")),
    st.tuples(st.just("compact")),
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "EVERY_S", 0.0)
    monkeypatch.setattr(cache, "SHARE", float("inf"))


def act(town: Town, action: tuple[object, ...]) -> None:
    match action:
        case ("put", name, key, other, gone):
            town.put(name, key, other, gone=gone)
        case ("turn", limit, lose):
            town.worker.turn(limit, limit, death=Death.WRITTEN if lose else None)
            if lose:
                town.worker.crash()
        case ("checkpoint",):
            town.checkpoint()
        case ("drain",):
            town.worker.drain()
            assert town.checkpoint()
        case ("compact",):
            for log in town.bus.logs.values():
                log.compact()
        case ("crash", active):
            town.active = set(active)
            town.worker.crash()


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(PUTS, PUTS, OTHERS), min_size=10, max_size=60), st.sampled_from([0, ENOUGH]))
def test_whatever_was_cached_when_every_inbox_ends_as_its_select(tmp_path_factory, actions, memory_bytes) -> None:
    town = Town(tmp_path_factory.mktemp("cache"), memory_bytes)
    for action in actions:
        act(town, action)
    town.active = set(SELECTS)
    town.worker.crash()
    town.worker.drain()
    town.check()


def filled(folder: Path, memory_bytes: int = ENOUGH) -> Town:
    town = Town(folder, memory_bytes)
    for number in range(40):
        town.put(PERMITS.id, f"c{number}", f"c{number % 5}", gone=False)
    for number in range(5):
        town.put(ENTERPRISES.id, f"c{number}", None, gone=False)
    town.worker.drain()
    assert town.checkpoint()
    return town


def evaluated(town: Town) -> int:
    """How many rows a restart has to evaluate."""
    town.worker.crash()
    source = town.worker.stage._sources[PERMITS.id]
    rows = 0
    evaluate = source.evaluate

    def counted(lot, now_ms):
        nonlocal rows
        rows += len(lot)
        return evaluate(lot, now_ms)

    source.evaluate = counted
    town.worker.drain()
    town.check()
    return rows


def test_a_start_from_a_checkpoint_evaluates_what_changed_since_and_no_more(tmp_path: Path) -> None:
    town = filled(tmp_path)
    assert evaluated(town) == 0
    town.put(PERMITS.id, "c1", None, gone=False)
    town.put(ENTERPRISES.id, "c2", None, gone=False)
    assert evaluated(town) == 1 + 8


def in_memory(town: Town) -> int:
    """How many bytes of memory the values of the permits may take."""
    return town.worker.stage._sources[PERMITS.id].rows.value_bytes_in_memory


def test_rows_for_which_there_is_too_little_memory_stand_on_the_disk_until_they_change(tmp_path: Path) -> None:
    town = filled(tmp_path, memory_bytes=0)
    assert in_memory(town) > 0
    town.worker.drain()
    assert in_memory(town) == 0
    town.put(PERMITS.id, "c1", None, gone=False)
    town.put(PERMITS.id, "c2", None, gone=True)
    town.worker.drain()
    assert in_memory(town) > 0
    assert town.checkpoint()
    town.worker.drain()
    assert in_memory(town) == 0
    town.check()


def test_a_start_with_too_little_memory_leaves_the_rows_on_the_disk(tmp_path: Path) -> None:
    town = filled(tmp_path, memory_bytes=0)
    town.worker.crash()
    town.worker.drain()
    assert in_memory(town) == 0
    town.put(ENTERPRISES.id, "c1", "c2", gone=False)
    town.worker.drain()
    town.check()


@pytest.mark.parametrize("harm", ["other topics", "half a manifest", "shorter topics", "another engine"])
def test_a_checkpoint_that_does_not_hold_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    town = filled(tmp_path)
    manifest = tmp_path / "current" / "manifest.json"
    match harm:
        case "other topics":
            town.broker.generation = 2
        case "half a manifest":
            manifest.write_bytes(manifest.read_bytes()[:100])
        case "shorter topics":
            monkeypatch.setattr(Broker, "ends", lambda _, partitions: dict.fromkeys(partitions, 0))
        case "another engine":
            monkeypatch.setattr(cache, "ENGINE", 99)
    assert evaluated(town) >= 40


def test_what_another_worker_wrote_since_is_compared_again(tmp_path: Path) -> None:
    """As one did that went by another SELECT meanwhile: neither the rows nor what they name have changed."""
    town = filled(tmp_path)
    view, inbox = VIEWS[1], town.bus.log(Partition(VIEWS[1].topic, ord("1") % PARTITIONS))
    row = {"permit_no": "c1", "version": -1, "e": None}
    inbox.append(b"c1", frame(INBOXES[1].schema_id, RowCodec(view.output).encode(row)), [("cause", b"other")], 0)
    assert evaluated(town) == 1


def test_a_hashed_row_that_another_worker_took_back_is_not_taken_back_again() -> None:
    """Also where the view was still being made ready when its partition flowed: then nothing counts as known."""
    rows = Rows()
    sent = Sent(INBOXES[0], rows)
    slots = rows.slots(0, [b"c1"])
    sent.load(0, slots, np.array([7], np.uint64))
    sent.known.discard(0)
    place = Partition(VIEWS[0].topic, 0)
    hashed = INBOXES[0].key(b"c1")
    batch = {"keys": [hashed], "values": [None], "headers": [[]], "timestamps_ms": [0], "offsets": [9]}
    sent.restore(Batch(partition=place, **batch))
    written = Written(0)
    assert sent.sweep(0, slots, 0) == []
    lot = Lot.of(slots, np.array([b"x"], np.object_), np.array([0]), fresh=False)
    sent.tombstones(lot, np.array([True]), written)
    assert written.outputs == []
