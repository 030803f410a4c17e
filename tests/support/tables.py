"""A department's table process as a process of its own, and its database seen with the department's eyes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from civicbus.consumers.database import connect
from civicbus.names import AgreementId, DepartmentId
from civicbus.postgres import Session
from civicbus.secrets import SecretStore, principal_of
from civicbus.settings import Endpoints
from support.inboxes import eventually


class Sink:
    """One table process; close it, or use ``with``."""

    def __init__(self, home: Path, department: DepartmentId, log: Path) -> None:
        self._command = [
            sys.executable, "-m", "civicbus.consumers.table", "--home", str(home), "--department", department,
        ]  # fmt: skip
        self.log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, stderr=log, stdout=log)

    def again(self) -> None:
        self.process.wait(30)
        self.process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(30)


class Tables:
    """The tables of a department."""

    def __init__(self, endpoints: Endpoints, secrets: SecretStore, department: DepartmentId) -> None:
        self.session: Session = connect(endpoints, secrets.read(principal_of(department)))
        self.session.prepare_threshold = None  # tables change shape under prepared statements

    def rows(self, agreement: AgreementId) -> dict[str, dict[str, object]]:
        """Every row by its key."""
        with self.session.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(SQL("SELECT * FROM inbox.{}").format(Identifier(agreement))).fetchall()
        return {row.pop("record_key"): row for row in found}

    def become(self, agreement: AgreementId, expected: Mapping[str, object], within_s: float = 60.0) -> None:
        """Wait until the table holds exactly these rows."""
        with suppress(AssertionError):
            eventually(lambda: self.rows(agreement) == expected, within_s)
        assert self.rows(agreement) == expected

    def value(self, query: str, *arguments: object) -> object:
        row = self.session.execute(SQL(query), arguments).fetchone()
        return None if row is None else row[0]
