"""Downloads of locked jars, from a Maven repository on loopback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from civicbus.errors import ConfigurationError, IntegrityError, Unavailable
from civicbus.infra.disk import full_disk_named
from civicbus.infra.jars import ARCHIVES, ROOTS, Jar, jars, locked, tree_digest, unpacked
from support.maven_repository import Repository, repository

ONE, OTHER = b"one jar's bytes " * 50_000, b"another jar's bytes " * 50_000


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with repository() as found:
        monkeypatch.setenv("JGO_CONFIG_FILE", str(found.configuration(tmp_path)))
        monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
        yield found


def test_jars_are_fetched_once_and_then_need_no_network(maven: Repository, tmp_path: Path) -> None:
    wanted = [maven.publish("one", ONE), maven.publish("other", OTHER)]
    told: list[tuple[str, int, int]] = []

    found = jars(wanted, tmp_path, lambda *news: told.append(news))
    maven.served.clear()

    assert [path.read_bytes() for path in found] == [ONE, OTHER]
    assert ("one-1.0.jar", len(ONE), len(ONE)) in told
    assert jars(wanted, tmp_path) == found
    assert maven.asked["one-1.0.jar"] == maven.asked["other-1.0.jar"] == 1


def test_a_truncated_jar_is_deleted_and_fetched_again(maven: Repository, tmp_path: Path) -> None:
    wanted = [maven.publish("one", ONE)]
    (path,) = jars(wanted, tmp_path)
    path.write_bytes(ONE[:-1])

    assert jars(wanted, tmp_path) == (path,)
    assert path.read_bytes() == ONE


def test_a_jar_changed_without_changing_its_size_is_not_used(maven: Repository, tmp_path: Path) -> None:
    wanted = [maven.publish("one", ONE)]
    (path,) = jars(wanted, tmp_path)
    path.write_bytes(ONE[:-1] + b"!")

    jars(wanted, tmp_path)
    assert path.read_bytes() == ONE


def test_a_download_that_breaks_off_is_tried_again(maven: Repository, tmp_path: Path) -> None:
    wanted = [maven.publish("one", ONE)]
    maven.cut["one-1.0.jar"] = 1

    (path,) = jars(wanted, tmp_path)
    assert path.read_bytes() == ONE
    assert maven.asked["one-1.0.jar"] == 2


def test_a_jar_with_other_bytes_never_reaches_the_cache(maven: Repository, tmp_path: Path) -> None:
    wanted = maven.publish("one", ONE)
    maven.served[wanted.file] = ONE[:-1] + b"!"

    with pytest.raises(IntegrityError, match=r"test\.made\.up:one:jar:1\.0"):
        jars([wanted], tmp_path)
    assert _files(tmp_path / "jars") == ["lock"]


def test_a_jar_that_nobody_serves_is_named(maven: Repository, tmp_path: Path) -> None:
    wanted = maven.publish("one", ONE)
    maven.served.clear()

    with pytest.raises(Unavailable, match=r"test\.made\.up:one"):
        jars([wanted], tmp_path)
    assert _files(tmp_path / "jars") == ["lock"]


def test_two_starts_at_once_share_the_downloads(maven: Repository, tmp_path: Path) -> None:
    wanted = [maven.publish(f"jar{number}", ONE + bytes([number])) for number in range(8)]
    program = f"""
from pathlib import Path
from civicbus.infra.jars import Jar, jars
jars([Jar(**entry) for entry in {[asdict(jar) for jar in wanted]!r}], Path({str(tmp_path)!r}))
"""
    starts = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]

    assert [start.wait(60) for start in starts] == [0, 0]
    assert all(maven.asked[jar.file] == 1 for jar in wanted)
    assert _files(tmp_path / "jars") == sorted([jar.file for jar in wanted] + ["lock"])


def test_what_a_killed_download_left_is_cleared_away(maven: Repository, tmp_path: Path) -> None:
    left = tmp_path / "jars" / ".scratch-killed"
    left.mkdir(parents=True)
    (left / "half.jar").write_bytes(b"half")

    jars([maven.publish("one", ONE)], tmp_path)
    assert not left.exists()


def test_the_users_maven_cache_is_asked_before_the_network(maven: Repository, tmp_path: Path) -> None:
    wanted = maven.publish("one", ONE)
    kept = Path(os.environ["M2_REPO"]) / "test/made/up/one/1.0" / wanted.file
    kept.parent.mkdir(parents=True)
    kept.write_bytes(ONE)

    (path,) = jars([wanted], tmp_path)
    assert path.read_bytes() == kept.read_bytes() == ONE
    assert maven.asked[wanted.file] == 0


def test_an_archive_with_a_damaged_file_is_unpacked_anew(maven: Repository, tmp_path: Path) -> None:
    archive = _archive(maven, tmp_path, {"app/run.jar": b"run", "lib/main.jar": b"main"})
    tree = unpacked(archive, tmp_path)
    (tree / "lib" / "main.jar").write_bytes(b"MAIN")

    assert unpacked(archive, tmp_path) == tree
    assert (tree / "lib" / "main.jar").read_bytes() == b"main"
    assert maven.asked[archive.file] == 2


def test_a_file_added_to_an_unpacked_archive_is_not_used(maven: Repository, tmp_path: Path) -> None:
    archive = _archive(maven, tmp_path, {"app/run.jar": b"run"})
    tree = unpacked(archive, tmp_path)
    (tree / "app" / "more.jar").write_bytes(b"more")

    unpacked(archive, tmp_path)
    assert _files(tree / "app") == ["run.jar"]


def test_too_little_room_is_told_before_anything_is_fetched(maven: Repository, tmp_path: Path) -> None:
    wanted = replace(maven.publish("one", ONE), size=10**18)

    with pytest.raises(ConfigurationError, match=r"downloads need 1,000,000,000,000 MB, [\d,]+ MB are free"):
        jars([wanted], tmp_path)
    assert maven.asked[wanted.file] == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_disk_that_fills_up_on_the_way_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"the disk of .* is full: the jars did not fit, [\d,]+ MB are free"),
        full_disk_named(tmp_path, "the jars"),
    ):
        Path("/dev/full").write_bytes(b"x")


def test_the_committed_lock_pins_every_root() -> None:
    for part in [*ROOTS, *ARCHIVES]:
        pinned = locked(part)
        assert all(len(jar.sha256) == 64 and jar.size > 0 and "://" not in jar.coordinate for jar in pinned)
        assert len({jar.file for jar in pinned}) == len(pinned)
    assert {_without_packaging(jar.coordinate) for jar in locked("kafka")} >= set(ROOTS["kafka"])
    assert [jar.coordinate for jar in locked("registry")] == [ARCHIVES["registry"]]


def _without_packaging(coordinate: str) -> str:
    return coordinate.replace(":jar:", ":")


def _archive(maven: Repository, folder: Path, content: dict[str, bytes]) -> Jar:
    buffer, tree = io.BytesIO(), folder / "made"
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in content.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(data)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    jar = maven.publish("archive", buffer.getvalue())
    maven.served["archive-1.0-all.tar.gz"] = maven.served.pop(jar.file)
    return replace(
        jar,
        coordinate="test.made.up:archive:tar.gz:all:1.0",
        file="archive-1.0-all.tar.gz",
        tree=tree_digest(tree),
    )


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
