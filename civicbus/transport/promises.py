"""The coming answer of the broker for one change, given by whoever learns it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from civicbus.errors import CivicbusError, Unavailable
from civicbus.transport.outgoing import Position


class Promise:
    """A receipt that somebody else settles. ``settled``: what many of them wait on together; default: one's own."""

    def __init__(self, event_id: str, sequence: int | None, settled: threading.Condition | None = None) -> None:
        self.event_id = event_id
        self.sequence = sequence
        self._settled = settled or threading.Condition()
        self._answer: Position | CivicbusError | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """Whether the broker has acknowledged the change or its delivery has failed."""
        return self._answer is not None

    @property
    def failure(self) -> CivicbusError | None:
        """The fault that the delivery failed with; None while it is on its way and once it is acknowledged."""
        return self._answer if isinstance(self._answer, CivicbusError) else None

    def wait(self, deadline: float) -> bool:
        """Wait until it is done, or until the monotonic clock shows ``deadline``; returns whether it is."""
        with self._settled:
            return self._settled.wait_for(lambda: self.done, max(deadline - time.monotonic(), 0.0))

    def result(self, timeout_s: float | None = None) -> Position:
        """Where the change stands once it is acknowledged; raises the fault that it failed with, or Unavailable."""
        with self._settled:
            self._settled.wait_for(lambda: self.done, timeout_s)
        if isinstance(self._answer, Position):
            return self._answer
        raise self._answer or Unavailable(f"event {self.event_id} is not acknowledged yet")

    def when_done(self, tell: Callable[[], None]) -> None:
        """Have this called, from some thread, once it is done; at once where it is already. It must not wait."""
        with self._settled:
            if not self.done:
                self._listeners.append(tell)
                return
        tell()

    def settle(self, answer: Position | CivicbusError) -> None:
        """Give the answer; called once."""
        with self._settled:
            listeners = self.answered(answer)
        for tell in listeners:
            tell()

    def answered(self, answer: Position | CivicbusError) -> Sequence[Callable[[], None]]:
        """As ``settle``, by who holds the condition; who is to be told is told by the caller, once it is let go."""
        self._answer = answer
        self._settled.notify_all()
        listeners, self._listeners = self._listeners, []
        return listeners
