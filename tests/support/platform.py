"""A running platform and its members, as tests see them."""

from __future__ import annotations

import secrets as random
from dataclasses import dataclass, field
from pathlib import Path

from civicbus.names import DatasetId, DepartmentId
from civicbus.secrets import Credentials, SecretStore
from civicbus.settings import Endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Broker, registry and database that answer, provisioned, without the platform's own processes.

    ``shared``: it was there before the tests and others use it too.
    """

    home: Path
    endpoints: Endpoints
    secrets: SecretStore
    shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A department and its credentials."""

    id: DepartmentId
    credentials: Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How long a dataset's topics keep what they hold."""

    changes_days: int = 7
    quarantine_days: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """As much of a dataset as topics are made from."""

    id: DatasetId
    partitions: int = 1
    retention: Kept = field(default_factory=Kept)


def unique(stem: str) -> str:
    """A valid name that begins so and was never used before."""
    return f"{stem}_{random.token_hex(4)}"
