"""One capture at work: its events are converted, and its connector is kept running, from the right place.

Whether a run begins with a snapshot is decided here and nowhere else. A snapshot that was cut short, a slot that
is gone or that the database gave up, and a new epoch all mean another snapshot, of a new generation, with a slot
of its own; it is complete by itself, because what it lacks is deleted.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId, Topic, capture_topic
from civicbus.postgres import Session
from civicbus.producers.capture import metrics
from civicbus.producers.capture.converter import ATTEMPTS, Converter, first_generation, has_next
from civicbus.producers.capture.database import Slot, drop_slot, release_slot, require_ready, slot
from civicbus.producers.capture.debezium import NAME, connector_config
from civicbus.producers.capture.declared import Declared
from civicbus.producers.capture.engine import Connector, Engine
from civicbus.producers.capture.events import connector_name, generation_of
from civicbus.producers.capture.journal import Journal, Standing
from civicbus.producers.publisher import Publisher
from civicbus.transport.assigned import Record

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the next run of a connector does."""

    generation: int
    snapshot: bool


def next_run(dataset: DatasetId, standing: Standing, epoch: int, held: Slot | None) -> Run:
    """Go on from the slot where that is all that is needed, else begin with a snapshot. Pure."""
    if standing.generation // ATTEMPTS != epoch:
        return Run(generation=first_generation(epoch), snapshot=True)
    if standing.complete and held is not None and held.usable:
        return Run(generation=standing.generation, snapshot=False)
    return Run(generation=_next(dataset, standing.generation), snapshot=True)


def _next(dataset: DatasetId, generation: int) -> int:
    """The generation after this one; raises ConfigurationError where the epoch has no more."""
    if not has_next(generation):
        raise ConfigurationError(
            f"{dataset} had {ATTEMPTS} snapshots in epoch {generation // ATTEMPTS}",
            mend=f"run `civicbus source epoch {dataset}`",
        )
    return generation + 1


class Running:
    """One declared capture. Close it."""

    def __init__(self, found: Declared, journal: Journal, publisher: Publisher) -> None:
        self.found = found
        self.journal = journal
        self._publisher = publisher
        self._converter = Converter(found.dataset, journal, publisher)
        self._session: Session | None = None
        self.at_end = False

    @property
    def topic(self) -> Topic:
        return capture_topic(self.found.dataset.id)

    @property
    def name(self) -> str:
        return str(self.found.dataset.id)

    def convert(self, records: Sequence[Record]) -> None:
        """Publish what these records say."""
        self.at_end = False
        self._converter.convert(records)

    def tend(self, engine: Engine, connectors: Mapping[str, Connector], epoch: int) -> None:
        """Start the connector again, unless it runs as it should; all that it told before is read first."""
        runs = self._runs(connectors.get(self.name), epoch)
        metrics.RUNNING.labels(self.name).set(runs)
        if not runs and self.at_end:
            self._start(engine, epoch)

    def begin_anew(self, position: int) -> None:
        """Read on from another position, and take another snapshot; raises as ``next_run`` does."""
        standing = self.journal.standing
        generation = _next(self.found.dataset.id, standing.generation)
        self.journal.settle(replace(standing, position=position, complete=False, generation=generation))

    def measure(self) -> None:
        """Show what the database keeps for us."""
        held = slot(self._database(), self.found.dataset.id)
        if held is not None:
            metrics.SLOT_LAG.labels(self.name).set(held.lag_bytes)

    def hang_up(self) -> None:
        """Forget the session with the department's database, after a fault of it."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def close(self) -> None:
        self.hang_up()
        self.journal.close()
        self._publisher.close()

    def _runs(self, connector: Connector | None, epoch: int) -> bool:
        standing = self.journal.standing
        if connector is None or not connector.runs or standing.generation // ATTEMPTS != epoch:
            return False
        return generation_of(connector.config[NAME]) == standing.generation

    def _start(self, engine: Engine, epoch: int) -> None:
        dataset, session, standing = self.found.dataset.id, self._database(), self.journal.standing
        require_ready(session, self.found)
        engine.stop(self.name)
        release_slot(session, dataset)
        run = next_run(dataset, standing, epoch, slot(session, dataset))
        if run.snapshot:
            drop_slot(session, dataset)
            self.journal.settle(replace(standing, generation=run.generation, complete=False))
            metrics.SNAPSHOTS.labels(self.name).inc()
        name = connector_name(run.generation, secrets.token_hex(4))
        engine.start(self.name, connector_config(self.found, name, snapshot=run.snapshot))
        log.info("connector_started", dataset=self.name, run=name, snapshot=run.snapshot)

    def _database(self) -> Session:
        if self._session is None or self._session.closed:
            self._session = self.found.database.connect()
        return self._session
