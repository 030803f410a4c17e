"""The demo as its user runs it: the proof it prints, and nothing left behind however it ends."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from civicbus.infra import postgres
from support.chicago import FOLDER, needs_chicago
from support.stages import wait_for


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    postgres.wipe(folder)


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("civicbus")), "--home", str(home), "demo", "--json", *arguments]
    log = (home / "demo.log").open("a")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def finished(demo: subprocess.Popen[str], home: Path) -> dict[str, object]:
    out, _ = demo.communicate(timeout=400)
    said = (home / "demo.log").read_text(errors="replace")[-3000:]
    assert demo.returncode == 0, f"{out[-2000:]}\n{said}"
    return json.loads(out)


def of_home(home: Path) -> list[psutil.Process]:
    """Everything that runs on this home."""
    elsewhere = home / "postgres.place"  # PostgreSQL's files stand outside where its user cannot reach the home
    places = [str(home), *([elsewhere.read_text().strip()] if elsewhere.exists() else [])]
    found = []
    for process in psutil.process_iter():
        try:
            if any(place in " ".join(process.cmdline()) for place in places):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def flowing(home: Path) -> bool:
    """Whether the tables have been loaded and the demo's changes go on."""
    return "publishing citizen_services.petitions" in (home / "demo.log").read_text(errors="replace")


def test_processes_killed_under_the_demo_change_nothing_of_its_proof(home: Path) -> None:
    demo = start(home, "--seconds", "15", "--rate", "200")
    wait_for("the demo to flow", lambda: flowing(home) or None, within_s=240)
    chance = random.Random(5)
    for _ in range(3):
        snapshot = json.loads((home / "processes.json").read_text())
        victim = chance.choice([each for each in snapshot["processes"] if each["pid"]])
        psutil.Process(victim["pid"]).kill()
        time.sleep(3)  # kills come apart, as accidents do
    summary = finished(demo, home)
    assert summary["equal"] is True
    assert all(table["repeats"] == 0 and table["rows"] > 0 for table in summary["tables"])
    assert of_home(home) == []


def test_a_killed_demo_leaves_nothing_running_and_the_next_one_says_equal(home: Path) -> None:
    (home / "demo.log").write_text("")
    demo = start(home, "--seconds", "60")
    wait_for("the demo to flow", lambda: flowing(home) or None, within_s=240)
    demo.kill()
    demo.wait()
    wait_for("nothing to run any more", lambda: of_home(home) == [] or None, within_s=60)
    summary = finished(start(home, "--seconds", "2"), home)
    assert summary["equal"] is True
    assert of_home(home) == []


@needs_chicago
def test_the_records_of_chicago_arrive_whole(tmp_path: Path) -> None:
    summary = finished(start(tmp_path, "--data", str(FOLDER)), tmp_path)
    postgres.wipe(tmp_path)
    rows = {table["agreement"]: table["rows"] for table in summary["tables"]}
    assert rows["licence_terms"] == 15_514
    assert rows["inspections"] == 17_823
    assert rows["complaints"] == 55_167
    assert rows["license_register"] == 11_033
    assert summary["datasets"]["streets_sanitation.sanitation_complaints"]["repeated_keys"] == 176
    assert summary["refused"] == {"key_missing": 2}
    assert "inspection_visits.csv" in (tmp_path / "demo.log").read_text()
