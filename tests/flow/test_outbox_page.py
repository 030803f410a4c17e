"""The quick start of docs/outbox.md, followed literally, works."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from civicbus.infra.desired import Role, departments_with
from support.following import described, follow
from support.outbox import records, relay
from support.stages import wait_for


def test_the_page_followed_literally_publishes_what_it_says(platform, running_admission, gardens, tmp_path):
    process = relay(platform.home, gardens)

    def supervise() -> None:
        """What the supervisor does: start the relay once the page has asked for it."""
        wait_for("the relay's place", lambda: gardens in departments_with(platform.home, Role.OUTBOX) or None, 110)
        process.launch()

    with ThreadPoolExecutor(1) as supervisor:
        supervised = supervisor.submit(supervise)
        said = follow("outbox.md", platform, tmp_path, gardens)
        supervised.result()
    try:
        assert "2 rows that it has are on their way" in " ".join(said.split()).replace("│ │ ", "")
        dataset = described(platform, tmp_path / "my_catalogue", gardens).dataset
        expected = {b"T0001": "oak", b"T0002": "linden"}
        wait_for(
            "both trees",
            lambda: {key: row["species"] for key, row in records(platform, dataset).items()} == expected or None,
        )
    finally:
        process.stop()
