"""How a stage's process lives: signals, health, rules that change, and a new worker after every fault."""

from __future__ import annotations

import argparse
import gc
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Self, TypeVar

import structlog

from civicbus import logs, observe
from civicbus.errors import AccessDenied, Fenced, Unavailable
from civicbus.names import Topic
from civicbus.secrets import Credentials, Principal, SecretStore
from civicbus.settings import Endpoints, Settings, secrets_folder
from civicbus.transport.compacted import Follower
from civicbus.transport.exactly_once import Loop, Worker

log = structlog.get_logger()

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
HEALTHY_S = 30.0
RULES_RETRY_S = 1.0
# A batch is some hundred thousand small objects that die with it; looking for cycles among them costs more than all
# the rest of the work on them.
OBJECTS_BETWEEN_COLLECTIONS = 500_000

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a stage's process starts from. ``worker`` tells apart the members of the stage's group, from 0 on."""

    stage: str
    worker: int
    home: Path
    endpoints: Endpoints
    principal: Principal

    @property
    def name(self) -> str:
        """Under which the process is seen."""
        return self.stage if self.worker == 0 else f"{self.stage}-{self.worker}"

    @property
    def loop(self) -> Loop:
        """How the worker reads and commits; its instance name is its place in the group and its transactions' id."""
        group = f"platform.{self.stage}"
        return Loop(process=self.name, group=group, instance=f"{group}.{self.worker}")

    @property
    def credentials(self) -> Credentials:
        """The secret as it is now, so that a worker made after a rotation knows the new one."""
        return SecretStore(secrets_folder(self.home)).read(self.principal)

    @classmethod
    def start(cls, stage: str, principal: Principal, arguments: Sequence[str] | None = None) -> Self:
        """Read the arguments, the settings and the endpoints; set up the logs."""
        parser = argparse.ArgumentParser(prog=f"python -m civicbus.stream_apps.{stage}")
        parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
        parser.add_argument("--worker", type=int, default=0, help="which member of the stage's group; default: 0")
        given = parser.parse_args(arguments)
        home: Path = given.home.resolve()
        process = cls(stage=stage, worker=given.worker, home=home, endpoints=Endpoints.load(home), principal=principal)
        logs.configure(process.name, Settings().log_level)
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
        return process

    def run(self, rules: tuple[Topic, ...], make_worker: Callable[[Follower], tuple[Worker, Rules[R]]]) -> None:
        """Until SIGTERM or SIGINT: follow the topics of the rules, and work by them."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        health = observe.Health()
        server = observe.serve(self.name, self.home, health)
        delay_s = FIRST_DELAY_S
        while not stop.is_set():
            began_s = time.monotonic()
            try:
                group = f"platform.{self.stage}.rules"
                with Follower(self.endpoints, self.credentials, rules, group) as followed:
                    followed.read_to_end()
                    worker, goes_by = make_worker(followed)
                    with worker:
                        _work(worker, goes_by, stop, health)
            except (Unavailable, Fenced, AccessDenied) as fault:
                health.down(str(fault))
                if time.monotonic() - began_s > HEALTHY_S:
                    delay_s = FIRST_DELAY_S
                log.warning("worker_replaced", fault=str(fault), retry_in_s=round(delay_s, 1))
                stop.wait(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
                delay_s = min(delay_s * 2, LONGEST_DELAY_S)
        server.shutdown()


class Rules(Generic[R]):
    """What a stage goes by, as ``read`` makes it of the topics; the present day is part of it.

    Where new rules cannot be made, because the registry does not answer, the stage goes on by the old ones.
    """

    def __init__(self, followed: Follower, read: Callable[[], R]) -> None:
        self._followed = followed
        self._read = read
        self._day = datetime.now(UTC).date()
        self._unread = False
        self._retry_at_s = 0.0
        self.taken_in: Mapping[str, int] = {}

    def read(self) -> R:
        """The rules as they stand."""
        positions = {str(topic): position for topic, position in self._followed.positions.items()}
        rules = self._read()
        self.taken_in = positions
        return rules

    def renewed(self, *, to_the_end: bool) -> R | None:
        """The rules if they changed since the last call; ``to_the_end``: nothing that is published now is missing."""
        changed = self._followed.catch_up() if to_the_end else self._followed.changed()
        today = datetime.now(UTC).date()
        if changed or today != self._day:
            self._day, self._unread, self._retry_at_s = today, True, 0.0
        if not self._unread or (not to_the_end and time.monotonic() < self._retry_at_s):
            return None
        try:
            rules = self.read()
        except Unavailable as fault:
            if to_the_end:
                raise
            log.warning("rules_unread", fault=str(fault))
            self._retry_at_s = time.monotonic() + RULES_RETRY_S
            return None
        self._unread = False
        log.info("rules_changed")
        return rules


def _work(worker: Worker, rules: Rules[R], stop: threading.Event, health: observe.Health) -> None:
    worker.start()
    while not stop.is_set():
        worker.turn()
        health.goes_by = rules.taken_in
        if worker.ready and not health.ready:
            _settle_memory()
            health.up()


def _settle_memory() -> None:
    """What was read at the start stays for good: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
