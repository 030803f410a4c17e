"""The life of a department's own process: its arguments, its signals, its health, and a new try after a fault."""

from __future__ import annotations

import argparse
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from civicbus import logs, observe
from civicbus.errors import CivicbusError
from civicbus.names import DepartmentId, department_id
from civicbus.observe import Health
from civicbus.retry import delay_s
from civicbus.settings import Settings

log = structlog.get_logger()

HEALTHY_S = 30.0

Work = Callable[[threading.Event, Health], None]
"""What the process does until the event is set, telling how it stands."""


def serve(role: str, module: str, whose: str, work_of: Callable[[Path, DepartmentId], Work]) -> None:
    """Do the work of a home's department, until SIGTERM or SIGINT; the process is named by role and department.

    ``whose`` says in the help what the department is to it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
    parser.add_argument("--department", required=True, help=whose)
    arguments = parser.parse_args()
    home, department = arguments.home.resolve(), department_id(arguments.department)
    name = f"{role}-{department}"
    logs.configure(name, Settings().log_level)
    work = work_of(home, department)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    health = Health()
    server = observe.serve(name, home, health)
    work(stop, health)
    server.shutdown()


def tried_again(attempt: Work, waited_out: tuple[type[CivicbusError], ...]) -> Work:
    """The attempt, from its start again after every fault that is waited out, later each time it fails soon."""

    def work(stop: threading.Event, health: Health) -> None:
        failures = 0
        while not stop.is_set():
            began_s = time.monotonic()
            try:
                attempt(stop, health)
            except waited_out as fault:
                if time.monotonic() - began_s > HEALTHY_S:
                    failures = 0
                wait_s = delay_s(failures, random.random())  # noqa: S311 - jitter, not a secret
                failures += 1
                health.down(str(fault))
                log.warning("stopped", fault=str(fault), retry_in_s=round(wait_s, 1))
                stop.wait(wait_s)

    return work
