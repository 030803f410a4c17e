"""A database of a department's own, apart from the platform's, and the relay that publishes its outbox."""

from __future__ import annotations

import secrets as random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.infra.sessions import operator_session
from civicbus.names import DatasetId, DepartmentId
from civicbus.postgres import Session
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset
from support.platform import Platform, unique
from support.stages import StageProcess, everything


@dataclass(frozen=True, slots=True)
class Town:
    """A database with an owner of its own, who is no department."""

    platform: Platform
    name: str
    password: str

    @property
    def place(self) -> str:
        """Its connection string."""
        endpoints = self.platform.endpoints
        return make_conninfo(
            host=endpoints.database_host,
            port=endpoints.database_port,
            dbname=self.name,
            user=self.name,
            password=self.password,
        )

    def connect(self) -> Session:
        """A session of its owner."""
        return psycopg.connect(self.place, autocommit=True)

    def command(self, *words: str) -> str:
        """What a civicbus command printed; its fault is raised."""
        arguments = ["--home", str(self.platform.home), *words]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    def follow(self, dataset: DatasetId, table: str, session: Session) -> str:
        """Run the SQL that civicbus prints; what its last SELECT says."""
        said = session.execute(self.command("outbox", "sql", str(dataset), "--table", table).encode())
        rows = [result.fetchall() for result in said.results() if result.description is not None]
        return str(rows[-1][0][0])

    def add(self, department: DepartmentId, folder: Path) -> None:
        """Name this database as the department's."""
        file = folder / "connection"
        file.touch(0o600)
        file.write_text(self.place)
        self.command("outbox", "add", department, "--database", str(file))

    def back_up(self) -> None:
        """Keep what the database holds now; nobody may be connected."""
        self._copy(self.name, self.backup)

    def restore(self) -> None:
        """Bring the database back to where it was kept, whoever is connected."""
        self._copy(self.backup, self.name)

    @property
    def backup(self) -> str:
        return f"{self.name}_backup"

    def _copy(self, source: str, target: str) -> None:
        names = {"source": Identifier(source), "target": Identifier(target), "owner": Identifier(self.name)}
        with operator_session(self.platform.endpoints, self.platform.secrets) as session:
            for statement in (
                "DROP DATABASE IF EXISTS {target} WITH (FORCE)",
                "CREATE DATABASE {target} TEMPLATE {source} OWNER {owner}",
                "REVOKE ALL ON DATABASE {target} FROM PUBLIC",
            ):
                session.execute(SQL(statement).format(**names))


@contextmanager
def town(platform: Platform) -> Iterator[Town]:
    """A new database, dropped afterwards."""
    made = Town(platform, unique("town"), random.token_hex(8))
    name, password = Identifier(made.name), Literal(made.password)
    with operator_session(platform.endpoints, platform.secrets) as session:
        session.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, password))
        create = "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'"
        session.execute(SQL(create).format(name, name))
        session.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    yield made
    with operator_session(platform.endpoints, platform.secrets) as session:
        for database in (made.name, made.backup):
            session.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))
        session.execute(SQL("DROP ROLE {}").format(name))


def relay(home: Path, department: DepartmentId) -> StageProcess:
    """A relay of the department, not yet started."""
    return StageProcess("civicbus.producers.outbox", home, f"outbox-{department}", ("--department", department))


def records(platform: Platform, dataset: Dataset) -> dict[bytes, dict[str, object]]:
    """The current records of a dataset; a record whose sequence does not rise fails."""
    codec, rows = RowCodec(dataset.schema), {}
    highest: dict[bytes, int] = {}
    for record in everything(platform, dataset.id.records):
        sequence = int(dict(record.headers)["sequence"])
        assert sequence > highest.get(record.key, -1), "a record was admitted twice"
        highest[record.key] = sequence
        rows[record.key] = None if record.value is None else codec.decode(unframe(record.value)[1])
    return {key: row for key, row in rows.items() if row is not None}
