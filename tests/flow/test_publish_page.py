"""The quick starts of docs/publish.md, followed literally, work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from civicbus.names import CATALOGUE_TOPIC, DatasetId, department_id, value_subject
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.schemas.published import rows_of
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR, principal_of
from civicbus.transport.compacted import put_all
from support.changes import Owned, latest
from support.platform import Member, Platform, unique

PAGE = Path(__file__).parents[2] / "docs" / "publish.md"


@pytest.fixture
def name(platform: Platform, tmp_path: Path) -> Iterator[str]:
    """A department that nobody else uses; its entries are withdrawn afterwards."""
    yield unique("gardens")
    entries = [(key, None) for key, _ in rows_of(load_catalogue(tmp_path / "my_catalogue"))]
    put_all(platform.endpoints, platform.secrets.read(OPERATOR), CATALOGUE_TOPIC, entries)


def test_the_page_followed_literally_publishes_what_it_says(platform, name, tmp_path):
    commands = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [shutil.which("bash"), "-e", "-c", "".join(commands).replace("gardens", name)],
        cwd=tmp_path,
        env=os.environ
        | {"CIVICBUS_HOME": str(platform.home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
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
