"""The client against the registry that the platform runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from civicbus.errors import ConfigurationError, Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.registry import Registry
from conftest import Platform, unique


@pytest.fixture
def registry(platform: Platform) -> Iterator[Registry]:
    with Registry(platform.endpoints.registry_url) as client:
        yield client


def schema(name: str, *fields: dict[str, object]) -> AvroSchema:
    record = {"type": "record", "name": name, "namespace": "civicbus.parks", "fields": fields}
    return AvroSchema.parse(json.dumps(record))


TREE_NO: dict[str, object] = {"name": "tree_no", "type": "string"}
PLANTED_ON: dict[str, object] = {
    "name": "planted_on",
    "type": ["null", {"type": "int", "logicalType": "date"}],
    "default": None,
}


def test_what_was_registered_comes_back_the_same(registry: Registry, platform: Platform) -> None:
    name = unique("trees")
    first = schema(name, TREE_NO, PLANTED_ON)
    schema_id = registry.register(f"changes.parks.{name}-value", first)
    with Registry(platform.endpoints.registry_url) as other:
        assert other.schema(schema_id) == first
        assert other.schema(schema_id).fingerprint == first.fingerprint


def test_one_schema_has_one_id_under_every_subject(registry: Registry) -> None:
    name = unique("trees")
    first = schema(name, TREE_NO)
    subjects = [f"changes.parks.{name}-value", f"records.parks.{name}-value", f"changes.parks.{name}-value"]
    assert len({registry.register(subject, first) for subject in subjects}) == 1
    assert registry.register(subjects[0], schema(name, TREE_NO, PLANTED_ON)) != registry.register(subjects[0], first)


def test_an_id_that_was_never_given_is_unknown(registry: Registry) -> None:
    with pytest.raises(Unacceptable) as refused:
        registry.schema(2**31 - 1)
    assert refused.value.reason is Reason.SCHEMA_UNKNOWN


def test_the_registry_itself_refuses_what_cannot_read_the_former_schemas(registry: Registry) -> None:
    name = unique("trees")
    subject = f"changes.parks.{name}-value"
    registry.register(subject, schema(name, TREE_NO))
    registry.set_compatibility(subject)
    with pytest.raises(ConfigurationError, match="catalogue check"):
        registry.register(subject, schema(name, TREE_NO, {"name": "height_m", "type": "double"}))


def test_the_newest_schema_of_a_subject_is_found_by_its_id(registry: Registry) -> None:
    name = unique("trees")
    subject = f"changes.parks.{name}-value"
    assert registry.latest(subject) is None
    registry.register(subject, schema(name, TREE_NO))
    newest = registry.register(subject, schema(name, TREE_NO, PLANTED_ON))
    assert registry.latest(subject) == newest
