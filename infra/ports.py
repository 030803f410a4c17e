"""The loopback ports of the embedded parts: fixed by a setting, or free ones that a home remembers.

A restart uses the ports of the last run where they are still free. Ports are taken from below the range that
the system gives to outgoing connections, so that none of those sits on one while its part restarts.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from civicbus.errors import ConfigurationError
from civicbus.settings import Settings

LOOPBACK = "127.0.0.1"
_FROM, _BELOW = 20_000, 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """One port each."""

    kafka: int
    controller: int
    registry: int
    postgres: int


def choose(home: Path, settings: Settings) -> Ports:
    """The ports for this start; raises ConfigurationError for a fixed port that is in use."""
    fixed = {"kafka": settings.kafka_port, "registry": settings.registry_port, "postgres": settings.postgres_port}
    remembered = _remembered(home)
    chosen: dict[str, int] = {name: _checked(name, port) for name, port in fixed.items() if port}
    for name in (field.name for field in fields(Ports)):
        if name not in chosen:
            chosen[name] = _kept_or_free(remembered.get(name), set(chosen.values()))
    ports = Ports(**chosen)
    _remember(home, ports)
    return ports


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # What is left of closed connections does not hinder a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def is_served(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def _checked(name: str, port: int) -> int:
    if is_free(port):
        return port
    setting = f"CIVICBUS_{name.upper()}_PORT"
    raise ConfigurationError(
        f"port {port}, which {setting} fixes, is in use{_holder(port)}",
        mend=f"stop that process, or set {setting} to another port or to nothing",
    )


def _kept_or_free(remembered: int | None, taken: Container[int]) -> int:
    if remembered is not None and remembered not in taken and is_free(remembered):
        return remembered
    candidates = random.sample(range(_FROM, _BELOW), k=1000)  # a port is no secret
    for port in candidates:
        if port not in taken and is_free(port):
            return port
    raise ConfigurationError(f"no free port between {_FROM} and {_BELOW}", mend="fix ports with CIVICBUS_KAFKA_PORT, …")


def _holder(port: int) -> str:
    """Who listens there, as far as the system tells."""
    try:
        listening = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid
        ]
        return f" by {psutil.Process(listening[0]).name()} (pid {listening[0]})" if listening else ""
    except psutil.Error:
        return ""


def _remembered(home: Path) -> Mapping[str, int]:
    try:
        document = json.loads(_file(home).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _remember(home: Path, ports: Ports) -> None:
    home.mkdir(parents=True, exist_ok=True)
    draft = _file(home).with_suffix(".new")
    draft.write_text(json.dumps(asdict(ports)))
    draft.replace(_file(home))


def _file(home: Path) -> Path:
    return home / "ports.json"
