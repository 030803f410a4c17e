"""Where a publisher's changes go, and what tells it that they have arrived.

Three things take changes: the broker (``transport.outgoing``), a spool before it (``spooling``), and the fake bus
of ``civicbus.testing``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from civicbus.errors import CivicbusError
from civicbus.events import Headers
from civicbus.transport.outgoing import Position


class Receipt(Protocol):
    """The coming answer of the broker for one change."""

    @property
    def event_id(self) -> str: ...

    @property
    def sequence(self) -> int | None: ...

    @property
    def done(self) -> bool:
        """Whether the broker has acknowledged the change or its delivery has failed."""

    @property
    def failure(self) -> CivicbusError | None:
        """The fault that the delivery failed with; None while it is on its way and once it is acknowledged."""

    def wait(self, deadline: float) -> bool:
        """Wait until it is done, or until the monotonic clock shows ``deadline``; returns whether it is."""

    def result(self, timeout_s: float | None = None) -> Position:
        """Where the change stands once it is acknowledged; raises the fault that it failed with, or Unavailable."""

    def when_done(self, tell: Callable[[], None]) -> None:
        """Have this called, from some thread, once it is done; at once where it is already. It must not wait."""


class Outlet(Protocol):
    """What takes changes, in order, for one topic. Safe to use from several threads."""

    def send(
        self, *, key: bytes | None, value: bytes | None, headers: Headers, event_id: str, sequence: int | None
    ) -> Receipt:
        """Take a change over, waiting while too much is on its way; raises what failed before it."""

    def would_wait(self, size: int) -> bool:
        """Whether ``send`` may have to wait before it takes a change of this many bytes."""

    def waiting(self) -> int:
        """How many changes are taken and not acknowledged."""

    def flush(self, timeout_s: float) -> None:
        """Wait until the broker has everything sent so far; raises what failed, or Unavailable when time is out."""

    def close(self) -> None:
        """Flush and disconnect; raises what failed or was not acknowledged."""

    def give_up(self) -> None:
        """Disconnect at once, whatever is on its way."""

    def topic_id(self) -> str:
        """What the broker calls the topic; a topic that was made anew is called otherwise."""
