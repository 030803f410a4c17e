"""Starts the platform's processes in order, keeps them running, and stops them in reverse order.

The loop has one thread, so every process is spawned by the main one (see ``guard``); whatever may take time
(asking whether a process is ready, a step such as provisioning) runs in a thread of its own and is looked at
when it is done. A start that cannot succeed stops everything again and says which process failed, with the
last lines of its log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from civicbus.errors import CivicbusError, ConfigurationError, Unavailable
from civicbus.infra.attention import Attention
from civicbus.infra.background import in_background
from civicbus.infra.charge import DEATHS_AT_START, Charge
from civicbus.infra.guard import Guard
from civicbus.infra.logfiles import RotatingLog
from civicbus.infra.processes import Event, Notice, Phase, ProcessStatus, State, Tell
from civicbus.infra.service import Service

PLATFORM = "platform"
_BUSY_TICK_S = 0.05
_QUIET_TICK_S = 1.0
_SHOWN_LINES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Work of the start that is no process. What it returns joins the plan; it may take its time."""

    name: str
    run: Callable[[], Sequence[Service | Step]]
    after: tuple[str, ...] = ()


@dataclass(slots=True)
class _StepRun:
    step: Step
    began: float = 0.0
    outcome: Future[Sequence[Service | Step]] | None = None
    done: bool = False


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """``run`` is the whole life of a platform: start, watch until asked to stop, stop.

    ``plan`` is what the platform stands on; ``desired`` names the processes that may come and go while it
    runs, and is asked again every second. ``show`` gets every change of state.
    """

    plan: Sequence[Service | Step]
    desired: Callable[[], Sequence[Service]]
    guard: Guard
    logs: Path
    tell: Tell
    show: Callable[[Phase, Sequence[ProcessStatus]], None]
    attention: Attention
    _phase: Phase = Phase.STARTING
    _steps: dict[str, _StepRun] = field(default_factory=dict)
    _charges: dict[str, Charge] = field(default_factory=dict)
    _comers: set[str] = field(default_factory=set)
    _asked_at: float = 0.0
    _complaint: str = ""
    _shown: tuple[Phase, tuple[ProcessStatus, ...]] | None = None

    def run(self) -> bool:
        """True when everything was up before the request to stop; raises what made the start fail."""
        try:
            began = time.monotonic()
            self._admit(self.plan)
            started = self._start()
            if started:
                self._phase = Phase.RUNNING
                self.tell(Notice(process=PLATFORM, event=Event.READY, seconds=time.monotonic() - began))
                self._watch()
            return started
        finally:
            self._phase = Phase.STOPPING
            self._stop_all()

    def _start(self) -> bool:
        """Work on the plan until everything in it is ready or somebody asks to stop."""
        while not self.attention.stop_asked:
            now = time.monotonic()
            self._advance(now)
            self._raise_failure(now)
            if self._complete():
                return True
            self._rest(_BUSY_TICK_S)
        return False

    def _watch(self) -> None:
        while not self.attention.stop_asked:
            self._advance(time.monotonic())
            quiet = all(charge.state is State.READY for charge in self._charges.values())
            self._rest(_QUIET_TICK_S if quiet else _BUSY_TICK_S)

    def _stop_all(self) -> None:
        """Stop first what nothing alive stands on."""
        while alive := [charge for charge in self._charges.values() if charge.alive]:
            now = time.monotonic()
            needed = _stood_on(alive, self._afters())
            for charge in alive:
                if charge.name not in needed:
                    charge.stop(now)
                if self.attention.haste:
                    charge.hasten()
                charge.see_off(now)
            self._rest(_BUSY_TICK_S)
        for charge in self._charges.values():
            charge.log.close()

    def _rest(self, seconds: float) -> None:
        self._show_changes()
        self.guard.watch()
        self.attention.wait(seconds)

    def _advance(self, now: float) -> None:
        """Move every step and every process on by what has happened."""
        self._tend_steps(now)
        self._follow_desired(now)
        for charge in list(self._charges.values()):
            if charge.state is State.WAITING and self._met(charge.service.after):
                charge.start(now)
            elif charge.state is State.STOPPED:
                self._part_with(charge)
            else:
                charge.tend(now)

    def _tend_steps(self, now: float) -> None:
        for run in list(self._steps.values()):
            if run.outcome is None and self._met(run.step.after):
                self.tell(Notice(process=run.step.name, event=Event.STARTED))
                run.began, run.outcome = now, in_background(run.step.run)
            elif run.outcome is not None and run.outcome.done() and not run.done:
                self._admit(run.outcome.result())
                run.done = True
                self.tell(Notice(process=run.step.name, event=Event.READY, seconds=now - run.began))

    def _follow_desired(self, now: float) -> None:
        """Take in the processes that are newly wanted, and stop those that no longer are."""
        if self._phase is Phase.RUNNING and now - self._asked_at < _QUIET_TICK_S:
            return
        self._asked_at = now
        wanted = self._wanted()
        self._admit([service for service in wanted if service.name not in self._charges])
        names = {service.name for service in wanted}
        for name in self._comers - names:
            self._charges[name].stop(now)
        self._comers |= names

    def _wanted(self) -> Sequence[Service]:
        """The desired processes; when they cannot be told, a start fails and a running platform stays as it is."""
        try:
            return self.desired()
        except CivicbusError as fault:
            if self._phase is Phase.STARTING:
                raise
            if self._complaint != str(fault):
                self._complaint = str(fault)
                self.tell(Notice(process=PLATFORM, event=Event.PROGRESS, detail=self._complaint))
            return [charge.service for charge in self._charges.values() if charge.name in self._comers]

    def _admit(self, items: Iterable[Service | Step]) -> None:
        for item in items:
            if isinstance(item, Step):
                self._steps[item.name] = _StepRun(item)
            else:
                log = RotatingLog(self.logs / f"{item.name}.log")
                self._charges[item.name] = Charge(service=item, guard=self.guard, log=log, tell=self.tell)

    def _part_with(self, charge: Charge) -> None:
        charge.log.close()
        self._comers.discard(charge.name)
        del self._charges[charge.name]

    def _met(self, after: Iterable[str]) -> bool:
        return all(self._reached(name) for name in after)

    def _reached(self, name: str) -> bool:
        if name in self._steps:
            return self._steps[name].done
        return name in self._charges and self._charges[name].was_ready

    def _complete(self) -> bool:
        return all(run.done for run in self._steps.values()) and all(
            charge.state is State.READY for charge in self._charges.values() if charge.service.essential
        )

    def _raise_failure(self, now: float) -> None:
        for charge in self._charges.values():
            if not charge.service.essential:
                continue
            if charge.late(now):
                raise _failed(charge, f"{charge.name} was not ready within {charge.service.ready_timeout_s:g} s")
            if not charge.was_ready and charge.deaths >= DEATHS_AT_START:
                raise _failed(charge, f"{charge.name} ended {charge.deaths} times before it was ready")
        waits = [run.outcome is None and not self._met(run.step.after) for run in self._steps.values() if not run.done]
        waits += [
            charge.state is State.WAITING and not self._met(charge.service.after)
            for charge in self._charges.values()
            if charge.state is not State.READY
        ]
        if waits and all(waits):
            unmet = {name for after in self._afters().values() for name in after if not self._reached(name)}
            raise ConfigurationError(f"the plan waits for {', '.join(sorted(unmet))}, which nothing in it starts")

    def _afters(self) -> dict[str, tuple[str, ...]]:
        """What each step and process comes after."""
        return {name: run.step.after for name, run in self._steps.items()} | {
            name: charge.service.after for name, charge in self._charges.items()
        }

    def _show_changes(self) -> None:
        statuses = tuple(charge.status() for charge in self._charges.values())
        if (self._phase, statuses) != self._shown:
            self._shown = (self._phase, statuses)
            self.show(self._phase, statuses)


def _stood_on(alive: Iterable[Charge], afters: Mapping[str, Sequence[str]]) -> set[str]:
    """The names that these processes come after, directly or through others."""
    found: set[str] = set()
    ahead = [name for charge in alive for name in charge.service.after]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(afters.get(name, ()))
    return found


def _failed(charge: Charge, what: str) -> Unavailable:
    """The fault of a start, with the last lines of the log and the log's place."""
    lines = "".join(f"\n  | {line}" for line in charge.log.last_lines(_SHOWN_LINES))
    why = f" ({charge.detail})" if charge.detail else ""
    return Unavailable(f"{what}{why}{lines}", mend=f"the whole log is {charge.log.path}")
