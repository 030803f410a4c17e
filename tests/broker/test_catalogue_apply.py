"""Applying a catalogue to a running platform: topics, schemas, entries; twice; and what it may not replace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from civicbus.cli.applying import apply_catalogue, published_catalogue
from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.infra.provision import provision_dataset
from civicbus.infra.sessions import operator_administration
from civicbus.names import CATALOGUE_TOPIC, value_subject
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.schemas.datasets import Catalogue, Dataset, Retention
from civicbus.schemas.published import rows_of
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR
from civicbus.transport.compacted import put_all
from conftest import Platform, unique
from support.entries import DEPARTMENT, ENTRY, SCHEMA, write_catalogue


@pytest.fixture
def catalogue(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """A catalogue of one department that nobody else uses; its entries are withdrawn afterwards."""
    department = unique("parks")
    folder = write_catalogue(
        tmp_path_factory.mktemp("catalogue"),
        entry=ENTRY.replace("id: parks.", f"id: {department}."),
        schema=SCHEMA.replace("civicbus.parks", f"civicbus.{department}"),
        department=DEPARTMENT.replace("id: parks", f"id: {department}"),
    )
    (folder / "parks").rename(folder / department)
    loaded = load_catalogue(folder)
    yield loaded
    rows = ((key, None) for key, _ in rows_of(loaded))
    put_all(platform.endpoints, platform.secrets.read(OPERATOR), CATALOGUE_TOPIC, rows)


def only(catalogue: Catalogue) -> Dataset:
    (dataset,) = catalogue.datasets.values()
    return dataset


def having(catalogue: Catalogue, dataset: Dataset) -> Catalogue:
    return Catalogue(departments=catalogue.departments, datasets={dataset.id: dataset})


def test_an_applied_dataset_has_topics_schemas_and_an_entry(platform: Platform, catalogue: Catalogue) -> None:
    found = apply_catalogue(platform.endpoints, platform.secrets, catalogue)
    trees = only(catalogue)
    assert found.new == (trees.id,)
    with operator_administration(platform.endpoints, platform.secrets) as admin:
        topics = admin.topics([trees.id.changes, trees.id.records, trees.id.quarantine])
    assert [state.partitions for state in topics.values()] == [4, 4, 4]
    with Registry(platform.endpoints.registry_url) as registry:
        schema_id = registry.register(value_subject(trees.id.records), trees.schema)
        assert registry.schema(schema_id) == trees.schema
    published = published_catalogue(platform.endpoints, platform.secrets)
    assert published.datasets[trees.id] == trees
    assert published.departments[trees.id.department] == catalogue.departments[trees.id.department]


def test_applying_again_changes_nothing(platform: Platform, catalogue: Catalogue) -> None:
    apply_catalogue(platform.endpoints, platform.secrets, catalogue)
    again = apply_catalogue(platform.endpoints, platform.secrets, catalogue)
    assert (again.new, again.changed, again.departments) == ((), (), ())
    assert again.unchanged == (only(catalogue).id,)


def test_other_terms_are_published(platform: Platform, catalogue: Catalogue) -> None:
    apply_catalogue(platform.endpoints, platform.secrets, catalogue)
    longer = replace(only(catalogue), retention=Retention(changes_days=14))
    found = apply_catalogue(platform.endpoints, platform.secrets, having(catalogue, longer))
    assert found.changed == ((longer.id, ("retention",)),)
    assert published_catalogue(platform.endpoints, platform.secrets).datasets[longer.id] == longer


def test_an_entry_that_may_not_replace_the_published_one_changes_nothing(
    platform: Platform, catalogue: Catalogue
) -> None:
    apply_catalogue(platform.endpoints, platform.secrets, catalogue)
    trees = only(catalogue)
    other_key = having(catalogue, replace(trees, key=("species",), retention=Retention(changes_days=14)))
    with pytest.raises(CheckFailed, match="its key was tree_no"):
        apply_catalogue(platform.endpoints, platform.secrets, other_key)
    assert published_catalogue(platform.endpoints, platform.secrets).datasets[trees.id] == trees


def test_an_entry_is_not_published_before_its_topics_are_right(platform: Platform, catalogue: Catalogue) -> None:
    trees = only(catalogue)
    provision_dataset(platform.endpoints, platform.secrets, replace(trees, partitions=trees.partitions + 1))
    with pytest.raises(ConfigurationError, match="partitions"):
        apply_catalogue(platform.endpoints, platform.secrets, catalogue)
    assert trees.id not in published_catalogue(platform.endpoints, platform.secrets).datasets
