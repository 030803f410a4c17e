"""A page of the docs followed literally: its commands, in a shell, for a department that nobody else uses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from civicbus.names import CATALOGUE_TOPIC, DatasetId, department_id, value_subject
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.schemas.published import rows_of
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR, principal_of
from civicbus.transport.compacted import put_all
from support.changes import Owned
from support.platform import Member, Platform
from support.project import ROOT


def follow(page: str, platform: Platform, folder: Path, department: str) -> str:
    """Run every `sh` block of a page in this folder, its gardens being the department; returns what was printed."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [shutil.which("bash"), "-e", "-c", "".join(commands).replace("gardens", department)],
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


def described(platform: Platform, catalogue: Path, department: str) -> Owned:
    """The trees that a page's catalogue describes."""
    owner = department_id(department)
    dataset = load_catalogue(catalogue).datasets[DatasetId(owner, "trees")]
    with Registry(platform.endpoints.registry_url) as registry:
        schema_id = registry.latest(value_subject(dataset.id.changes))
    member = Member(id=owner, credentials=platform.secrets.read(principal_of(owner)))
    return Owned(platform, member, dataset, schema_id)


def withdraw(platform: Platform, catalogue: Path) -> None:
    """Take a page's entries away again."""
    entries = [(key, None) for key, _ in rows_of(load_catalogue(catalogue))]
    put_all(platform.endpoints, platform.secrets.read(OPERATOR), CATALOGUE_TOPIC, entries)
