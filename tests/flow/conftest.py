"""A session's views, on the session's platform; admission is in the conftest above."""

from collections.abc import Iterator

import pytest

from support.platform import Platform
from support.stages import StageProcess, views


@pytest.fixture(scope="session")
def running_views(platform: Platform) -> Iterator[StageProcess]:
    process = views(platform.home)
    process.start()
    yield process
    process.stop()
