"""A supervisor in a process of its own over small real processes, for the tests that stop, kill and watch it."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

from civicbus.infra import guard
from civicbus.infra.processes import Phase, Snapshot

SLEEP = "import time; time.sleep(600)"
# Ready as soon as it runs; ends on SIGTERM.
STEADY = "import pathlib, time; pathlib.Path('{name}.ready').touch(); time.sleep(600)"
LIMIT_S = 20.0
WATCHDOG = str(Path(guard.__file__).with_name("watchdog.py"))


def until(condition, what, limit_s=LIMIT_S):
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.02)
    return found


def described(name, command=STEADY, **more):
    return {"name": name, "command": command.replace("{name}", name)} | more


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Stage:
    """A supervisor in a process of its own, over the processes described."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.want([])
        self.process = None
        self._watchdog = None

    def want(self, services):
        draft = self.folder / "desired.new"
        draft.write_text(json.dumps(services))
        draft.replace(self.folder / "desired.json")

    def start(self, *services, steps=None, tied=False):
        plan = {"services": services, "steps": steps or {}, "tied": tied}
        (self.folder / "plan.json").write_text(json.dumps(plan))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.supervised", str(self.folder)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def running(self):
        until(self._running, "everything runs")
        self.watchdog()
        return self

    def _running(self):
        assert self.process.poll() is None, self.process.stderr.read()
        path = self.folder / "processes.json"
        return path.exists() and self.snapshot().phase is Phase.RUNNING

    def snapshot(self):
        return Snapshot.load(self.folder)

    def of(self, name):
        return next((one for one in self.snapshot().processes if one.name == name), None)

    def pids(self):
        return [one.pid for one in self.snapshot().processes if one.pid]

    def notices(self):
        return (self.folder / "notices").read_text().splitlines()

    def happened(self, event):
        return [line.split()[0] for line in self.notices() if line.split(maxsplit=1)[1].startswith(event)]

    def stop(self):
        self.process.terminate()
        return self.process.wait(LIMIT_S)

    def clear(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stderr.close()
        if self._watchdog is not None:
            until(lambda: not lives(self._watchdog), "the watchdog ends")

    def watchdog(self):
        """The watchdog's process id; the last known one when the supervisor is gone."""
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children()
            found = [child.pid for child in children if lives(child.pid) and child.cmdline()[3:][:1] == [WATCHDOG]]
            self._watchdog = found[0] if found else self._watchdog
        return self._watchdog


@contextlib.contextmanager
def staged(folder):
    stage = Stage(folder)
    yield stage
    if stage.process is not None:
        stage.clear()
