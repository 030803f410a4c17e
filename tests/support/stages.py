"""Stage processes as tests run them, and a dataset of a fresh department to send changes to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx

from civicbus.cli.applying import apply_catalogue
from civicbus.cli.demo.proof import read_topics
from civicbus.events import ChangeEvent, Headers, deleted, upserted
from civicbus.infra.provision import provision_department
from civicbus.names import DatasetId, DepartmentId, Topic, source_of, value_subject
from civicbus.quarantine import Parked, parse
from civicbus.schemas.codec.frame import frame
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import (
    Catalogue,
    Classification,
    Dataset,
    Department,
    Field,
    Listing,
    Sharing,
    UpdateCycle,
)
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR, principal_of
from civicbus.transport.assigned import Record
from civicbus.transport.clients import confluent_producer
from support.platform import Platform, unique
from support.samples import TITLE

T = TypeVar("T")

WITHIN_S = 30.0
# A member that comes back may first wait out the transaction, and the session, of the one that was killed.
READY_WITHIN_S = 90.0
NO_PARTITION = -1


def wait_for(what: str, look: Callable[[], T | None], within_s: float = WITHIN_S) -> T:
    """The first thing that ``look`` finds; fails, saying what did not come, after a while."""
    deadline = time.monotonic() + within_s
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {within_s:.0f} s")
        time.sleep(0.02)
    return found


@dataclass(slots=True)
class StageProcess:
    """``python -m <module> --home <home>``, started and watched by a test."""

    module: str
    home: Path
    name: str
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.launch()
        wait_for(f"{self.name} to be ready", lambda: self.ready() or None, READY_WITHIN_S)

    def launch(self) -> None:
        """Start, and do not wait until it is ready."""
        run_file = self.home / "run" / f"{self.name}.json"
        run_file.unlink(missing_ok=True)
        log = (self.home / f"{self.name}.test.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, "--home", str(self.home), *self.arguments], stdout=log, stderr=log
        )

    def ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            log = (self.home / f"{self.name}.test.log").read_text(errors="replace")
            raise AssertionError(f"{self.name} ended:\n{log[-3000:]}")
        try:
            return httpx.get(f"{self.url()}/healthz", timeout=1).status_code == 200
        except (OSError, httpx.TransportError):
            return False

    def url(self) -> str:
        document = json.loads((self.home / "run" / f"{self.name}.json").read_text())
        return f"http://127.0.0.1:{document['port']}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def events(self, name: str) -> list[dict[str, object]]:
        """What it has logged under this event's name, over all its starts."""
        log = (self.home / f"{self.name}.test.log").read_text(errors="replace")
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line.get("event") == name]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.terminate()
            self.process.wait(20)


def admission(home: Path, worker: int = 0) -> StageProcess:
    return _stage("admission", home, worker)


def views(home: Path, worker: int = 0) -> StageProcess:
    return _stage("views", home, worker)


def _stage(stage: str, home: Path, worker: int) -> StageProcess:
    """One member of a stage's group."""
    name = stage if worker == 0 else f"{stage}-{worker}"
    return StageProcess(f"civicbus.stream_apps.{stage}", home, name, ("--worker", str(worker)))


def new_dataset(
    platform: Platform, schema: str, *, key: Iterable[str], partitions: int = 1, owner: DepartmentId | None = None
) -> Dataset:
    """A dataset that is applied to the platform, of a department of its own unless one is named."""
    department = DepartmentId(unique("owner")) if owner is None else owner
    parsed = AvroSchema.parse(schema)
    dataset = Dataset(
        id=DatasetId(department, "things"),
        title=TITLE,
        listing=Listing(abstract=TITLE),
        key=tuple(key),
        fields=tuple(
            Field(name=name, title=TITLE, classification=Classification.INTERNAL) for name in parsed.field_names
        ),
        schemas=(parsed,),
        sharing=Sharing.CONDITIONAL,
        update_cycle=UpdateCycle.REALTIME,
        partitions=partitions,
    )
    provision_department(platform.endpoints, platform.secrets, department)
    entries = Catalogue(
        departments={department: Department(id=department, title=TITLE, code=department)},
        datasets={dataset.id: dataset},
    )
    apply_catalogue(platform.endpoints, platform.secrets, entries)
    return dataset


@dataclass
class Sender:
    """Sends anything at all to a dataset's changes, with the owner's credentials."""

    platform: Platform
    dataset: Dataset
    sequence: int = 0
    schema_id: int = field(init=False)

    def __post_init__(self) -> None:
        with Registry(self.platform.endpoints.registry_url) as registry:
            self.schema_id = registry.register(value_subject(self.dataset.id.changes), self.dataset.schema)
        owner = self.platform.secrets.read(principal_of(self.dataset.id.department))
        options = {"message.max.bytes": 4_000_000}
        self._producer = confluent_producer(self.platform.endpoints, owner, options)

    def value(self, row: dict[str, object]) -> bytes:
        return frame(self.schema_id, RowCodec(self.dataset.schema).encode(row))

    def headers(self, *, deletion: bool = False, **changed: object) -> Headers:
        self.sequence += 1
        event = ChangeEvent(
            id=f"event-{self.sequence}",
            source=source_of(self.dataset.id.department),
            type=deleted(self.dataset.id) if deletion else upserted(self.dataset.id),
            time=datetime.now(UTC),
            sequence=self.sequence,
        )
        headers = dict(event.headers()) | changed
        return [(name, value) for name, value in headers.items() if value is not None]

    def send(
        self, key: bytes | None, value: bytes | None, headers: Headers | None = None, partition: int = NO_PARTITION
    ) -> None:
        made = self.headers(deletion=value is None) if headers is None else headers
        self._producer.produce(self.dataset.id.changes, value, key, partition, headers=made)

    def upsert(self, row: dict[str, object]) -> None:
        self.send(self.dataset.key_of(row), self.value(row))

    def flush(self) -> None:
        self._producer.flush(30)


def everything(platform: Platform, topic: Topic) -> list[Record]:
    """All that a read-committed reader sees of a topic now."""
    return read_topics(platform.endpoints, platform.secrets.read(OPERATOR), [topic])[topic]


def parked(platform: Platform, dataset: Dataset) -> list[Parked]:
    """Everything in a dataset's quarantine."""
    return [parse(record.value, record.headers) for record in everything(platform, dataset.id.quarantine)]
