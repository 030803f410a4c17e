"""A session's views, on the session's platform; admission is in the conftest above."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.following import withdraw
from support.platform import Platform, unique
from support.stages import StageProcess, views


@pytest.fixture(scope="session")
def running_views(platform: Platform) -> Iterator[StageProcess]:
    process = views(platform.home)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def gardens(platform: Platform, tmp_path: Path) -> Iterator[str]:
    """A quick-start page's department, under a name that nobody else uses; its entries are withdrawn afterwards."""
    yield unique("gardens")
    withdraw(platform, tmp_path / "my_catalogue")
