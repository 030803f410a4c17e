"""Which departments have a table process: ``<home>/services.json``, which the supervisor reads every second.

Whoever activates the first agreement of a department adds it; the supervisor then starts the process.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from civicbus.errors import ConfigurationError
from civicbus.infra.processes import replace_text
from civicbus.names import DepartmentId


class _Services(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: frozenset[DepartmentId] = frozenset()


def departments_with_tables(home: Path) -> tuple[DepartmentId, ...]:
    """Raises ConfigurationError where the file is not what civicbus wrote."""
    return tuple(sorted(_read(home).tables))


def add_tables(home: Path, departments: Iterable[DepartmentId]) -> None:
    """Have a table process run for each of these departments."""
    _change(home, add=frozenset(departments))


def remove_tables(home: Path, departments: Iterable[DepartmentId]) -> None:
    """Have no table process run for any of these departments."""
    _change(home, remove=frozenset(departments))


def services_file(home: Path) -> Path:
    return home / "services.json"


def _change(
    home: Path, add: frozenset[DepartmentId] = frozenset(), remove: frozenset[DepartmentId] = frozenset()
) -> None:
    home.mkdir(parents=True, exist_ok=True)
    with services_file(home).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tables = _read(home).tables
        if (wanted := (tables | add) - remove) != tables:
            replace_text(services_file(home), _Services(tables=wanted).model_dump_json())


def _read(home: Path) -> _Services:
    path = services_file(home)
    try:
        return _Services.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Services()
    except ValidationError:
        raise ConfigurationError(f"{path} is damaged", mend="delete it and activate the agreements again") from None
