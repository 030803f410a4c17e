"""The Java programs of the embedded platform, as locked: coordinate, file, size and sha256 of every jar.

Promise: a path that leaves here held exactly the locked bytes a moment ago. Broken files are deleted and
fetched again; what is whole is never fetched twice, by however many processes; once everything is there the
network is not touched. ``python -m civicbus.infra.jars --update`` writes the lock anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import IO

from civicbus.errors import ConfigurationError, IntegrityError, Unavailable
from civicbus.infra import maven
from civicbus.infra.background import in_background
from civicbus.infra.disk import full_disk_named, require_room

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes done and the bytes in all, from several threads."""

LOCK = Path(__file__).with_name("jars.lock")
CAPTURE = "capture"
"""The part that only a platform with a capture needs."""
PLATFORM = ("kafka", "registry")
"""The parts of every platform."""

# What the lock is made from. The first of several decides the versions of what they share.
# Not Kafka 4.3 or 4.4: a killed broker of these may leave a transaction hanging for ever (ADR 0004).
ROOTS: Mapping[str, Sequence[str]] = {
    "kafka": ("org.apache.kafka:kafka_2.13:4.2.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"),
    CAPTURE: (
        "org.apache.kafka:connect-runtime:4.2.1",
        "org.apache.kafka:connect-basic-auth-extension:4.2.0",
        "io.debezium:debezium-connector-postgres:3.6.3.Final",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
    ),
}
ARCHIVES: Mapping[str, str] = {"registry": "io.apicurio:apicurio-registry-app:tar.gz:all:3.3.3"}

_DOWNLOADS_AT_ONCE = 6
_PAUSES_S = (0.5, 2.0)  # between the three tries of a download
_UNCHANGING_TIME = 1_577_836_800  # the JVM's AOT cache knows its jars by time and size
_UNPACKED_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One locked file. An archive also has the digest of the files in it, see :func:`tree_digest`."""

    coordinate: str
    file: str
    size: int
    sha256: str
    tree: str | None = None


def silent(name: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def locked(part: str, lock: Path = LOCK) -> tuple[Jar, ...]:
    """The locked files of one part of the platform."""
    return tuple(Jar(**entry) for entry in tomllib.loads(lock.read_text())[part])


def jars(wanted: Sequence[Jar], cache: Path, progress: Progress = silent) -> tuple[Path, ...]:
    """Where the wanted jars are, whole; missing and broken ones are fetched first, several at a time.

    Raises IntegrityError or Unavailable naming the jar that cannot be had.
    """
    folder = cache / "jars"
    paths = tuple(folder / jar.file for jar in wanted)
    if not all(map(_is_whole, wanted, paths)):
        with _alone(folder):
            _fetch_missing([jar for jar in wanted if not _is_whole(jar, folder / jar.file)], folder, progress)
    return paths


def unpacked(archive: Jar, cache: Path, progress: Progress = silent) -> Path:
    """The folder with the archive's files, whole; fetched and unpacked anew where a byte of it differs."""
    folder = cache / "unpacked"
    tree = folder / archive.file.removesuffix(".tar.gz")
    if not _is_whole_tree(archive, tree):
        with _alone(folder):
            if not _is_whole_tree(archive, tree):
                _unpack_anew(archive, tree, progress)
    return tree


def lacking(cache: Path, parts: Collection[str], lock: Path = LOCK) -> list[Jar]:
    """The locked files of these parts that are missing or broken in this cache, so that a start would fetch them."""
    return [jar for part in parts for jar in locked(part, lock) if not _is_cached(jar, cache)]


def tree_digest(folder: Path) -> str:
    """One digest for the names and the bytes of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    lines = (f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_cached(jar: Jar, cache: Path) -> bool:
    if jar.tree is None:
        return _is_whole(jar, cache / "jars" / jar.file)
    return _is_whole_tree(jar, cache / "unpacked" / jar.file.removesuffix(".tar.gz"))


def _is_whole(jar: Jar, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == jar.size and _sha256(path) == jar.sha256


def _is_whole_tree(archive: Jar, tree: Path) -> bool:
    return tree.is_dir() and tree_digest(tree) == archive.tree


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes and threads, cleared of what a killed one left behind."""
    with _opened_lock(folder) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(".scratch-*"):
            shutil.rmtree(left)
        yield


def _opened_lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / "lock").open("w")
    except PermissionError:
        raise ConfigurationError(
            f"{folder} cannot be written", mend="set CIVICBUS_CACHE to a folder that can"
        ) from None


def _fetch_missing(missing: Sequence[Jar], folder: Path, progress: Progress) -> None:
    for jar in missing:
        (folder / jar.file).unlink(missing_ok=True)
    require_room(folder, sum(jar.size for jar in missing), "downloads")
    gate = Semaphore(_DOWNLOADS_AT_ONCE)
    # Not an executor: the end of this process would wait for all that is in its queue.
    outcomes = [in_background(partial(_fetch, jar, folder, progress, gate)) for jar in missing]
    wait(outcomes)
    for outcome in outcomes:
        outcome.result()


