"""One process in the supervisor's charge, with the time told to it."""

import contextlib
import os
import signal
import sys
import time

import pytest

from civicbus.infra.charge import HEALTHY_AFTER_S, Charge
from civicbus.infra.guard import Guard
from civicbus.infra.logfiles import RotatingLog
from civicbus.infra.processes import State, unheard
from civicbus.infra.service import Service


@contextlib.contextmanager
def in_charge(folder, ready):
    guard = Guard({"PATH": os.environ["PATH"]})
    service = Service(name="a", command=(sys.executable, "-S", "-c", "import time; time.sleep(600)"), ready=ready)
    log = RotatingLog(folder / "a.log")
    charge = Charge(service=service, guard=guard, log=log, tell=unheard)
    yield charge
    charge.stop(0.0)
    tend_until(charge, 0.0, State.STOPPED)
    guard.dismiss()
    log.close()


@pytest.fixture
def charge(tmp_path):
    with in_charge(tmp_path, lambda: True) as charge:
        yield charge


def tend_until(charge, now, state):
    deadline = time.monotonic() + 20
    while charge.state is not state:
        assert time.monotonic() < deadline, f"{charge.state}, not {state}"
        charge.tend(now)
        time.sleep(0.01)


def die(charge, now):
    os.kill(charge.status().pid, signal.SIGKILL)
    tend_until(charge, now, State.RESTARTING)


def test_a_minute_of_health_makes_the_next_back_off_short_again(charge):
    charge.start(now=0.0)
    tend_until(charge, 0.0, State.READY)
    die(charge, now=1.0)
    tend_until(charge, 2.0, State.READY)
    die(charge, now=3.0)
    assert "starts again in 2 s" in charge.detail
    tend_until(charge, 5.0, State.READY)
    die(charge, now=5.0 + HEALTHY_AFTER_S)
    assert "starts again in 1 s" in charge.detail
    assert charge.restarts == 2


def test_nothing_starts_before_its_back_off_is_over(charge):
    charge.start(now=0.0)
    tend_until(charge, 0.0, State.READY)
    die(charge, now=10.0)
    charge.tend(now=10.9)
    assert charge.state is State.RESTARTING
    charge.tend(now=11.0)
    assert charge.state is State.STARTING


def test_a_check_that_fails_is_a_no_with_its_text_and_ends_nothing(tmp_path):
    def refuse():
        raise ValueError("no such realm")

    with in_charge(tmp_path, refuse) as charge:
        charge.start(now=0.0)
        deadline = time.monotonic() + 20
        while not charge.detail:
            assert time.monotonic() < deadline
            charge.tend(now=0.0)
            time.sleep(0.01)
        assert charge.detail == "ValueError: no such realm"
        assert charge.state is State.STARTING
