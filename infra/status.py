"""How the platform of a home stands now, put together from what it left there and from each process's /healthz."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from civicbus.infra.health import ask, living
from civicbus.infra.lock import holder
from civicbus.infra.processes import Phase, ProcessStatus, Snapshot, State, is_alive, snapshot_file
from civicbus.settings import Endpoints, endpoints_file

_ORDER = ("kafka", "registry", "postgres", "admission", "views")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """One process as an operator wants to see it."""

    name: str
    state: State
    pid: int | None
    since_s: float
    restarts: int
    port: int | None
    detail: str
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformView:
    """The platform that runs on a home."""

    supervisor: int
    phase: Phase
    healthy: bool
    running_s: float
    parts_only: bool
    processes: tuple[ProcessView, ...]


def platform_view(home: Path, now: float | None = None) -> PlatformView | None:
    """None where no platform runs on this home."""
    supervisor = holder(home)
    if supervisor is None or not is_alive(supervisor) or not snapshot_file(home).exists():
        return None
    snapshot = Snapshot.load(home)
    if snapshot.supervisor != supervisor:
        return None
    now = time.time() if now is None else now
    ports = _ports(home)
    return PlatformView(
        supervisor=supervisor,
        phase=snapshot.phase,
        healthy=snapshot.healthy,
        running_s=now - snapshot.started,
        parts_only=snapshot.parts_only,
        processes=tuple(_view(home, status, ports, now) for status in sorted(snapshot.processes, key=_place)),
    )


def _place(status: ProcessStatus) -> tuple[int, str]:
    """The order of a reader: as the records flow, the tables by name."""
    return (_ORDER.index(status.name) if status.name in _ORDER else len(_ORDER), status.name)


def _view(home: Path, status: ProcessStatus, ports: Mapping[str, int], now: float) -> ProcessView:
    served = next((one for one in living(home) if one.process == status.name and one.pid == status.pid), None)
    return ProcessView(
        name=status.name,
        state=status.state,
        pid=status.pid,
        since_s=max(0.0, now - status.since),
        restarts=status.restarts,
        port=ports.get(status.name) if served is None else served.port,
        detail=status.detail or ("" if served is None else ask(served).detail),
        log=status.log,
    )


def _ports(home: Path) -> dict[str, int]:
    """The ports that clients of the parts use."""
    if not endpoints_file(home).exists():
        return {}
    endpoints = Endpoints.load(home)
    return {
        "kafka": int(endpoints.bootstrap_servers.partition(",")[0].rpartition(":")[2]),
        "registry": urlsplit(endpoints.registry_url).port or 0,
        "postgres": endpoints.database_port,
    }