def _fetch(jar: Jar, folder: Path, progress: Progress, gate: Semaphore) -> None:
    """One download when it is its turn."""
    with gate:
        _fetch_patiently(jar, folder, progress)


def _fetch_patiently(jar: Jar, folder: Path, progress: Progress) -> None:
    """Try the user's Maven cache, then the network up to three times."""
    if _take_from_maven(jar, folder):
        progress(jar.file, jar.size, jar.size)
        return
    for pause_s in (*_PAUSES_S, None):
        try:
            _download(jar, folder, progress)
        except (IntegrityError, Unavailable):
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return


def _take_from_maven(jar: Jar, folder: Path) -> bool:
    source = maven.cached(jar.coordinate)
    if not _is_whole(jar, source):
        return False
    with _scratch(folder, jar) as scratch:
        _adopt(jar, shutil.copyfile(source, scratch / jar.file), folder)
    return True


def _download(jar: Jar, folder: Path, progress: Progress) -> None:
    with _scratch(folder, jar) as scratch:
        path = maven.download(jar.coordinate, scratch, lambda done, total: progress(jar.file, done, total))
        _adopt(jar, path, folder)


@contextmanager
def _scratch(folder: Path, jar: Jar) -> Iterator[Path]:
    """A folder for a file on its way; it goes, with whatever is in it, however this ends."""
    with (
        full_disk_named(folder, f"the download of {jar.file}"),
        tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder) as scratch,
    ):
        yield Path(scratch)


def _adopt(jar: Jar, path: Path, folder: Path) -> None:
    """Put a file in its place, if its bytes are the locked ones."""
    if not _is_whole(jar, path):
        raise IntegrityError(
            f"{jar.coordinate} was downloaded with other bytes than the lock names ({path.stat().st_size} of"
            f" {jar.size} bytes came)",
            mend="start again; if it stays so, the repository or a proxy on the way changes files",
        )
    os.utime(path, (_UNCHANGING_TIME, _UNCHANGING_TIME))
    path.replace(folder / jar.file)


def _unpack_anew(archive: Jar, tree: Path, progress: Progress) -> None:
    """Fetch the archive, unpack it aside, compare, put it in place; the archive itself is not kept."""
    folder = tree.parent
    shutil.rmtree(tree, ignore_errors=True)
    require_room(folder, archive.size * (1 + _UNPACKED_FACTOR), "a download and its unpacked files")
    if not _is_whole(archive, folder / archive.file):
        _fetch_missing([archive], folder, progress)
    with _scratch(folder, archive) as scratch:
        _unpack(folder / archive.file, scratch / tree.name)
        (scratch / tree.name).replace(tree)
    (folder / archive.file).unlink()
    if not _is_whole_tree(archive, tree):
        raise IntegrityError(f"{archive.file} unpacks to other files than the lock names", mend="look at the disk")


def _unpack(archive: Path, folder: Path) -> None:
    """The regular files of an archive whose bytes were checked before."""
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)


def update(lock: Path = LOCK) -> None:
    """Resolve the roots, fetch what they need, and write the lock."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        parts = {
            part: [_pinned(one, repository) for one in maven.resolve(roots, repository)]
            for part, roots in ROOTS.items()
        } | {part: [_pinned_archive(archive, repository)] for part, archive in ARCHIVES.items()}
    head = "# Written by `python -m civicbus.infra.jars --update`; the versions are chosen in jars.py.\n"
    lock.write_text(head + "".join(_toml(part, jar) for part, found in parts.items() for jar in found))


def _pinned(coordinate: str, repository: Path) -> Jar:
    path = maven.stored(coordinate, repository)
    return Jar(coordinate=coordinate, file=path.name, size=path.stat().st_size, sha256=_sha256(path))


def _pinned_archive(coordinate: str, repository: Path) -> Jar:
    jar = _pinned(coordinate, repository)
    with tempfile.TemporaryDirectory(dir=repository) as folder:
        _unpack(maven.stored(coordinate, repository), Path(folder))
        tree = tree_digest(Path(folder))
    return Jar(coordinate=jar.coordinate, file=jar.file, size=jar.size, sha256=jar.sha256, tree=tree)


def _toml(part: str, jar: Jar) -> str:
    lines = [f"[[{part}]]", f'coordinate = "{jar.coordinate}"', f'file = "{jar.file}"', f"size = {jar.size}"]
    lines += [f'{name} = "{value}"' for name in ("sha256", "tree") if (value := getattr(jar, name)) is not None]
    return "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python -m civicbus.infra.jars --update")
    update()
