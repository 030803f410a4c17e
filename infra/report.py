"""What a running platform leaves for those who look: its log, the snapshot, metrics, and Prometheus' files.

``<home>/prometheus`` holds a configuration that can be used as it stands, with the processes that live now in
``targets.json``. A full disk costs what could not be written, never the platform.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from civicbus import observe
from civicbus.infra.health import living
from civicbus.infra.logfiles import RotatingLog
from civicbus.infra.metrics import SupervisorMetrics
from civicbus.infra.processes import (
    Event,
    Notice,
    Phase,
    ProcessStatus,
    Snapshot,
    State,
    Tell,
    notice_line,
    replace_text,
)
from civicbus.settings import logs_folder

SUPERVISOR = "supervisor"
_PROMETHEUS = Path(__file__).with_name("prometheus")


class Report:
    """One platform's account of itself. ``tell`` may be called from any thread."""

    def __init__(self, home: Path, parts_only: bool, listen: Tell) -> None:
        self._home = home
        self._parts_only = parts_only
        self._listen = listen
        self._began = time.time()
        self._log = RotatingLog(logs_folder(home) / f"{SUPERVISOR}.log")
        self._metrics = SupervisorMetrics()
        self._health = observe.Health()
        self._server = observe.serve(SUPERVISOR, home, self._health, self._metrics.registry)
        write_prometheus_files(home)

    def tell(self, notice: Notice) -> None:
        """Log one thing that happened, and pass it on."""
        self._log.write(notice_line(notice, datetime.now(UTC)).encode() + b"\n")
        self._listen(notice)

    def show(self, phase: Phase, processes: Sequence[ProcessStatus]) -> None:
        """Replace what is said of the processes by how they stand now."""
        snapshot = Snapshot(
            supervisor=os.getpid(),
            phase=phase,
            parts_only=self._parts_only,
            started=self._began,
            processes=tuple(processes),
        )
        self._metrics.record(processes)
        self._judge(snapshot)
        try:
            snapshot.save(self._home)
            replace_text(targets_file(self._home), _targets(self._home))
        except OSError as error:
            if phase is Phase.STARTING:
                raise
            self.tell(Notice(process=SUPERVISOR, event=Event.PROGRESS, detail=f"cannot write its state: {error}"))

    def close(self) -> None:
        self._server.shutdown()
        self._log.close()

    def _judge(self, snapshot: Snapshot) -> None:
        if snapshot.healthy:
            self._health.up()
        else:
            ill = [f"{one.name} is {one.state}" for one in snapshot.processes if one.state is not State.READY]
            self._health.down("; ".join(ill) or snapshot.phase)


def write_prometheus_files(home: Path) -> None:
    """Lay the configuration and the alert rules beside the list of processes."""
    for source in sorted(_PROMETHEUS.glob("*.yml")):
        replace_text(prometheus_folder(home) / source.name, source.read_text())


def prometheus_folder(home: Path) -> Path:
    return home / "prometheus"


def targets_file(home: Path) -> Path:
    return prometheus_folder(home) / "targets.json"


def _targets(home: Path) -> str:
    """Prometheus' file discovery: the processes that live, each with its name as the instance."""
    return json.dumps(
        [
            {"targets": [f"127.0.0.1:{process.port}"], "labels": {"instance": process.process}}
            for process in living(home)
        ]
    )
