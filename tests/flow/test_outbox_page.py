"""The quick start of docs/outbox.md, followed literally, works."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from civicbus.infra.desired import Role, departments_with
from civicbus.names import DepartmentId
from support.following import described, follow, withdraw
from support.outbox import records, relay
from support.platform import Platform, unique
from support.stages import wait_for


@pytest.fixture
def department(platform: Platform, tmp_path: Path) -> Iterator[DepartmentId]:
    """A department that nobody else uses; its entries are withdrawn afterwards."""
    yield DepartmentId(unique("gardens"))
    withdraw(platform, tmp_path / "my_catalogue")


def test_the_page_followed_literally_publishes_what_it_says(platform, running_admission, department, tmp_path):
    process = relay(platform.home, department)

    def supervise() -> None:
        """What the supervisor does: start the relay once the page has asked for it."""
        wait_for("the relay's place", lambda: department in departments_with(platform.home, Role.OUTBOX) or None, 110)
        process.launch()

    with ThreadPoolExecutor(1) as supervisor:
        supervised = supervisor.submit(supervise)
        said = follow("outbox.md", platform, tmp_path, department)
        supervised.result()
    try:
        assert "2 rows that it has are on their way" in " ".join(said.split()).replace("│ │ ", "")
        dataset = described(platform, tmp_path / "my_catalogue", department).dataset
        expected = {b"T0001": "oak", b"T0002": "linden"}
        wait_for(
            "both trees",
            lambda: {key: row["species"] for key, row in records(platform, dataset).items()} == expected or None,
        )
    finally:
        process.stop()
