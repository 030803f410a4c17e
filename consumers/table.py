"""The table process of one department: ``python -m civicbus.consumers.table --home FOLDER --department ID``.

It has that department's credentials and no others. A broker or database that is down is waited for; a new
secret is read before every new try.
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
from civicbus.consumers.database import connect
from civicbus.consumers.delivery import Delivery
from civicbus.consumers.rows import Decoding
from civicbus.errors import AccessDenied, Unavailable
from civicbus.names import DepartmentId, department_id
from civicbus.observe import Health
from civicbus.retry import delay_s
from civicbus.schemas.registry import Registry
from civicbus.secrets import SecretStore, principal_of
from civicbus.settings import Endpoints, Settings, secrets_folder
from civicbus.transport.assigned import AssignedReader

log = structlog.get_logger()

HEALTHY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProcess:
    """What the process starts from."""

    home: Path
    department: DepartmentId
    endpoints: Endpoints

    @property
    def name(self) -> str:
        return f"table-{self.department}"

    def run(self, stop: threading.Event, health: Health) -> None:
        """Deliver until ``stop``, from the start again after every fault."""
        failures = 0
        while not stop.is_set():
            began_s = time.monotonic()
            try:
                self._deliver(stop, health)
            except (Unavailable, AccessDenied) as fault:
                if time.monotonic() - began_s > HEALTHY_S:
                    failures = 0
                wait_s = delay_s(failures, random.random())  # noqa: S311 - jitter, not a secret
                failures += 1
                health.down(str(fault))
                log.warning("delivery_stopped", fault=str(fault), retry_in_s=round(wait_s, 1))
                stop.wait(wait_s)

    def _deliver(self, stop: threading.Event, health: Health) -> None:
        credentials = SecretStore(secrets_folder(self.home)).read(principal_of(self.department))
        with (
            Registry(self.endpoints.registry_url) as registry,
            connect(self.endpoints, credentials) as session,
            AssignedReader(self.endpoints, credentials, group=f"{self.department}.table") as reader,
        ):
            Delivery(self.department, reader, session, Decoding(registry)).run(stop, health)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m civicbus.consumers.table")
    parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
    parser.add_argument("--department", required=True, help="whose inboxes become tables")
    arguments = parser.parse_args()
    home: Path = arguments.home.resolve()
    process = TableProcess(home=home, department=department_id(arguments.department), endpoints=Endpoints.load(home))
    logs.configure(process.name, Settings().log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    health = Health()
    server = observe.serve(process.name, home, health)
    process.run(stop, health)
    server.shutdown()


if __name__ == "__main__":
    main()
