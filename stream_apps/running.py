"""How a stage's process lives: signals, health, rules that change, and a new worker after every fault."""

from __future__ import annotations

import argparse
import gc
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
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
from civicbus.transport.exactly_once import Worker

log = structlog.get_logger()

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
HEALTHY_S = 30.0
RULES_RETRY_S = 1.0

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a stage's process starts from."""

    name: str
    home: Path
    endpoints: Endpoints
    principal: Principal

    @property
    def credentials(self) -> Credentials:
        """The secret as it is now, so that a worker made after a rotation knows the new one."""
        return SecretStore(secrets_folder(self.home)).read(self.principal)

    @classmethod
    def start(cls, name: str, principal: Principal, arguments: Sequence[str] | None = None) -> Self:
        """Read the arguments, the settings and the endpoints; set up the logs."""
        parser = argparse.ArgumentParser(prog=f"python -m civicbus.stream_apps.{name}")
        parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
        home: Path = parser.parse_args(arguments).home.resolve()
        logs.configure(name, Settings().log_level)
        return cls(
            name=name,
            home=home,
            endpoints=Endpoints.load(home),
            principal=principal,
        )

    def run(self, rules: tuple[Topic, ...], make_worker: Callable[[Follower], Worker]) -> None:
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
                group = f"platform.{self.name}.rules"
                with Follower(self.endpoints, self.credentials, rules, group) as followed:
                    followed.read_to_end()
                    with make_worker(followed) as worker:
                        _work(worker, stop, health)
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

    def read(self) -> R:
        """The rules as they stand."""
        return self._read()

    def renewed(self, *, to_the_end: bool) -> R | None:
        """The rules if they changed since the last call; ``to_the_end``: nothing that is published now is missing."""
        changed = self._followed.catch_up() if to_the_end else self._followed.changed()
        today = datetime.now(UTC).date()
        if changed or today != self._day:
            self._day, self._unread, self._retry_at_s = today, True, 0.0
        if not self._unread or (not to_the_end and time.monotonic() < self._retry_at_s):
            return None
        try:
            rules = self._read()
        except Unavailable as fault:
            if to_the_end:
                raise
            log.warning("rules_unread", fault=str(fault))
            self._retry_at_s = time.monotonic() + RULES_RETRY_S
            return None
        self._unread = False
        log.info("rules_changed")
        return rules


def _work(worker: Worker, stop: threading.Event, health: observe.Health) -> None:
    worker.start()
    while not stop.is_set():
        worker.turn()
        if worker.ready and not health.ready:
            _settle_memory()
            health.up()


def _settle_memory() -> None:
    """What was read at the start stays for good: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
