"""Which processes departments have here: ``<home>/services.json``, which the supervisor reads every second.

Whoever gives a department its first agreement, or another way to publish, adds it; the supervisor then starts
the process.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from civicbus.errors import ConfigurationError
from civicbus.infra.processes import replace_text
from civicbus.names import DepartmentId


class Role(StrEnum):
    """What a process does for one department."""

    TABLE = "table"
    OUTBOX = "outbox"
    FOLDER = "folder"
    CAPTURE = "capture"


class _Services(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    departments: Mapping[Role, frozenset[DepartmentId]] = {}
    ingress: bool = False


def departments_with(home: Path, role: Role) -> tuple[DepartmentId, ...]:
    """Raises ConfigurationError where the file is not what civicbus wrote."""
    return tuple(sorted(_read(home).departments.get(role, ())))


def has_ingress(home: Path) -> bool:
    """Whether changes are taken over HTTP; raises ConfigurationError as ``departments_with`` does."""
    return _read(home).ingress


def add_processes(home: Path, role: Role, departments: Iterable[DepartmentId]) -> None:
    """Have a process of this role run for each of these departments."""
    _change(home, role, add=frozenset(departments))


def remove_processes(home: Path, role: Role, departments: Iterable[DepartmentId]) -> None:
    """Have no process of this role run for any of these departments."""
    _change(home, role, remove=frozenset(departments))


def set_ingress(home: Path, *, wanted: bool) -> None:
    """Have changes taken over HTTP, or not."""
    with _alone(home) as services:
        _write(home, services, services.model_copy(update={"ingress": wanted}))


def services_file(home: Path) -> Path:
    return home / "services.json"


def _change(
    home: Path,
    role: Role,
    *,
    add: frozenset[DepartmentId] = frozenset(),
    remove: frozenset[DepartmentId] = frozenset(),
) -> None:
    with _alone(home) as services:
        wanted = (services.departments.get(role, frozenset()) | add) - remove
        _write(home, services, services.model_copy(update={"departments": {**services.departments, role: wanted}}))


@contextmanager
def _alone(home: Path) -> Iterator[_Services]:
    home.mkdir(parents=True, exist_ok=True)
    with services_file(home).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _read(home)


def _write(home: Path, before: _Services, after: _Services) -> None:
    if after != before:
        replace_text(services_file(home), after.model_dump_json())


def _read(home: Path) -> _Services:
    path = services_file(home)
    try:
        return _Services.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Services()
    except ValidationError:
        raise ConfigurationError(f"{path} is damaged", mend="delete it and activate the agreements again") from None
