"""The quick start of docs/capture.md, followed literally, works."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from civicbus.infra.desired import Role, departments_with, remove_processes
from civicbus.names import department_id
from civicbus.producers.capture.declared import withdraw as end_capture
from support.capturing import capturing
from support.changes import latest
from support.following import described, follow, withdraw
from support.platform import Platform, unique
from support.stages import wait_for


def start_what_is_wanted(platform: Platform, name: str, stack: ExitStack, over: threading.Event) -> None:
    """What the supervisor does: start the processes of a department once it captures."""
    while not over.wait(0.1):
        if name in departments_with(platform.home, Role.CAPTURE):
            stack.enter_context(capturing(platform, department_id(name)))
            return


def test_the_page_followed_literally_publishes_what_it_says(platform, tmp_path):
    name, over = unique("gardens"), threading.Event()
    with ExitStack() as stack:
        supervisor = threading.Thread(target=start_what_is_wanted, args=(platform, name, stack, over))
        supervisor.start()
        try:
            said = follow("capture.md", platform, tmp_path, name)
            owned = described(platform, tmp_path / "my_catalogue", name)
            wait_for("four changes", lambda: owned.count() >= 4 or None)
        finally:
            over.set()
            supervisor.join()
            end_capture(platform.home, owned.dataset.id)
            remove_processes(platform.home, Role.CAPTURE, [department_id(name)])
            withdraw(platform, tmp_path / "my_catalogue")
    assert "streaming" in said
    rows = {key.decode(): owned.row(change) for key, change in latest(owned.changes()).items()}
    assert rows["T0001"] is None
    assert rows["T0002"] is not None
    assert rows["T0002"]["species"] == "linden"
