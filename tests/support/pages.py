"""Follows the commands of a page of the docs literally, as a newcomer would, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from civicbus.names import CATALOGUE_TOPIC, DatasetId, department_id, value_subject
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.schemas.published import rows_of
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR, principal_of
from civicbus.transport.compacted import put_all
from support.changes import Owned
from support.platform import Member, Platform, unique
from support.project import ROOT


@contextmanager
def own_gardens(platform: Platform, folder: Path) -> Iterator[str]:
    """A department that nobody else uses, to stand for the page's; its entries are withdrawn afterwards."""
    yield unique("gardens")
    entries = [(key, None) for key, _ in rows_of(load_catalogue(folder / "my_catalogue"))]
    put_all(platform.endpoints, platform.secrets.read(OPERATOR), CATALOGUE_TOPIC, iter(entries))


def followed(page: str, gardens: str, platform: Platform, folder: Path) -> str:
    """What the page's commands print, ``gardens`` being called otherwise."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-e", "-c", "".join(commands).replace("gardens", gardens)],
        cwd=folder,
        env=os.environ
        | {"CIVICBUS_HOME": str(platform.home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def trees_of(gardens: str, platform: Platform, folder: Path) -> Owned:
    """The page's dataset, as the page's commands have made it."""
    department = department_id(gardens)
    dataset = load_catalogue(folder / "my_catalogue").datasets[DatasetId(department, "trees")]
    with Registry(platform.endpoints.registry_url) as registry:
        schema_id = registry.latest(value_subject(dataset.id.changes))
    assert schema_id is not None
    member = Member(id=department, credentials=platform.secrets.read(principal_of(department)))
    return Owned(platform, member, dataset, schema_id)
