"""The platform's life in one process: it takes the home, starts everything, watches it, stops it.

``python -m civicbus.infra.run`` is how another process starts it; its order comes as one line of JSON on
standard input, since arguments and environment are seen by others and an order may hold a password.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from civicbus.errors import CivicbusError, ConfigurationError
from civicbus.infra.attention import Attention
from civicbus.infra.disk import full_disk_named, require_room
from civicbus.infra.guard import Guard
from civicbus.infra.lock import home_lock
from civicbus.infra.plan import app_services, platform_plan
from civicbus.infra.processes import Tell, is_alive, unheard
from civicbus.infra.report import Report
from civicbus.infra.supervisor import Supervisor
from civicbus.observe import observed
from civicbus.settings import IngressSettings, Settings, logs_folder, process_environment, run_folder

WRONG_CONFIGURATION = 78  # EX_CONFIG of sysexits.h
_ROOM_BYTES = 200_000_000


class Order(BaseModel):
    """What to run. A tied platform stops when its standard input closes, so when its parent ends."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    ingress: IngressSettings = Field(default_factory=IngressSettings.from_environment)
    apps: bool = True
    tied: bool = False


def run_platform(order: Order, listen: Tell) -> bool:
    """From start to stop; True when everything was up before it was asked to stop. For a main thread only.

    Raises ConfigurationError where a platform runs on this home already, a fixed port is in use or the disk is
    full, Unavailable where a process does not get ready; whatever had started is stopped again.
    """
    home = order.settings.home.resolve()
    require_room(home, _ROOM_BYTES, "the platform's files")
    with (
        full_disk_named(home, "the platform's files"),
        home_lock(home) as lock,
        Attention(leash=sys.stdin.fileno() if order.tied else None) as attention,
    ):
        return _run(order, home, lock, attention, listen)


def _run(order: Order, home: Path, lock: int, attention: Attention, listen: Tell) -> bool:
    _clear_run_files(home)
    report = Report(home, not order.apps, listen)
    guard = Guard(process_environment(), lock)
    try:
        return Supervisor(
            plan=platform_plan(home, order.settings, report.tell),
            desired=(lambda: app_services(home, order.settings, order.ingress)) if order.apps else list,
            guard=guard,
            logs=logs_folder(home),
            tell=report.tell,
            show=report.show,
            attention=attention,
        ).run()
    finally:
        guard.dismiss()
        report.close()


def _clear_run_files(home: Path) -> None:
    """What killed processes left would be taken for living ones."""
    for process in observed(home):
        if not is_alive(process.pid):
            (run_folder(home) / f"{process.process}.json").unlink(missing_ok=True)


def main() -> int:
    """Run by the order on standard input; a fault is its sentence on standard error."""
    order = Order.model_validate_json(sys.stdin.buffer.readline())
    try:
        run_platform(order, unheard)
    except CivicbusError as fault:
        sys.stderr.write(f"{fault}\n")
        return WRONG_CONFIGURATION if isinstance(fault, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
