"""A program that publishes with a spool is killed again and again, and the broker once: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.events import SEQUENCE
from civicbus.infra.processes import Snapshot
from civicbus.names import DatasetId, department_id
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset
from civicbus.secrets import principal_of
from support.entries import DEPARTMENT, ENTRY, write_catalogue
from support.entries import SCHEMA as SCHEMA_OF_TREES
from support.following import follow
from support.platform import Platform, unique
from support.spooling_program import RECORDS, WORDS, row
from support.stages import everything, new_dataset, parked, wait_for

SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "word",
        "fields": [
            {"name": "number", "type": "string"},
            {"name": "word", "type": "string"},
            {"name": "version", "type": "int"},
        ],
    }
)
VERSIONS = 3_000
KILLS = 5


@dataclass(frozen=True, slots=True)
class Program:
    """The program, its spool, and what it has written of its progress."""

    platform: Platform
    dataset: Dataset
    folder: Path

    def start(self) -> subprocess.Popen[bytes]:
        described = self.folder / "dataset.json"
        described.write_bytes(self.dataset.to_json())
        words = [self.platform.home, described, self.folder / "spool", self.folder / "progress", VERSIONS]
        return subprocess.Popen(
            [sys.executable, "-m", "support.spooling_program", *map(str, words)],
            cwd=Path(__file__).parents[1],
            stderr=(self.folder / "errors").open("ab"),
        )

    def come(self) -> int:
        progress = self.folder / "progress"
        return int(progress.read_text() or 0) if progress.exists() else 0

    def comes_to(self, version: int, process: subprocess.Popen[bytes]) -> None:
        def there() -> bool | None:
            assert process.poll() in (None, 0), (self.folder / "errors").read_text()[-3000:]
            return self.come() >= version or None

        wait_for(f"version {version}", there, within_s=60)


@contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Killed at the end of the block, whatever happened in it."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill_broker(platform: Platform) -> None:
    """kill -9; the platform's supervisor starts it again."""
    processes = {process.name: process for process in Snapshot.load(platform.home).processes}
    if "kafka" not in processes or processes["kafka"].pid is None:
        pytest.skip("the broker is none of this platform's own processes")
    os.kill(processes["kafka"].pid, signal.SIGKILL)


def test_a_program_killed_five_times_and_the_broker_once_loses_nothing_and_says_nothing_twice(
    platform, running_admission, tmp_path
):
    dataset = new_dataset(platform, SCHEMA, key=["number"], partitions=2)
    program = Program(platform, dataset, tmp_path)
    for number in range(KILLS):
        with running(program.start()) as process:
            program.comes_to(program.come() + VERSIONS // (KILLS + 2), process)
            if number == KILLS // 2:
                kill_broker(platform)
                program.comes_to(program.come() + 100, process)
    with running(program.start()) as last:
        assert last.wait(60) == 0, (tmp_path / "errors").read_text()[-3000:]

    codec = RowCodec(dataset.schema)
    meant = {str(version % RECORDS): row(version) for version in range(1, VERSIONS + 1)}

    def arrived() -> dict[str, dict[str, object]]:
        return {
            record.key.decode(): codec.decode(unframe(record.value)[1])
            for record in everything(platform, dataset.id.records)
        }

    wait_for("the last version of every record", lambda: arrived() == meant or None, within_s=60)
    assert parked(platform, dataset) == []
    records = everything(platform, dataset.id.records)
    sequences = [(record.key, dict(record.headers)[SEQUENCE]) for record in records]
    assert len(sequences) == len(set(sequences))
    assert {row["word"] for row in arrived().values()} >= set(WORDS)


def test_the_page_followed_literally_ends_in_admitted_records(platform, running_admission, gardens, tmp_path):
    said = follow("sdk.md", platform, tmp_path, gardens)
    assert re.search(r"Position\(partition=\d, offset=0\)", said)
    assert "20 rows: 20 would be admitted, 0 refused" in said
    assert "1 passed" in said
    dataset = load_catalogue(tmp_path / "my_catalogue").datasets[DatasetId(department_id(gardens), "trees")]
    keys = {f"T{number:04}" for number in range(3, 104)}
    wait_for(
        "every tree of the page",
        lambda: {record.key.decode() for record in everything(platform, dataset.id.records)} == keys or None,
    )
    assert parked(platform, dataset) == []


def test_a_department_without_credentials_is_given_them_with_its_generated_records(platform, tmp_path):
    new = unique("parks")
    catalogue = write_catalogue(
        tmp_path / "catalogue",
        entry=ENTRY.replace("parks.", f"{new}."),
        schema=SCHEMA_OF_TREES.replace("civicbus.parks", f"civicbus.{new}"),
        department=DEPARTMENT.replace("id: parks", f"id: {new}"),
    )
    (catalogue / "parks").rename(catalogue / new)
    words = ["--home", platform.home, "sandbox", "make", new, "--into", tmp_path / "made", "--catalogue", catalogue]
    for said in ("user, rights and database are made", "its secret is in"):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert (done.exit_code, said in done.output) == (0, True), done.output
    assert platform.secrets.read(principal_of(department_id(new)))
    assert (tmp_path / "made" / f"generated.{new}.trees.csv").exists()
