"""A table of a department's own PostgreSQL is published as it changes, whatever process is killed on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from civicbus.postgres import Session
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Capture, Dataset
from support.capturing import (
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
    version: int = 0

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


@pytest.fixture(scope="module")
def place(platform, running_admission) -> Iterator[Place]:
    dataset = captured_dataset(platform, SCHEMA, Capture(table="public.things", columns={"name": "label"}))
    owner = dataset.id.department
    with closing(superuser(platform, owner)) as table:
        role = make_role(table, owner)
        table.execute("CREATE TABLE things (id bigint PRIMARY KEY, label text, large text, version bigint)")
        table.execute("INSERT INTO things SELECT n, 'thing ' || n, NULL, 0 FROM generate_series(1, 3000) n")
        prepare_table(table, dataset, role, "things")
        added = command(
            platform,
            "capture",
            "add",
            str(dataset.id),
            "--database",
            "-",
            stdin=connection_string(platform, owner, role),
        )
        assert added.returncode == 0, added.stderr
        with capturing(platform, owner) as (engine, converter):
            yield Place(platform, dataset, table, engine, converter)


def test_all_rows_then_each_change(place):
    place.settle()
    place.table.execute("UPDATE things SET version = 1 WHERE id <= 10")
    place.table.execute("DELETE FROM things WHERE id BETWEEN 11 AND 20")
    place.table.execute("UPDATE things SET id = -id WHERE id BETWEEN 21 AND 30")
    place.settle()
    assert parked(place.platform, place.dataset) == []
