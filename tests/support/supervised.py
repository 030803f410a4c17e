"""Runs a supervisor over the small processes that a test describes, in a process that a test may kill.

``python -m support.supervised <folder>`` reads ``<folder>/plan.json``; ``<folder>/desired.json`` may change meanwhile.
Each notice is a line of ``<folder>/notices``; the last snapshot is ``<folder>/processes.json``.
"""

import functools
import json
import os
import sys
import time
from pathlib import Path

from civicbus.errors import CivicbusError
from civicbus.infra.attention import Attention
from civicbus.infra.guard import Guard
from civicbus.infra.processes import Snapshot
from civicbus.infra.service import Service
from civicbus.infra.supervisor import Step, Supervisor


def service(folder: Path, described: dict) -> Service:
    return Service(
        **described | {"command": (sys.executable, "-S", "-c", described["command"]), "folder": folder},
        ready=(folder / f"{described['name']}.ready").exists,
    )


def main(folder: Path) -> int:
    plan = json.loads((folder / "plan.json").read_text())
    notices = (folder / "notices").open("a", buffering=1)

    def desired():
        return [service(folder, one) for one in json.loads((folder / "desired.json").read_text())]

    def show(phase, processes):
        Snapshot(supervisor=os.getpid(), phase=phase, parts_only=False, started=time.time(), processes=processes).save(
            folder
        )

    def stepped(name):
        (folder / f"{name}.ran").write_text("")
        return [service(folder, one) for one in plan["steps"][name]["services"]]

    steps = [
        Step(name=name, run=functools.partial(stepped, name), after=tuple(step["after"]))
        for name, step in plan["steps"].items()
    ]
    guard = Guard({"PATH": os.environ["PATH"]})
    with Attention(leash=0 if plan["tied"] else None) as attention:
        try:
            Supervisor(
                plan=[*(service(folder, one) for one in plan["services"]), *steps],
                desired=desired,
                guard=guard,
                logs=folder / "logs",
                tell=lambda notice: notices.write(f"{notice.process} {notice.event} {notice.detail}\n"),
                show=show,
                attention=attention,
            ).run()
        except CivicbusError as fault:
            sys.stderr.write(f"{fault}\n")
            return 1
        finally:
            guard.dismiss()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
