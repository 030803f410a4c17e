"""Runs the commands of a page as a reader would type them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from civicbus.names import CATALOGUE_TOPIC
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.schemas.published import rows_of
from civicbus.secrets import OPERATOR
from civicbus.transport.compacted import put_all

from .platform import Platform
from .project import ROOT

DEPARTMENT = "gardens"
"""The department of every quick start; a test gives it a name that nobody else uses."""


def followed(page: str, platform: Platform, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Every block of shell commands on a page of the docs, in order, in one shell that stops at the first fault."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    bash = shutil.which("bash")
    assert bash is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-e", "-c", "".join(commands).replace(DEPARTMENT, name)],
        cwd=folder,
        env=os.environ | {"CIVICBUS_HOME": str(platform.home), "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@contextmanager
def withdrawn(platform: Platform, folder: Path) -> Iterator[None]:
    """Afterwards the entries of a page's catalogue are taken back from the platform."""
    yield
    entries = [(key, None) for key, _ in rows_of(load_catalogue(folder / "my_catalogue"))]
    put_all(platform.endpoints, platform.secrets.read(OPERATOR), CATALOGUE_TOPIC, entries)
