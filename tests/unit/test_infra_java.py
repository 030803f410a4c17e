"""What the JVM is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from civicbus.infra.java import Program, QuickStart, properties

PROGRAM = Program(name="made-up", classpath=(Path("/nowhere/made-up.jar"),), main="Main", options=("-Xmx32m",))


def test_properties_carry_any_path_in_ascii() -> None:
    text = properties({"log.dirs": "/数据/𠀀 ü\\x"})

    assert text == "log.dirs=/\\u6570\\u636e/\\ud840\\udc00 \\u00fc\\\\x\n"


def test_a_damaged_start_cache_is_deleted_and_a_new_one_asked_for(tmp_path: Path) -> None:
    quick = QuickStart(program=PROGRAM, cache=tmp_path / "cache", home=tmp_path)
    quick.cache.mkdir()
    damaged = quick.cache / f"made-up-{PROGRAM.identity()}-{'0' * 32}.aot"
    damaged.write_bytes(b"not what was written")

    assert quick.options() == (f"-XX:AOTCacheOutput={quick.training}",)
    assert not damaged.exists()


def test_a_start_cache_belongs_to_one_program_with_its_options() -> None:
    assert PROGRAM.identity() != replace(PROGRAM, options=("-Xmx64m",)).identity()
    assert PROGRAM.identity() != replace(PROGRAM, classpath=(Path("/elsewhere/made-up.jar"),)).identity()


def test_what_a_training_left_is_not_adopted_when_the_jvm_refuses_it(tmp_path: Path) -> None:
    quick = QuickStart(program=PROGRAM, cache=tmp_path / "cache", home=tmp_path)
    quick.training.write_bytes(b"cut short")

    quick.adopt()
    assert not quick.training.exists()
    assert not quick.cache.exists()
