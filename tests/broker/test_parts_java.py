"""The JVM's start cache, made and used by a real JVM."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support import parts

from civicbus.infra.jars import jars, locked
from civicbus.infra.java import Program, QuickStart


def test_what_the_first_run_learned_is_used_by_the_next_of_any_home(tmp_path: Path) -> None:
    program = _program()
    first, second = (QuickStart(program=program, cache=tmp_path / "start", home=tmp_path / name) for name in "ab")
    for quick in (first, second):
        quick.home.mkdir()

    _run(first)
    first.adopt()
    (cache,) = first.cache.iterdir()

    assert second.options() == (f"-XX:AOTCache={cache}",)
    assert "shared objects file" in _run(second, "-Xlog:class+load")
    assert list(first.home.iterdir()) == []


def test_a_training_that_was_cut_short_is_thrown_away(tmp_path: Path) -> None:
    quick = QuickStart(program=_program(), cache=tmp_path / "start", home=tmp_path)
    _run(quick)
    whole = quick.training.read_bytes()
    quick.training.write_bytes(whole[: len(whole) // 2] + bytes(1000) + whole[len(whole) // 2 + 1000 :])

    quick.adopt()
    assert not quick.cache.exists()
    assert quick.options() == (f"-XX:AOTCacheOutput={quick.training}",)


def _program() -> Program:
    """Kafka's storage tool: small, and of the locked jars."""
    classpath = jars(locked("kafka"), parts.settings(Path()).cache_folder)
    return Program(name="storage", classpath=classpath, main="kafka.tools.StorageTool", options=("-Xmx64m",))


def _run(quick: QuickStart, *options: str) -> str:
    command = quick.program.command("random-uuid", options=[*quick.options(), *options])
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
