"""The quick starts of docs/publish.md, followed literally, work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from civicbus.names import DatasetId, department_id, value_subject
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.schemas.registry import Registry
from civicbus.secrets import principal_of
from support.changes import Owned, latest
from support.platform import Member, Platform, unique
from support.quick_starts import followed, withdrawn


@pytest.fixture
def name(platform: Platform, tmp_path: Path) -> Iterator[str]:
    """A department that nobody else uses; its entries are withdrawn afterwards."""
    with withdrawn(platform, tmp_path):
        yield unique("gardens")


def test_the_page_followed_literally_publishes_what_it_says(platform, name, tmp_path):
    done = followed("publish.md", platform, name, tmp_path)
    assert "3 rows: 3 new or changed, 0 deleted, 0 unchanged, 0 refused" in done.stdout
    assert "3 rows: 1 new or changed, 0 deleted, 2 unchanged, 0 refused" in done.stdout
    department = department_id(name)
    dataset = load_catalogue(tmp_path / "my_catalogue").datasets[DatasetId(department, "trees")]
    with Registry(platform.endpoints.registry_url) as registry:
        schema_id = registry.latest(value_subject(dataset.id.changes))
    member = Member(id=department, credentials=platform.secrets.read(principal_of(department)))
    owned = Owned(platform, member, dataset, schema_id)
    rows = {key.decode(): owned.row(change) for key, change in latest(owned.changes()).items()}
    assert rows["T0001"] is None
    assert {key: row["species"] for key, row in rows.items() if row} == {
        "T0002": "linden",
        "T0003": "银杏",
        "T0004": "oak",
    }
