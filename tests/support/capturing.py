"""A department's own table in PostgreSQL, its capture, and the two processes that carry it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from civicbus.cli.applying import apply_catalogue
from civicbus.infra import connect
from civicbus.infra.databases import OPERATOR_ROLE
from civicbus.names import DepartmentId
from civicbus.postgres import Session
from civicbus.producers.capture.database import slot_name
from civicbus.schemas.datasets import Capture, Catalogue, Dataset, Department
from civicbus.secrets import OPERATOR
from civicbus.settings import Settings
from support.platform import Platform
from support.samples import TITLE
from support.stages import StageProcess, new_dataset, wait_for

PASSWORD = "it's: a \\ pass#word"
CONNECT_WITHIN_S = 120.0


def captured_dataset(platform: Platform, schema: str, capture: Capture) -> Dataset:
    """A dataset of a department of its own whose catalogue entry names a table; its key is the field ``id``."""
    dataset = replace(new_dataset(platform, schema, key=["id"]), capture=capture)
    owner = dataset.id.department
    entries = Catalogue(
        departments={owner: Department(id=owner, title=TITLE, code=owner)}, datasets={dataset.id: dataset}
    )
    apply_catalogue(platform.endpoints, platform.secrets, entries)
    return dataset


def superuser(platform: Platform, department: DepartmentId) -> Session:
    """The administrator of the department's database."""
    return psycopg.connect(
        host=platform.endpoints.database_host,
        port=platform.endpoints.database_port,
        user=OPERATOR_ROLE,
        password=platform.secrets.read(OPERATOR).password,
        dbname=department,
        autocommit=True,
    )


def make_role(administrator: Session, department: DepartmentId, options: str = "REPLICATION") -> str:
    """The role that a capture logs in with."""
    role = f"{department}_capture"
    administrator.execute(SQL(f"CREATE ROLE {{}} LOGIN {options} PASSWORD {{}}").format(Identifier(role), PASSWORD))
    administrator.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}").format(Identifier(department), Identifier(role)))
    return role


def prepare_table(administrator: Session, dataset: Dataset, role: str, table: str) -> None:
    """What the administrator does to have a table captured."""
    publication = Identifier(slot_name(dataset.id))
    for statement in (
        SQL("GRANT SELECT ON {} TO {}").format(SQL(table), Identifier(role)),
        SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(SQL(table)),
        SQL("CREATE PUBLICATION {} FOR TABLE {}").format(publication, SQL(table)),
        SQL("ALTER PUBLICATION {} OWNER TO {}").format(publication, Identifier(role)),
    ):
        administrator.execute(statement)


def connection_string(platform: Platform, department: DepartmentId, role: str) -> str:
    return make_conninfo(
        host=platform.endpoints.database_host,
        port=platform.endpoints.database_port,
        user=role,
        password=PASSWORD,
        dbname=department,
    )


def command(platform: Platform, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`civicbus <words>` on the platform's home."""
    return subprocess.run(
        [sys.executable, "-c", "from civicbus.cli.main import main; main()", "--home", str(platform.home), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("CIVICBUS_")},
    )


@dataclass
class ConnectProcess:
    """A department's Kafka Connect, as the supervisor would start it."""

    home: Path
    department: DepartmentId
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        self.launch()
        wait_for("Kafka Connect", lambda: self.answers() or None, CONNECT_WITHIN_S)

    def launch(self) -> None:
        words = ["--home", str(self.home), "--department", self.department, "--cache", str(Settings().cache_folder)]
        with (self.home / f"connect-{self.department}.test.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "civicbus.infra.connect", *words], stdout=log, stderr=log
            )

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-3000:]
        return connect.answers(self.home, self.department)

    def log(self) -> str:
        return (self.home / f"connect-{self.department}.test.log").read_text(errors="replace")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """In order: the first such stop of a machine leaves the cache that makes later starts quick."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(CONNECT_WITHIN_S)


@contextmanager
def capturing(platform: Platform, department: DepartmentId) -> Iterator[tuple[ConnectProcess, StageProcess]]:
    """Both processes of a department, until the end of the block."""
    engine = ConnectProcess(platform.home, department)
    converter = StageProcess(
        "civicbus.producers.capture", platform.home, f"capture-{department}", ("--department", department)
    )
    engine.launch()
    converter.launch()
    try:
        yield engine, converter
    finally:
        converter.stop()
        # A stop in order would have it write down for half a minute what makes later starts quick.
        engine.kill()
