"""One process in the supervisor's charge: started, found ready, restarted when it dies, seen off.

``tend`` is called again and again with the time; each call looks at the process and moves it at most one
state on. Nothing here waits.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from civicbus.infra.background import in_background
from civicbus.infra.guard import Child, Guard
from civicbus.infra.logfiles import RotatingLog
from civicbus.infra.processes import Event, Notice, ProcessStatus, State, Tell
from civicbus.infra.service import Service

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30.0
HEALTHY_AFTER_S = 60.0
CHECK_STARTING_S = 0.1
CHECK_READY_S = 5.0
DEATHS_AT_START = 3


def backoff_s(deaths: int) -> float:
    """How long to wait before the next start after so many deaths in succession (at least one)."""
    return min(LONGEST_BACKOFF_S, math.ldexp(FIRST_BACKOFF_S, min(deaths - 1, 16)))


@dataclass(slots=True, kw_only=True)
class Charge:
    """The supervisor's view of one service. ``detail`` says why it is in its state."""

    service: Service
    guard: Guard
    log: RotatingLog
    tell: Tell
    state: State = State.WAITING
    detail: str = ""
    restarts: int = 0
    was_ready: bool = False
    deaths: int = 0
    _child: Child | None = None
    _check: Future[bool] | None = None
    _check_at: float = 0.0
    _since: float = 0.0
    _since_epoch: float = field(default_factory=time.time)
    _first_start: float = math.inf
    _deadline: float = 0.0

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def alive(self) -> bool:
        return self._child is not None

    def status(self) -> ProcessStatus:
        return ProcessStatus(
            name=self.name,
            state=self.state,
            detail=self.detail,
            pid=None if self._child is None else self._child.pid,
            since=self._since_epoch,
            restarts=self.restarts,
            log=self.log.path,
        )

    def late(self, now: float) -> bool:
        """Whether it was never ready and its time for that is over."""
        return not self.was_ready and now > self._first_start + self.service.ready_timeout_s

    def start(self, now: float) -> None:
        self._first_start = min(self._first_start, now)
        self.log.forget()
        self._child = self.guard.spawn(self.service, self.log)
        self._check, self._check_at = None, now
        self._enter(State.STARTING, now)
        self._say(Event.STARTED, f"pid {self._child.pid}")

    def tend(self, now: float) -> None:
        """Look at the process and act on what is found."""
        match self.state:
            case State.STARTING | State.READY | State.NOT_ANSWERING:
                self._look_at_living(now)
            case State.RESTARTING if now >= self._deadline:
                self.restarts += 1
                self.start(now)
            case State.STOPPING:
                self.see_off(now)
            case _:
                pass

    def stop(self, now: float) -> None:
        """Ask the process to end; one that does not run is stopped at once."""
        if self._child is None:
            self._enter(State.STOPPED, now)
        elif self.state is not State.STOPPING:
            self._deadline = now + self.service.stop_timeout_s
            self._enter(State.STOPPING, now)
            self._say(Event.STOPPING)
            self._child.process.send_signal(self.service.stop_signal)

    def see_off(self, now: float) -> None:
        """Notice the end of a process that is not wanted any more, and enforce it when its time is over."""
        if self._child is None:
            return
        if self._child.ended:
            ended = self._bury(self._child)
            self._enter(State.STOPPED, now)
            self._say(Event.STOPPED, ended)
        elif self.state is State.STOPPING and now >= self._deadline:
            self._deadline = math.inf
            self._say(Event.KILLED, f"it did not stop within {self.service.stop_timeout_s:g} s")
            self._child.kill()

    def hasten(self) -> None:
        """Let a stopping process's time be over now."""
        if self._deadline != math.inf:
            self._deadline = 0.0

    def _look_at_living(self, now: float) -> None:
        if self._child is not None and self._child.ended:
            self._plan_restart(self._bury(self._child), now)
        elif self._check is None:
            if now >= self._check_at:
                self._check = in_background(self.service.ready)
        elif self._check.done():
            self._judge(self._check, now)

    def _plan_restart(self, ended: str, now: float) -> None:
        if self.state is State.READY and now - self._since >= HEALTHY_AFTER_S:
            self.deaths = 0
        self.deaths += 1
        pause_s = backoff_s(self.deaths)
        self._deadline = now + pause_s
        self._enter(State.RESTARTING, now, f"{ended}; starts again in {pause_s:g} s")
        self._say(Event.DIED, self.detail)

    def _judge(self, check: Future[bool], now: float) -> None:
        """Take the answer of a finished check."""
        self._check = None
        ready, why = _answer_of(check)
        self._check_at = now + (CHECK_READY_S if ready else CHECK_STARTING_S)
        if ready and self.state is not State.READY:
            self._say(Event.READY, seconds=now - self._since)
            self._enter(State.READY, now)
            self.was_ready = True
        elif not ready and self.state is State.READY:
            self._enter(State.NOT_ANSWERING, now, why)
            self._say(Event.NOT_ANSWERING, why)
        elif not ready:
            self.detail = why

    def _bury(self, child: Child) -> str:
        self._child = None
        return self.guard.bury(child)

    def _enter(self, state: State, now: float, detail: str = "") -> None:
        self.state, self.detail = state, detail
        self._since, self._since_epoch = now, time.time()

    def _say(self, event: Event, detail: str = "", seconds: float | None = None) -> None:
        self.tell(Notice(process=self.name, event=event, detail=detail, seconds=seconds))


def _answer_of(check: Future[bool]) -> tuple[bool, str]:
    """A check that fails is a no with the failure's text; it is shown, and never ends the platform."""
    fault = check.exception()
    if fault is not None:
        return False, f"{type(fault).__name__}: {fault}"
    return check.result(), ""
