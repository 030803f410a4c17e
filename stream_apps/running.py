"""How a stage's process lives: signals, health, and a new worker after every fault or change of its rules."""

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
from typing import Self

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
                    while not stop.is_set():
                        with make_worker(followed) as worker:
                            self._work(worker, followed, stop, health)
            except (Unavailable, Fenced, AccessDenied) as fault:
                health.down(str(fault))
                if time.monotonic() - began_s > HEALTHY_S:
                    delay_s = FIRST_DELAY_S
                log.warning("worker_replaced", fault=str(fault), retry_in_s=round(delay_s, 1))
                stop.wait(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
                delay_s = min(delay_s * 2, LONGEST_DELAY_S)
        server.shutdown()

    def _work(self, worker: Worker, rules: Follower, stop: threading.Event, health: observe.Health) -> None:
        """Until the rules change, or the day: agreements hold from one day to another."""
        worker.start()
        day = datetime.now(UTC).date()
        while not stop.is_set():
            worker.turn()
            if worker.ready and not health.ready:
                _settle_memory()
                health.up()
            if rules.changed() or datetime.now(UTC).date() != day:
                log.info("rules_changed")
                health.down("reading changed rules")
                return


def _settle_memory() -> None:
    """What was read at the start stays for good: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
