"""Applies a catalogue to a running platform: its topics, its schemas, and the entries that every process follows.

Promise: it may run again at any time and changes only what differs. An entry is published last, when its topics
and schemas are there; where one entry may not replace a published one, nothing at all is changed.
"""

from __future__ import annotations

from difflib import get_close_matches

from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.infra.provision import provision_dataset
from civicbus.names import AGREEMENTS_TOPIC, CATALOGUE_TOPIC, DatasetId, value_subject
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.catalogue_changes import Changes, changes
from civicbus.schemas.datasets import Catalogue, Dataset
from civicbus.schemas.published import catalogue_of, rows_of
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Endpoints
from civicbus.transport.compacted import Follower, put_all, read_all

_GROUP = "platform.operator"


def published_catalogue(endpoints: Endpoints, secrets: SecretStore) -> Catalogue:
    """The catalogue that the platform runs on."""
    return catalogue_of(read_all(endpoints, secrets.read(OPERATOR), CATALOGUE_TOPIC, _GROUP))


def known_dataset(catalogue: Catalogue, wanted: DatasetId) -> Dataset:
    """A dataset of the platform's catalogue; raises ConfigurationError where there is none."""
    if wanted not in catalogue.datasets:
        like = get_close_matches(str(wanted), map(str, catalogue.datasets), n=3)
        mend = (
            f"write {' or '.join(like)}, or run `civicbus catalogue apply`"
            if like
            else "run `civicbus catalogue apply`"
        )
        raise ConfigurationError(f"the platform does not know {wanted}", mend=mend)
    return catalogue.datasets[wanted]


def apply_catalogue(endpoints: Endpoints, secrets: SecretStore, catalogue: Catalogue) -> Changes:
    """Make the platform run on these entries; raises CheckFailed where one may not replace what is published."""
    operator = secrets.read(OPERATOR)
    with Follower(endpoints, operator, (CATALOGUE_TOPIC, AGREEMENTS_TOPIC), _GROUP) as follower:
        tables = follower.read_to_end()
    agreements = [Agreement.from_json(text) for text in tables[AGREEMENTS_TOPIC].values()]
    found = changes(catalogue_of(tables[CATALOGUE_TOPIC]), catalogue, agreements)
    if found.refused:
        raise CheckFailed("the catalogue may not replace the published one; nothing was changed:", found.refused)
    provision_dataset(endpoints, secrets, *catalogue.datasets.values())
    with Registry(endpoints.registry_url) as registry:
        for dataset in catalogue.datasets.values():
            register_schemas(registry, dataset)
    there = tables[CATALOGUE_TOPIC]
    put_all(
        endpoints,
        operator,
        CATALOGUE_TOPIC,
        ((key, value) for key, value in rows_of(catalogue) if there.get(key) != value),
    )
    return found


def register_schemas(registry: Registry, dataset: Dataset) -> None:
    """Every schema of a dataset under its changes and its records, oldest first."""
    for topic in (dataset.id.changes, dataset.id.records):
        subject = value_subject(topic)
        for schema in dataset.schemas:
            registry.register(subject, schema)
        registry.set_compatibility(subject)
