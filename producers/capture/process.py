"""The captures of one department: what is declared is captured, each by itself, until it is declared no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError, Unavailable
from civicbus.names import SOURCES_TOPIC, DatasetId, DepartmentId, capture_topic
from civicbus.observe import Health
from civicbus.producers.bulk import bulk_publisher
from civicbus.producers.capture import metrics
from civicbus.producers.capture.declared import declared, load
from civicbus.producers.capture.engine import Engine
from civicbus.producers.capture.journal import Journal, journal_path, require_same_topic
from civicbus.producers.capture.running import Running
from civicbus.producers.registered import registered_at
from civicbus.producers.sources import Way, claims_in, datasets_of
from civicbus.secrets import Credentials, SecretStore, principal_of
from civicbus.serving import Work, tried_again
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.assigned import AssignedReader, Reading
from civicbus.transport.compacted import Follower
from civicbus.transport.partitions import Partition

log = structlog.get_logger()

_READ_S = 0.1
_TEND_S = 1.0
_MEASURE_S = 10.0
_RECORDS = 2_000


def capture_of(home: Path, department: DepartmentId) -> Work:
    """Captures the department's tables."""
    return tried_again(partial(_capture, home, department, Endpoints.load(home)), (Unavailable, AccessDenied))


def _capture(home: Path, department: DepartmentId, endpoints: Endpoints, stop: threading.Event, health: Health) -> None:
    credentials = SecretStore(secrets_folder(home)).read(principal_of(department))
    with (
        AssignedReader(endpoints, credentials, group=f"{department}.capture", batch_records=_RECORDS) as reader,
        Follower(endpoints, credentials, (SOURCES_TOPIC,), f"{department}.sources") as sources,
        closing(_Captures(home, department, endpoints, credentials, reader, sources)) as captures,
    ):
        sources.read_to_end()
        while not stop.is_set():
            captures.look_after(time.monotonic())
            captures.read()
            health.up(captures.account())


@dataclass(slots=True)
class _Pace:
    """Lets something happen every so often."""

    every_s: float
    next_s: float = 0.0

    def due(self, now_s: float) -> bool:
        if now_s < self.next_s:
            return False
        self.next_s = now_s + self.every_s
        return True


@dataclass(slots=True)
class _Captures:
    """All captures at work, by dataset. A fault of one stops that one alone and is told until it is mended."""

    home: Path
    department: DepartmentId
    endpoints: Endpoints
    credentials: Credentials
    reader: AssignedReader
    sources: Follower
    running: dict[DatasetId, Running] = field(default_factory=dict)
    versions: dict[DatasetId, int] = field(default_factory=dict)
    epochs: dict[DatasetId, int] = field(default_factory=dict)
    faults: dict[DatasetId, str] = field(default_factory=dict)
    waiting: str = ""
    _tending: _Pace = field(default_factory=lambda: _Pace(_TEND_S))
    _measuring: _Pace = field(default_factory=lambda: _Pace(_MEASURE_S))

    def look_after(self, now_s: float) -> None:
        """Take in what is declared, and keep its connectors running, once a second."""
        if not self._tending.due(now_s):
            return
        self._follow_declared()
        try:
            with Engine(self.home, self.department) as engine:
                self._tend(engine, measure=self._measuring.due(now_s))
            self.waiting = ""
        except Unavailable as fault:
            self.waiting = str(fault)

    def read(self) -> None:
        """Convert what there is."""
        reading = self.reader.read(_READ_S)
        for dataset, running in list(self.running.items()):
            try:
                self._take(running, reading)
            except ConfigurationError as fault:
                self._close(dataset)
                self._tell(dataset, fault)

    def _take(self, running: Running, reading: Reading) -> None:
        """What one read brought for one capture."""
        partition = Partition(running.topic, 0)
        if fault := reading.faults.get(running.topic):
            raise fault
        if records := reading.records.get(running.topic):
            running.convert(records)
        if partition in reading.lost:
            self._begin_anew(running, partition)
        running.at_end = running.at_end or partition in reading.ends

    def account(self) -> str:
        """How all stand, in one sentence."""
        ill = [f"{dataset}: {fault}" for dataset, fault in sorted(self.faults.items())]
        return "; ".join([*([self.waiting] if self.waiting else []), *ill]) or f"{len(self.running)} tables captured"

    def close(self) -> None:
        with ExitStack() as stack:
            for running in self.running.values():
                stack.callback(running.close)

    def _follow_declared(self) -> None:
        """Open what is newly declared or declared anew, close what is declared no more."""
        wanted = declared(self.home, self.department)
        if wanted.keys() - self.epochs.keys():
            self.sources.catch_up()
        self.sources.changed()
        claimed = claims_in(self.sources.table(SOURCES_TOPIC))
        self.epochs = datasets_of(claimed, self.department, Way.CAPTURE)
        for dataset in [one for one, version in self.versions.items() if wanted.get(one) != version]:
            self._close(dataset)
        for dataset, version in wanted.items():
            if dataset not in self.running:
                with self._told(dataset):
                    self.running[dataset] = self._open(dataset)
                    self.versions[dataset] = version

    def _open(self, dataset: DatasetId) -> Running:
        found = load(self.home, dataset)
        schema_id = registered_at(self.endpoints, found.dataset)
        topic = capture_topic(dataset)
        journal = Journal(journal_path(self.home, dataset))
        try:
            require_same_topic(journal, str(self.reader.describe([topic])[topic].id), dataset)
            publisher = bulk_publisher(self.endpoints, self.credentials, found.dataset, schema_id)
        except BaseException:
            journal.close()
            raise
        self.reader.start({Partition(topic, 0): journal.standing.position})
        return Running(found, journal, publisher)

    def _close(self, dataset: DatasetId) -> None:
        running = self.running.pop(dataset)
        self.faults.pop(dataset, None)
        del self.versions[dataset]
        self.reader.stop([Partition(running.topic, 0)])
        running.close()

    def _tend(self, engine: Engine, *, measure: bool) -> None:
        connectors = engine.connectors()
        for name in connectors.keys() - {running.name for running in self.running.values()}:
            engine.stop(name)
        for dataset, running in self.running.items():
            with self._told(dataset, running):
                if dataset not in self.epochs:
                    raise ConfigurationError(
                        f"{dataset} is published by another way", mend=f"run `civicbus capture add {dataset}`"
                    )
                running.tend(engine, connectors, self.epochs[dataset])
                if measure:
                    running.measure()

    def _begin_anew(self, running: Running, partition: Partition) -> None:
        """What was captured was deleted before it was read: only a snapshot tells the whole table again."""
        first = self.reader.first_offsets([partition])[partition]
        running.begin_anew(first)
        self.reader.stop([partition])
        self.reader.start({partition: first})

    def _tell(self, dataset: DatasetId, fault: CivicbusError) -> None:
        """Say why one capture stands still, once."""
        if self.faults.get(dataset) != str(fault):
            log.warning("capture_waits", dataset=str(dataset), fault=str(fault))
        self.faults[dataset] = str(fault)
        metrics.RUNNING.labels(str(dataset)).set(0)

    @contextmanager
    def _told(self, dataset: DatasetId, running: Running | None = None) -> Iterator[None]:
        """Keep a fault of one capture to itself; it is tried again in a second."""
        try:
            yield
            self.faults.pop(dataset, None)
        except (ConfigurationError, Unavailable, AccessDenied) as fault:
            self._tell(dataset, fault)
            if running is not None:
                running.hang_up()
