"""Work in a thread of its own, whose outcome is looked at later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_Answer = TypeVar("_Answer")


def in_background(work: Callable[[], _Answer]) -> Future[_Answer]:
    """The outcome-to-be of some work in a daemon thread, which never delays the end of this process."""
    outcome: Future[_Answer] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as fault:  # noqa: BLE001 - raised again where the outcome is asked for
            outcome.set_exception(fault)

    threading.Thread(target=run, daemon=True).start()
    return outcome
