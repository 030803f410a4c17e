"""The id under which a dataset's current schema stands in the registry."""

from __future__ import annotations

from civicbus.errors import ConfigurationError
from civicbus.names import value_subject
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.registry import Registry
from civicbus.settings import Endpoints


def registered_schema(registry: Registry, dataset: Dataset) -> int:
    """The id of the dataset's schema; raises ConfigurationError where the platform has none, or another one."""
    schema_id = registry.latest(value_subject(dataset.id.changes))
    if schema_id is None:
        raise ConfigurationError(f"the platform does not know {dataset.id}", mend="run `civicbus catalogue apply`")
    if registry.schema(schema_id).fingerprint != dataset.schema.fingerprint:
        raise ConfigurationError(
            f"the platform has another schema of {dataset.id} than this catalogue",
            mend="name the platform's catalogue with --catalogue, or run `civicbus catalogue apply`",
        )
    return schema_id


def registered_at(endpoints: Endpoints, dataset: Dataset) -> int:
    """The same, asked of the platform's registry; raises Unavailable where that does not answer."""
    with Registry(endpoints.registry_url) as registry:
        return registered_schema(registry, dataset)
