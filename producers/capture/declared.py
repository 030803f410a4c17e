"""The captures of a home: ``<home>/captures/<department>.<dataset>.json``, and beside the secrets where each reads.

The file is the dataset as the catalogue has it. The password of the department's database stands alone in a file,
from which Kafka Connect reads it too; both files are for this user only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId, DepartmentId
from civicbus.postgres import Session, translated
from civicbus.schemas.datasets import Capture, Dataset
from civicbus.settings import capture_secrets_folder

_PASSWORD = "password"  # noqa: S105 - a file's name
_PLACE = "place"
_CONNECT_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where a department's table is: libpq's parameters without the password, and the password."""

    parameters: Mapping[str, str]
    password: str = field(repr=False)
    password_file: Path

    @classmethod
    def parse(cls, home: Path, dataset: DatasetId, text: str) -> Self:
        """From a connection string or URL; raises ConfigurationError for anything else, without repeating it."""
        try:
            found = {name: str(value) for name, value in conninfo_to_dict(text.strip()).items()}
        except psycopg.ProgrammingError:
            raise ConfigurationError(
                "the connection string cannot be read", mend="write postgresql://user:password@host:port/database"
            ) from None
        missing = [name for name in ("host", "user", "password", "dbname") if not found.get(name)]
        if missing:
            raise ConfigurationError(
                f"the connection string has no {', '.join(missing)}",
                mend="write postgresql://user:password@host:port/database",
            )
        password = found.pop("password")
        return cls(parameters=found, password=password, password_file=_folder(home, dataset) / _PASSWORD)

    @classmethod
    def load(cls, home: Path, dataset: DatasetId) -> Self:
        """Raises ConfigurationError where the files are not there."""
        folder = _folder(home, dataset)
        try:
            place, password = (folder / _PLACE).read_text(), (folder / _PASSWORD).read_text()
        except FileNotFoundError:
            raise _undeclared(dataset) from None
        parameters = {name: str(value) for name, value in conninfo_to_dict(place).items()}
        return cls(parameters=parameters, password=password, password_file=folder / _PASSWORD)

    def save(self) -> None:
        folder = self.password_file.parent
        folder.mkdir(parents=True, exist_ok=True)
        for private in (folder.parent, folder):
            private.chmod(0o700)
        _write_private(folder / _PLACE, make_conninfo(**self.parameters))
        _write_private(self.password_file, self.password)

    def connect(self) -> Session:
        """A session that commits each statement by itself; raises Unavailable or AccessDenied."""
        with translated():
            return psycopg.connect(
                make_conninfo(**self.parameters, password=self.password),
                autocommit=True,
                connect_timeout=_CONNECT_S,
                application_name="civicbus capture",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One capture: the dataset, its table, and the database that the table is in."""

    dataset: Dataset
    capture: Capture
    database: Database


def declared(home: Path, department: DepartmentId) -> dict[DatasetId, int]:
    """The datasets of a department that are captured here, each with the version of its declaration."""
    files = _captures(home).glob(f"{department}.*.json")
    return {DatasetId.parse(path.stem): path.stat().st_mtime_ns for path in sorted(files)}


def load(home: Path, dataset: DatasetId) -> Declared:
    """Raises ConfigurationError where the dataset is not captured here."""
    try:
        found = Dataset.from_json(_file(home, dataset).read_bytes())
    except FileNotFoundError:
        raise _undeclared(dataset) from None
    return Declared(dataset=found, capture=capture_of(found), database=Database.load(home, dataset))


def declare(home: Path, dataset: Dataset, database: Database) -> None:
    """Have a dataset captured here from now on."""
    database.save()
    _captures(home).mkdir(parents=True, exist_ok=True)
    draft = _file(home, dataset.id).with_suffix(".new")
    draft.write_bytes(dataset.to_json())
    draft.replace(_file(home, dataset.id))


def withdraw(home: Path, dataset: DatasetId) -> None:
    """Have it captured no more; its secret stays until :func:`forget`."""
    _file(home, dataset).unlink(missing_ok=True)


def forget(home: Path, dataset: DatasetId) -> None:
    """Remove the secret."""
    shutil.rmtree(_folder(home, dataset), ignore_errors=True)


def capture_of(dataset: Dataset) -> Capture:
    """Raises ConfigurationError where the catalogue names no table."""
    if dataset.capture is None:
        raise ConfigurationError(
            f"the catalogue names no table of {dataset.id}",
            mend="add `capture: {table: schema.table}` to its entry, then run `civicbus catalogue apply`",
        )
    return dataset.capture


def _captures(home: Path) -> Path:
    return home / "captures"


def _file(home: Path, dataset: DatasetId) -> Path:
    return _captures(home) / f"{dataset}.json"


def _folder(home: Path, dataset: DatasetId) -> Path:
    return capture_secrets_folder(home) / str(dataset)


def _undeclared(dataset: DatasetId) -> ConfigurationError:
    return ConfigurationError(f"{dataset} is not captured here", mend=f"run `civicbus capture add {dataset}`")


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
