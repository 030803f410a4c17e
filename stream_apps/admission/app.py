"""The admission process: wires the catalogue, the registry and the loop."""

from __future__ import annotations

from datetime import UTC, datetime

from civicbus.names import CATALOGUE_TOPIC
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.published import catalogue_of
from civicbus.schemas.registry import Registry
from civicbus.secrets import ADMISSION
from civicbus.stream_apps.admission.stage import Admission
from civicbus.stream_apps.running import Process, Rules
from civicbus.transport.compacted import Follower
from civicbus.transport.exactly_once import Worker


def main() -> None:
    """Run until SIGTERM."""
    process = Process.start("admission", ADMISSION)
    registry = Registry(process.endpoints.registry_url)

    def make_worker(followed: Follower) -> tuple[Worker, Rules[tuple[Dataset, ...]]]:
        rules = Rules(followed, lambda: tuple(catalogue_of(followed.table(CATALOGUE_TOPIC)).datasets.values()))
        stage = Admission(rules.read(), rules.renewed, registry.schema, lambda: datetime.now(UTC))
        return Worker(process.endpoints, process.credentials, process.loop, stage), rules

    process.run((CATALOGUE_TOPIC,), make_worker)
