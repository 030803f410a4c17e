"""The capture process of one department: ``python -m civicbus.producers.capture --home FOLDER --department ID``.

It has that department's credentials and no others. What it does not reach is waited for.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from civicbus import logs, observe
from civicbus.names import department_id
from civicbus.observe import Health
from civicbus.producers.capture.process import CaptureProcess
from civicbus.settings import Endpoints, Settings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m civicbus.producers.capture")
    parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
    parser.add_argument("--department", required=True, help="whose tables are captured")
    arguments = parser.parse_args()
    home: Path = arguments.home.resolve()
    process = CaptureProcess(home=home, department=department_id(arguments.department), endpoints=Endpoints.load(home))
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
