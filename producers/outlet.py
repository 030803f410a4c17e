"""Where a publisher's changes go, and what tells it that they have arrived.

Three things take changes: the broker (``transport.outgoing``), a spool before it (``spooling``), and the fake bus
of ``civicbus.testing``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from civicbus.errors import CivicbusError, Unavailable
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


class Promise:
    """A receipt that somebody else settles."""

    def __init__(self, event_id: str, sequence: int | None) -> None:
        self.event_id = event_id
        self.sequence = sequence
        self._settled = threading.Condition()
        self._answer: Position | CivicbusError | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        return self._answer is not None

    @property
    def failure(self) -> CivicbusError | None:
        return self._answer if isinstance(self._answer, CivicbusError) else None

    def wait(self, deadline: float) -> bool:
        with self._settled:
            return self._settled.wait_for(lambda: self.done, max(deadline - time.monotonic(), 0.0))

    def result(self, timeout_s: float | None = None) -> Position:
        with self._settled:
            self._settled.wait_for(lambda: self.done, timeout_s)
        if isinstance(self._answer, Position):
            return self._answer
        raise self._answer or Unavailable(f"event {self.event_id} is not acknowledged yet")

    def when_done(self, tell: Callable[[], None]) -> None:
        with self._settled:
            if not self.done:
                self._listeners.append(tell)
                return
        tell()

    def settle(self, answer: Position | CivicbusError) -> None:
        """Give the answer; called once."""
        with self._settled:
            self._answer = answer
            self._settled.notify_all()
            listeners, self._listeners = self._listeners, []
        for tell in listeners:
            tell()
