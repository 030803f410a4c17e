"""The stage processes of a session, on the session's platform."""

from collections.abc import Iterator

import pytest

from support.platform import Platform
from support.stages import StageProcess, admission, views


@pytest.fixture(scope="session")
def running_admission(platform: Platform) -> Iterator[StageProcess]:
    process = admission(platform.home)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def running_views(platform: Platform) -> Iterator[StageProcess]:
    process = views(platform.home)
    process.start()
    yield process
    process.stop()
