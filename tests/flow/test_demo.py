"""The demo as its user runs it: the proof it prints, and nothing left behind however it ends."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from civicbus.infra import postgres
from support.demo import finished, start
from support.stages import wait_for


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    postgres.wipe(folder)


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


def test_a_killed_demo_leaves_nothing_and_the_next_one_says_equal_though_processes_are_killed_under_it(
    home: Path,
) -> None:
    demo = start(home, "--seconds", "60")
    wait_for("the demo to flow", lambda: flowing(home) or None, within_s=240)
    demo.kill()
    demo.wait()
    wait_for("nothing to run any more", lambda: of_home(home) == [] or None, within_s=60)

    (home / "demo.log").write_text("")
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
