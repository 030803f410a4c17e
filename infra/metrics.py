"""What the supervisor counts."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from civicbus.infra.processes import ProcessStatus, State


class SupervisorMetrics:
    """Gauges and counters of one supervisor, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._up = Gauge(
            "civicbus_process_up", "Whether the process runs and answers", ["process"], registry=self.registry
        )
        self._restarts = Counter(
            "civicbus_process_restarts_total", "Starts after a death", ["process"], registry=self.registry
        )
        self._counted: dict[str, int] = {}

    def record(self, processes: Sequence[ProcessStatus]) -> None:
        """Take over how the processes stand; one that is gone for good is no longer shown."""
        for process in processes:
            self._up.labels(process.name).set(process.state is State.READY)
            self._restarts.labels(process.name).inc(process.restarts - self._counted.get(process.name, 0))
            self._counted[process.name] = process.restarts
        for name in self._counted.keys() - {process.name for process in processes}:
            del self._counted[name]
            self._up.remove(name)
            self._restarts.remove(name)
