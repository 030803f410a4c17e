"""Publishers for the platform's own processes, which publish in bulk for a department: over librdkafka (ADR 0008)."""

from __future__ import annotations

from pathlib import Path

from civicbus.producers.publisher import Publisher
from civicbus.producers.registered import registered_at
from civicbus.producers.sources import clock_epoch
from civicbus.schemas.datasets import Dataset
from civicbus.secrets import Credentials, SecretStore, principal_of
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.bulk import BulkOutgoing
from civicbus.transport.outgoing import IN_FLIGHT_BYTES


def bulk_publisher(
    endpoints: Endpoints,
    credentials: Credentials,
    dataset: Dataset,
    schema_id: int,
    *,
    epoch: int = 0,
    in_flight_bytes: int = IN_FLIGHT_BYTES,
) -> Publisher:
    """As ``Publisher`` with the same arguments."""
    outgoing = BulkOutgoing(endpoints, credentials, dataset.id.changes, in_flight_bytes=in_flight_bytes)
    return Publisher.over(outgoing, dataset, schema_id, epoch=epoch)


def bulk_publisher_at(home: Path, dataset: Dataset) -> Publisher:
    """As ``Publisher.at``, without a spool."""
    endpoints = Endpoints.load(home)
    credentials = SecretStore(secrets_folder(home)).read(principal_of(dataset.id.department))
    epoch = clock_epoch(endpoints, credentials, dataset.id)
    return bulk_publisher(endpoints, credentials, dataset, registered_at(endpoints, dataset), epoch=epoch)
