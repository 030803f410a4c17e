"""API keys: one a department, of 256 random bits, of which only a salted hash is kept.

A key is ``<department>.<secret>``. A plain hash is enough: nobody guesses 256 bits, so there is nothing to slow down.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from civicbus.errors import ConfigurationError
from civicbus.names import DepartmentId


class _Hashed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str
    hash: str


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    departments: Mapping[DepartmentId, _Hashed] = {}


_NOBODYS = _Hashed(salt="", hash="0" * 64)


class KeyFile:
    """The hashes of all keys, in one file of mode 0600 that is read again when it was replaced."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "keys.json"
        self._read_as: tuple[int, int] | None = None
        self._keys = _Keys()

    def make(self, department: DepartmentId) -> str:
        """A new key, told once; the department's earlier one is no longer taken."""
        salt, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
        with self._alone() as keys:
            hashed = _Hashed(salt=salt, hash=_hash(salt, secret))
            self._write({**keys.departments, department: hashed})
        return f"{department}.{secret}"

    def revoke(self, department: DepartmentId) -> bool:
        """Take the department's key no longer; returns whether it had one."""
        with self._alone() as keys:
            self._write({name: hashed for name, hashed in keys.departments.items() if name != department})
        return department in keys.departments

    def departments(self) -> tuple[DepartmentId, ...]:
        """Who has a key."""
        return tuple(sorted(self._current().departments))

    def holder(self, key: str) -> DepartmentId | None:
        """Whose key this is; takes as long for a wrong one as for a right one."""
        name, _, secret = key.partition(".")
        department = DepartmentId(name)
        known = self._current().departments.get(department, _NOBODYS)
        right = hmac.compare_digest(_hash(known.salt, secret), known.hash)
        return department if right and known is not _NOBODYS else None

    def _current(self) -> _Keys:
        try:
            stands = self._path.stat()
        except FileNotFoundError:
            self._read_as, self._keys = None, _Keys()
            return self._keys
        if (stands.st_ino, stands.st_mtime_ns) != self._read_as:
            self._keys = self._read()
            self._read_as = (stands.st_ino, stands.st_mtime_ns)
        return self._keys

    def _read(self) -> _Keys:
        try:
            return _Keys.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Keys()
        except ValidationError:
            raise ConfigurationError(f"{self._path} is damaged", mend="delete it and make the keys again") from None

    @contextmanager
    def _alone(self) -> Iterator[_Keys]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._read()

    def _write(self, departments: Mapping[DepartmentId, _Hashed]) -> None:
        draft = self._path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(_Keys(departments=departments).model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode("utf-8", "replace")).hexdigest()
