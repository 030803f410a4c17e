"""The relay of one department: ``python -m civicbus.producers.outbox --home FOLDER --department ID``.

It has that department's credentials and no others. A broker or database that is down is waited for; a new secret
is read before every new try.
"""

from __future__ import annotations

import argparse
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from civicbus import logs, observe
from civicbus.errors import AccessDenied, ConfigurationError, Fenced, Unavailable
from civicbus.names import DepartmentId, department_id
from civicbus.observe import Health
from civicbus.producers.outbox.database import open_outbox
from civicbus.producers.outbox.outlets import Outlets
from civicbus.producers.outbox.relay import Relay
from civicbus.retry import delay_s
from civicbus.secrets import SecretStore, principal_of
from civicbus.settings import Endpoints, Settings, secrets_folder
from civicbus.transport.assigned import AssignedReader

log = structlog.get_logger()

HEALTHY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxProcess:
    """What the process starts from."""

    home: Path
    department: DepartmentId

    @property
    def name(self) -> str:
        return f"outbox-{self.department}"

    def run(self, stop: threading.Event, health: Health) -> None:
        """Relay until ``stop``, from the start again after every fault."""
        failures = 0
        while not stop.is_set():
            began_s = time.monotonic()
            try:
                self._relay(stop, health)
            except (Unavailable, AccessDenied, Fenced, ConfigurationError) as fault:
                if time.monotonic() - began_s > HEALTHY_S:
                    failures = 0
                wait_s = delay_s(failures, random.random())  # noqa: S311 - jitter, not a secret
                failures += 1
                health.down(str(fault))
                log.warning("relay_stopped", fault=str(fault), retry_in_s=round(wait_s, 1))
                stop.wait(wait_s)

    def _relay(self, stop: threading.Event, health: Health) -> None:
        endpoints = Endpoints.load(self.home)
        credentials = SecretStore(secrets_folder(self.home)).read(principal_of(self.department))
        with (
            open_outbox(self.home, self.department) as outbox,
            Outlets(endpoints, credentials, self.department) as outlets,
            AssignedReader(endpoints, credentials, group=f"{self.department}.outbox") as reader,
        ):
            Relay(outbox, outlets, reader, origin=outbox.origin(), health=health).run(stop)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m civicbus.producers.outbox")
    parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
    parser.add_argument("--department", required=True, help="whose outbox is published")
    arguments = parser.parse_args()
    process = OutboxProcess(home=arguments.home.resolve(), department=department_id(arguments.department))
    logs.configure(process.name, Settings().log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    health = Health()
    server = observe.serve(process.name, process.home, health)
    process.run(stop, health)
    server.shutdown()


if __name__ == "__main__":
    main()
