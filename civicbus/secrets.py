"""One random secret per principal, in a folder of mode 0700 with one file of mode 0600 each.

A secret never stands in an argument, the environment, a log or an error; ``Credentials`` prints without it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType

from civicbus.errors import ConfigurationError
from civicbus.names import AgreementId, DepartmentId

Principal = NewType("Principal", str)

# Platform principals carry a hyphen, which no department name can.
OPERATOR = Principal("platform-operator")
BROKER = Principal("platform-broker")
ADMISSION = Principal("platform-admission")
VIEWS = Principal("platform-views")
INGRESS = Principal("platform-ingress")


def principal_of(department: DepartmentId) -> Principal:
    """A department's principal has the department's name."""
    return Principal(department)


def agreement_secret(agreement: AgreementId) -> Principal:
    """Whose password is the key of ``hash`` and of hashed record keys in one agreement."""
    return Principal(f"agreement-{agreement}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A principal and its password, the same for the broker and the database."""

    principal: Principal
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretStore:
    """The folder of secrets."""

    folder: Path

    def read(self, principal: Principal) -> Credentials:
        """Raises ConfigurationError where the principal has no secret or the file is not private."""
        path = self.location(principal)
        try:
            mode = path.stat().st_mode
            text = path.read_text()
        except FileNotFoundError:
            raise ConfigurationError(
                f"no secret for {principal} in {self.folder}", mend=f"run `civicbus department add {principal}`"
            ) from None
        if mode & 0o077:
            raise ConfigurationError(f"{path} is readable by others", mend=f"run `chmod 600 {path}`")
        return Credentials(principal, json.loads(text)["password"])

    def ensure(self, principal: Principal) -> Credentials:
        """The principal's credentials, made now where there are none."""
        if not self.location(principal).exists():
            self.write(fresh(principal))
        return self.read(principal)

    def write(self, credentials: Credentials) -> None:
        """Store credentials in place of older ones, atomically, readable by this user only."""
        self._write(self.location(credentials.principal), credentials)

    def prepare(self, principal: Principal) -> Credentials:
        """The secret that shall replace the principal's; written down before anybody learns it.

        The same one is returned until ``adopt``, so that a rotation that was cut short can be finished.
        """
        path = self._prepared_path(principal)
        if not path.exists():
            self._write(path, fresh(principal))
        return Credentials(principal, json.loads(path.read_text())["password"])

    def candidates(self, principal: Principal) -> tuple[Credentials, ...]:
        """The principal's secret, and behind it the one that a rotation cut short may have made true already."""
        path = self._prepared_path(principal)
        if not path.exists():
            return (self.read(principal),)
        return (self.read(principal), Credentials(principal, json.loads(path.read_text())["password"]))

    def prepared(self) -> tuple[Principal, ...]:
        """The principals whose rotation was begun and not finished."""
        return tuple(Principal(path.stem) for path in sorted(self.folder.glob("*.next")))

    def adopt(self, principal: Principal) -> None:
        """The prepared secret becomes the principal's."""
        self._prepared_path(principal).replace(self.location(principal))

    def _write(self, path: Path, credentials: Credentials) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"principal": credentials.principal, "password": credentials.password}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def principals(self) -> Iterator[Principal]:
        return (Principal(path.stem) for path in sorted(self.folder.glob("*.json")))

    def location(self, principal: Principal) -> Path:
        """Where the principal's secret is kept."""
        return self.folder / f"{principal}.json"

    def _prepared_path(self, principal: Principal) -> Path:
        return self.folder / f"{principal}.next"


def fresh(principal: Principal) -> Credentials:
    """New credentials with a password of 256 random bits."""
    return Credentials(principal, secrets.token_urlsafe(32))
