"""The JVM's start cache, made and used by a real JVM."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from civicbus.infra.jars import jars, locked
from civicbus.infra.java import Program, QuickStart
from support import parts


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run of the program leaves when it stops in order."""
    folder = tmp_path_factory.mktemp("learned")
    quick = QuickStart(program=_program(), cache=folder / "start", home=folder)
    _run(quick)
    return quick.training.read_bytes()


def test_what_the_first_run_learned_is_used_by_the_next_of_any_home(learned: bytes, tmp_path: Path) -> None:
    program = _program()
    first, second = (QuickStart(program=program, cache=tmp_path / "start", home=tmp_path / name) for name in "ab")
    for quick in (first, second):
        quick.home.mkdir()
    first.training.write_bytes(learned)

    first.adopt()
    (cache,) = first.cache.iterdir()

    assert second.options() == (f"-XX:AOTCache={cache}",)
    assert "shared objects file" in _run(second, "-Xlog:class+load")
    assert list(first.home.iterdir()) == []


def test_a_training_that_is_damaged_in_the_middle_is_thrown_away(learned: bytes, tmp_path: Path) -> None:
    quick = QuickStart(program=_program(), cache=tmp_path / "start", home=tmp_path)
    middle = len(learned) // 2
    quick.training.write_bytes(learned[:middle] + bytes(1000) + learned[middle + 1000 :])

    quick.adopt()
    assert not quick.cache.exists()
    assert quick.options() == (f"-XX:AOTCacheOutput={quick.training}",)


def test_a_cache_folder_that_cannot_be_written_stops_no_start(learned: bytes, tmp_path: Path) -> None:
    quick = QuickStart(program=_program(), cache=tmp_path / "a file", home=tmp_path / "home")
    quick.home.mkdir()
    quick.cache.write_text("in the way")
    quick.training.write_bytes(learned)

    quick.adopt()
    assert quick.options() == (f"-XX:AOTCacheOutput={quick.training}",)
    assert quick.cache.read_text() == "in the way"


def _program() -> Program:
    """Kafka's storage tool: small, and of the locked jars."""
    classpath = jars(locked("kafka"), parts.settings(Path()).cache_folder)
    return Program(name="storage", classpath=classpath, main="kafka.tools.StorageTool", options=("-Xmx64m",))


def _run(quick: QuickStart, *options: str) -> str:
    command = quick.program.command("random-uuid", options=[*quick.options(), *options])
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
