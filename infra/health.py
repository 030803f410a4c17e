"""Whether one of civicbus's own processes does its work, as its /healthz says."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from civicbus.infra.processes import is_alive
from civicbus.observe import Observed, observed

_TIMEOUT_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What /healthz says: ready or not, and why; and how far the topics of the rules are taken in."""

    ready: bool
    detail: str
    goes_by: Mapping[str, int] = field(default_factory=dict)


def is_healthy(home: Path, process: str) -> bool:
    """Whether the process has left its run file and says that it is ready."""
    return any(ask(one).ready for one in observed(home) if one.process == process)


def ask(process: Observed) -> Answer:
    """Ask once; another process that has the port by now does not count."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        document = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return Answer(ready=False, detail="/healthz does not answer")
    finally:
        connection.close()
    if not isinstance(document, dict) or document.get("process") != process.process:
        return Answer(ready=False, detail="/healthz does not answer")
    return Answer(
        ready=document.get("ready") is True,
        detail=str(document.get("detail", "")),
        goes_by=document.get("goes_by") or {},
    )


def living(home: Path) -> list[Observed]:
    """The processes that left a run file and still run."""
    return [process for process in observed(home) if is_alive(process.pid)]
