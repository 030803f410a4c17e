"""Kafka Connect as its REST interface shows it: which connectors run, and for which snapshot each was started."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.names import DepartmentId
from civicbus.settings import connect_file

_TIMEOUT_S = 20.0  # a connector is answered for when it has tried its connection to the database
_ENDED = {"FAILED", "STOPPED", "PAUSED"}


class _State(BaseModel):
    model_config = ConfigDict(frozen=True)

    state: str


class _Status(BaseModel):
    model_config = ConfigDict(frozen=True)

    connector: _State
    tasks: tuple[_State, ...] = ()


class _Info(BaseModel):
    model_config = ConfigDict(frozen=True)

    config: Mapping[str, str]


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True)

    status: _Status
    info: _Info


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One connector: whether it and its task run, and its configuration."""

    runs: bool
    config: Mapping[str, str]


class Engine:
    """The Kafka Connect of one department. Close it, or use ``with``."""

    def __init__(self, home: Path, department: DepartmentId) -> None:
        """Raises Unavailable where it has not been started yet."""
        try:
            endpoint = json.loads(connect_file(home, department).read_text())
        except FileNotFoundError:
            raise Unavailable(f"the Kafka Connect of {department} has not started") from None
        who = httpx.BasicAuth(endpoint["user"], endpoint["password"])
        # On loopback there is no TLS; reading the machine's certificates for nothing would take 30 ms.
        none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        url = endpoint["url"]
        self._http = httpx.Client(base_url=url, auth=who, timeout=_TIMEOUT_S, trust_env=False, verify=none)

    def connectors(self) -> dict[str, Connector]:
        """Every connector by its name."""
        answer = self._ask("GET", "/connectors?expand=status&expand=info")
        try:
            listed = {name: _Listed.model_validate(each) for name, each in answer.json().items()}
        except (ValidationError, ValueError):
            raise Unavailable("Kafka Connect answers something else") from None
        return {name: Connector(runs=_runs(each.status), config=each.info.config) for name, each in listed.items()}

    def start(self, name: str, config: Mapping[str, str]) -> None:
        """Start a connector, in place of the one of this name."""
        self.stop(name)
        self._ask("PUT", f"/connectors/{name}/config", dict(config))

    def stop(self, name: str) -> None:
        """End a connector, where there is one of this name."""
        self._ask("DELETE", f"/connectors/{name}")

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise Unavailable(f"Kafka Connect does not answer: {type(error).__name__}") from None
        if answer.is_server_error or answer.status_code in (401, 409):
            raise Unavailable(f"Kafka Connect answers {answer.status_code}")
        if answer.is_error and answer.status_code != 404:
            raise ConfigurationError(f"Kafka Connect refuses the connector: {answer.status_code}", mend="see its log")
        return answer


def _runs(status: _Status) -> bool:
    """A connector that was just made has no task yet."""
    return not any(each.state in _ENDED for each in (status.connector, *status.tasks))
