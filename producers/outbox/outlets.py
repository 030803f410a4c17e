"""Where the rows of an outbox go: a publisher for each dataset that the outbox has claimed.

Follows the claims and the catalogue, so that a new dataset, a raised epoch, a released claim and a changed schema
are taken in between two batches. A dataset that cannot be published keeps its rows waiting and says why; the
others go on.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.names import CATALOGUE_TOPIC, SOURCES_TOPIC, DatasetId, DepartmentId
from civicbus.producers.bulk import bulk_publisher
from civicbus.producers.outbox.script import refuse_unfit
from civicbus.producers.publisher import Publisher
from civicbus.producers.registered import registered_schema
from civicbus.producers.sources import Way, claims_in, datasets_of
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.registry import Registry
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.compacted import Follower

RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """A claimed dataset, the epoch of its sequences, and its publisher."""

    dataset: Dataset
    epoch: int
    publisher: Publisher


class Outlets:
    """The outlets of one department; close them, or use ``with``."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials, department: DepartmentId) -> None:
        self._endpoints = endpoints
        self._credentials = credentials
        self._department = department
        self._open: dict[DatasetId, Outlet] = {}
        self._troubles: dict[DatasetId, str] = {}
        self._registry = Registry(endpoints.registry_url)
        topics = (CATALOGUE_TOPIC, SOURCES_TOPIC)
        self._follower = Follower(endpoints, credentials, topics, group=f"{department}.outbox")
        self._follower.read_to_end()
        self._refresh()

    def follow(self) -> None:
        """Take in what changed in the claims and in the catalogue; never waits where nothing did."""
        if self._follower.changed() or (self._troubles and time.monotonic() > self._refreshed_s + RETRY_S):
            self._refresh()

    def catch_up(self) -> bool:
        """Take in the claims that stand now; whether any changed. A row that is read before this is older than them."""
        changed = self._follower.catch_up_at_once((SOURCES_TOPIC,))
        if changed:
            self._refresh()
        return changed

    @property
    def datasets(self) -> list[DatasetId]:
        """The datasets that can be published now."""
        return list(self._open)

    @property
    def state(self) -> str:
        """What is published, and why what is not is not, in one line."""
        troubles = [f"{dataset} waits: {why}" for dataset, why in sorted(self._troubles.items())]
        return "; ".join([f"publishing {', '.join(map(str, self._open)) or 'nothing'}", *troubles])

    def __getitem__(self, dataset: DatasetId) -> Outlet:
        return self._open[dataset]

    def _refresh(self) -> None:
        self._refreshed_s = time.monotonic()
        claims = claims_in(self._follower.table(SOURCES_TOPIC))
        claimed = datasets_of(claims, self._department, Way.OUTBOX)
        self._troubles = {}
        for gone in self._open.keys() - claimed.keys():
            self._open.pop(gone).publisher.close()
        for name, epoch in claimed.items():
            try:
                self._have(name, epoch)
            except (ConfigurationError, Unavailable) as fault:
                self._troubles[name] = str(fault)
                if name in self._open:
                    self._open.pop(name).publisher.close()

    def _have(self, name: DatasetId, epoch: int) -> None:
        dataset = self._described(name)
        before = self._open.get(name)
        if before is not None and (before.dataset, before.epoch) == (dataset, epoch):
            return
        refuse_unfit(dataset)
        schema_id = registered_schema(self._registry, dataset)
        publisher = bulk_publisher(self._endpoints, self._credentials, dataset, schema_id)
        self._open[name] = Outlet(dataset=dataset, epoch=epoch, publisher=publisher)
        if before is not None:
            before.publisher.close()

    def _described(self, name: DatasetId) -> Dataset:
        document = self._follower.table(CATALOGUE_TOPIC).get(str(name).encode())
        if document is None:
            raise ConfigurationError(f"the catalogue has no {name}", mend="run `civicbus catalogue apply`")
        return Dataset.from_json(document)

    def close(self) -> None:
        with ExitStack() as closing:
            for close in (self._registry.close, self._follower.close):
                closing.callback(close)
            for outlet in self._open.values():
                closing.callback(outlet.publisher.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
