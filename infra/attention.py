"""What the supervisor listens to between two looks at its processes: signals, a child's end, its parent's end."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Self

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Attention:
    """A context in which ``wait`` returns early for anything worth a look. For the main thread only.

    With a ``leash``, the read end of a pipe whose other end the parent holds, the parent's end counts as a
    request to stop. A second signal asks for haste.
    """

    def __init__(self, leash: int | None = None) -> None:
        self.stop_asked = False
        self.haste = False
        self._leash = leash

    def __enter__(self) -> Self:
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._former_waker = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        handlers = dict.fromkeys(_STOP, self._stop_requested) | {signal.SIGCHLD: _nothing}
        self._former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_waker)
        os.close(self._wake)
        os.close(self._waker)

    def wait(self, seconds: float) -> None:
        """Return after the seconds, or earlier when a signal arrives or the parent ends."""
        ends = [self._wake] if self._leash is None else [self._wake, self._leash]
        readable, _, _ = select.select(ends, [], [], seconds)
        if self._wake in readable:
            os.read(self._wake, 4096)
        if self._leash in readable and not os.read(self._leash, 4096):
            self._leash = None
            self.stop_asked = True

    def _stop_requested(self, _number: int, _frame: FrameType | None) -> None:
        self.haste, self.stop_asked = self.stop_asked, True


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler is needed for the signal to wake the loop."""
