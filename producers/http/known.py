"""The catalogue and the claims as the platform publishes them, followed in a thread: what the ingress takes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping

import structlog

from civicbus.errors import AccessDenied, ConfigurationError, Unavailable
from civicbus.names import CATALOGUE_TOPIC, SOURCES_TOPIC, DatasetId
from civicbus.observe import Health
from civicbus.producers.sources import Claim, claims_in
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.published import catalogue_of
from civicbus.transport.compacted import Follower

log = structlog.get_logger()

_LOOK_EVERY_S = 0.2
_AGAIN_AFTER_S = 2.0


class Known:
    """``datasets`` is None until all was read; everything stays as it is while the broker is away."""

    def __init__(self, follow: Callable[[], Follower]) -> None:
        self._follow = follow
        self.datasets: Mapping[DatasetId, Dataset] | None = None
        self._claims: Mapping[DatasetId, Claim] = {}

    def claim(self, dataset: DatasetId) -> Claim | None:
        """Which way publishes the dataset, as far as is known."""
        return self._claims.get(dataset)

    def run(self, stop: threading.Event, health: Health) -> None:
        """Follow until ``stop``, from the start again after every fault."""
        while not stop.is_set():
            try:
                with self._follow() as follower:
                    follower.read_to_end()
                    self._take_in(follower)
                    health.up()
                    while not stop.wait(_LOOK_EVERY_S):
                        if follower.changed():
                            self._take_in(follower)
            except (Unavailable, AccessDenied, ConfigurationError) as fault:
                health.down(str(fault))
                log.warning("catalogue_unread", fault=str(fault))
                stop.wait(_AGAIN_AFTER_S * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret

    def _take_in(self, follower: Follower) -> None:
        self._claims = claims_in(follower.table(SOURCES_TOPIC))
        self.datasets = catalogue_of(follower.table(CATALOGUE_TOPIC)).datasets
