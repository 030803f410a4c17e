"""A supervisor that is killed leaves nothing behind: by the kernel, by the watchdog, and by either alone."""

import os
import signal
import sys

import pytest

from support.supervision import LIMIT_S, Stage, described, lives, staged, until

# Writes a file when it is asked to end as PostgreSQL is, by SIGINT.
POLITE = (
    "import pathlib, signal, sys, time\n"
    "signal.signal(signal.SIGINT, lambda *_: (pathlib.Path('{name}.asked').touch(), sys.exit(0)))\n"
    "pathlib.Path('{name}.ready').touch(); time.sleep(600)"
)
# Its own child outlives the kernel's signal, which goes to one process only.
WITH_CHILD = (
    "import pathlib, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "pathlib.Path('{name}.child').write_text(str(child.pid))\n"
    "pathlib.Path('{name}.ready').touch(); time.sleep(600)"
)
DEAF = (
    "import pathlib, signal, time\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "pathlib.Path('{name}.ready').touch(); time.sleep(600)"
)
# Takes the kernel's signal away again.
UNTIED = (
    "import ctypes, pathlib, sys, time\n"
    "sys.platform.startswith('linux') and ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n"
    "pathlib.Path('{name}.ready').touch(); time.sleep(600)"
)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has a parent-death signal")


@pytest.fixture
def stage(tmp_path):
    with staged(tmp_path) as stage:
        yield stage


def killed(stage: Stage) -> list[int]:
    """Kill the supervisor; the process ids that must go."""
    pids = [*stage.pids(), stage.watchdog()]
    stage.process.kill()
    stage.process.wait(LIMIT_S)
    return pids


def test_nothing_remains_a_few_seconds_after_kill_9(stage):
    stage.start(described("a"), described("b", WITH_CHILD)).running()
    child = int((stage.folder / "b.child").read_text())
    pids = [*killed(stage), child]
    until(lambda: not any(map(lives, pids)), "everything is gone", limit_s=8)


def test_each_orphan_gets_the_signal_its_service_names(stage):
    stage.start(described("database", POLITE, orphan_signal=signal.SIGINT)).running()
    pids = killed(stage)
    until(lambda: not any(map(lives, pids)), "everything is gone", limit_s=8)
    assert (stage.folder / "database.asked").exists()


def test_an_orphan_that_ignores_its_signal_is_killed_after_the_grace(stage):
    stage.start(described("deaf", DEAF, orphan_signal=signal.SIGINT)).running()
    pids = killed(stage)
    until(lambda: not any(map(lives, pids)), "everything is gone", limit_s=12)


@linux
def test_the_kernel_alone_suffices(stage):
    stage.start(described("a"), described("b", POLITE, orphan_signal=signal.SIGINT)).running()
    os.kill(stage.watchdog(), signal.SIGSTOP)
    try:
        pids = stage.pids()
        killed(stage)
        until(lambda: not any(map(lives, pids)), "everything is gone", limit_s=8)
        assert (stage.folder / "b.asked").exists()
    finally:
        os.kill(stage.watchdog(), signal.SIGCONT)


def test_the_watchdog_alone_suffices(stage):
    stage.start(described("a", UNTIED)).running()
    pids = stage.pids()
    os.kill(stage.watchdog(), signal.SIGSTOP)
    killed(stage)
    assert all(map(lives, pids)), "the kernel was to leave this process alone"
    os.kill(stage.watchdog(), signal.SIGCONT)
    until(lambda: not any(map(lives, [*pids, stage.watchdog()])), "everything is gone", limit_s=8)


def test_a_watchdog_that_is_killed_is_replaced_and_knows_everything(stage):
    stage.start(described("a", UNTIED)).running()
    first = stage.watchdog()
    os.kill(first, signal.SIGKILL)
    until(lambda: stage.watchdog() != first, "another watchdog")
    pids = killed(stage)
    until(lambda: not any(map(lives, pids)), "everything is gone", limit_s=8)


def test_the_watchdog_does_not_end_with_a_signal_that_reaches_everybody(stage):
    stage.start(described("a")).running()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(stage.watchdog(), number)
    pids = killed(stage)
    until(lambda: not any(map(lives, pids)), "everything is gone", limit_s=8)
