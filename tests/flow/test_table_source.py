"""`civicbus publish` killed five times on the way, then run again: the topic's last state equals the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from civicbus.names import DatasetId
from civicbus.producers.journal import Journal
from civicbus.producers.table import ROW, read_csv
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from support.changes import Owned, latest, own
from support.chicago import FOLDER, needs_chicago
from support.entries import DEPARTMENT, ENTRY, SCHEMA, write_catalogue
from support.platform import Member, Platform

ROWS = 12_000
KILLS = 5


@dataclass(frozen=True, slots=True)
class Command:
    """`civicbus publish` for one dataset and file, as a process."""

    owned: Owned
    catalogue: Path
    journal: Path
    file: Path

    def start(self, *options: str) -> subprocess.Popen[str]:
        program = [sys.executable, "-c", "from civicbus.cli.main import main; main()"]
        home = ["--home", str(self.owned.platform.home)]
        what = ["publish", str(self.owned.dataset.id), str(self.file), *options]
        where = ["--catalogue", str(self.catalogue), "--journal", str(self.journal)]
        return subprocess.Popen(
            [*program, *home, *what, *where],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("CIVICBUS_")},
        )

    def run(self) -> dict[str, object]:
        output, errors = (process := self.start("--json")).communicate(timeout=120)
        assert process.returncode == 0, errors
        return json.loads(output)


def trees(count: int, *, changed: int = 0, gone: int = 0) -> str:
    rows = (f"T{number:06},{'lime' if number < changed else 'oak'},{number / 10},2024-02-29" for number in range(count))
    return "\n".join(["tree_no,species,height_m,planted_on", *list(rows)[gone:], ""])


@pytest.fixture
def command(platform: Platform, new_department: Callable[[str], Member], tmp_path: Path) -> Command:
    member = new_department("parks")
    catalogue = write_catalogue(
        tmp_path / "catalogue",
        entry=ENTRY.replace("id: parks.", f"id: {member.id}."),
        schema=SCHEMA.replace("civicbus.parks", f"civicbus.{member.id}"),
        department=DEPARTMENT.replace("id: parks", f"id: {member.id}"),
    )
    (catalogue / "parks").rename(catalogue / member.id)
    dataset = load_catalogue(catalogue).datasets[DatasetId(member.id, "trees")]
    return Command(own(platform, member, dataset), catalogue, tmp_path / "journal", tmp_path / "trees.csv")


def until(truth: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not truth():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        time.sleep(0.05)


def killed(command: Command, *, changes: int) -> None:
    """Run it until the topic holds so many changes, then kill -9."""
    process = command.start()
    with command.owned.counting() as count:
        until(lambda: count() >= changes or process.poll() is not None, f"{changes} changes")
    process.kill()
    process.communicate()


def stands_as(command: Command, file: str) -> None:
    """The last change of every record is the file's row, and nothing else is there."""
    rows = {change.key.decode(): command.owned.row(change) for change in latest(command.owned.changes()).values()}
    expected = {number: species for number, species, *_ in (line.split(",") for line in file.splitlines()[1:])}
    assert {key: row["species"] for key, row in rows.items() if row is not None} == expected


def test_a_publication_killed_five_times_ends_equal_with_nothing_sent_in_two_versions(command):
    file = trees(ROWS)
    command.file.write_text(file)
    for number in range(KILLS):
        killed(command, changes=number * ROWS // KILLS + 1)
    outcome = command.run()
    assert (outcome["rows"], outcome["unchanged"], outcome["waiting"]) == (ROWS, ROWS, 0)
    stands_as(command, file)
    changes = command.owned.changes()
    assert len({change.event.id for change in changes}) == ROWS
    assert command.run()["resent"] == command.run()["upserts"] == 0
    assert command.owned.count() == len(changes)


def test_what_changed_and_what_is_gone_is_published_although_killed(command):
    command.file.write_text(trees(ROWS))
    command.run()
    file = trees(ROWS, changed=6_000, gone=1_000)
    command.file.write_text(file)
    killed(command, changes=ROWS + 1)
    command.run()
    stands_as(command, file)
    assert len({change.event.id for change in command.owned.changes()}) == ROWS + 6_000


def test_ctrl_c_keeps_what_was_sent_and_says_how_to_go_on(command):
    file = trees(ROWS)
    command.file.write_text(file)
    process = command.start("--json")
    with command.owned.counting() as count:
        until(lambda: count() > 0, "a change")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    waiting = json.loads(output)["waiting"]
    assert command.owned.count() == ROWS - waiting
    outcome = command.run()
    assert (outcome["resent"], outcome["waiting"]) == (waiting, 0)
    stands_as(command, file)
    assert command.owned.count() == ROWS


def test_a_second_publication_at_the_same_time_is_told_so(command):
    command.file.write_text(trees(1))
    with Journal(command.journal, command.owned.dataset.id):
        process = command.start()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "another run publishes" in said
    assert command.run()["upserts"] == 1


def test_what_was_refused_repeated_and_not_published_is_said_with_its_rows(command):
    rows = ["T1,oak,1,2024-01-01,Li", "T2,oak,high,2024-01-01,Li", ",oak,1,2024-01-01,Li", "T1,lime,1,2024-01-01,Li"]
    command.file.write_text("\n".join(["tree_no,species,height_m,planted_on,owner", *rows, ""]))
    process = command.start()
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert said.splitlines() == [
        f"{command.owned.dataset.id}: 4 rows: 1 new or changed, 0 deleted, 0 unchanged, 2 refused",
        "  refused row 3: unreadable_row (height_m)",
        "  refused row 4: key_missing (tree_no)",
        "1 records stand in the file more than once; the last row of each was used:",
        "  repeated rows 2, 5",
        "columns that the catalogue does not have, not published: owner",
    ]


@needs_chicago
def test_the_complaints_of_chicago_killed_on_the_way_stand_as_in_their_file(platform, new_department, tmp_path):
    member = new_department("streets")
    catalogue = tmp_path / "catalogue" / member.id
    catalogue.mkdir(parents=True)
    for path in (shipped_catalogue() / "streets_sanitation").iterdir():
        text = path.read_text(encoding="utf-8").replace("streets_sanitation", member.id)
        (catalogue / path.name).write_text(text, encoding="utf-8")
    dataset = load_catalogue(catalogue.parent).datasets[DatasetId(member.id, "sanitation_complaints")]
    file = FOLDER / "streets_sanitation.sanitation_complaints.csv"
    command = Command(own(platform, member, dataset), catalogue.parent, tmp_path / "journal", file)

    killed(command, changes=10_000)
    outcome = command.run()

    assert (outcome["rows"], outcome["unchanged"], outcome["repeated_keys"]) == (55_343, 55_167, 176)
    rows = [command.owned.row(change) for change in latest(command.owned.changes()).values()]
    published = pl.DataFrame(rows, infer_schema_length=None)
    texts = read_csv(file, dataset).frame.unique("service_request_number", keep="last").drop(ROW)
    expected = texts.with_columns(
        pl.col("creation_date", "completion_date").str.to_date(), pl.col("latitude", "longitude").cast(pl.Float64)
    )
    assert published.sort("service_request_number").equals(
        expected.select(published.columns).sort("service_request_number")
    )
