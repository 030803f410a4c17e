"""The supervisor over small real processes: order, readiness, restarts, stops and faults of a start."""

import os
import signal
import time

import pytest

from civicbus.infra.charge import backoff_s
from civicbus.infra.processes import State
from support.supervision import LIMIT_S, SLEEP, STEADY, described, lives, staged, until


@pytest.fixture
def stage(tmp_path):
    with staged(tmp_path) as stage:
        yield stage


def test_a_process_starts_when_everything_it_comes_after_is_ready(stage):
    late = "import pathlib, time; time.sleep(0.5); pathlib.Path('{name}.ready').touch(); time.sleep(600)"
    stage.start(described("c", after=["a", "b"]), described("a", late), described("b")).running()
    starts_and_readies = [line.split()[:2] for line in stage.notices()]
    assert starts_and_readies.index(["c", "started"]) > starts_and_readies.index(["a", "ready"])
    assert starts_and_readies.index(["b", "started"]) < starts_and_readies.index(["a", "ready"])
    assert stage.stop() == 0


def test_a_step_runs_between_what_it_comes_after_and_what_it_brings(stage):
    brought = described("app", after=["provision"])
    stage.start(described("part"), steps={"provision": {"after": ["part"], "services": [brought]}}).running()
    order = [line.split()[:2] for line in stage.notices()]
    assert order.index(["part", "ready"]) < order.index(["provision", "ready"]) < order.index(["app", "started"])
    assert stage.stop() == 0


def test_processes_stop_in_reverse_order_and_through_steps(stage):
    slow = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.4), sys.exit(0)))\n"
        "pathlib.Path('{name}.ready').touch(); time.sleep(600)"
    )
    brought = described("app", slow, after=["provision"])
    stage.start(described("part"), steps={"provision": {"after": ["part"], "services": [brought]}}).running()
    pids = stage.pids()
    assert stage.stop() == 0
    order = [line.split()[:2] for line in stage.notices()]
    assert order.index(["app", "stopped"]) < order.index(["part", "stopping"])
    assert not any(lives(pid) for pid in [*pids, stage.watchdog()])


def test_what_ignores_the_request_to_stop_is_killed(stage):
    deaf = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('{name}.ready').touch(); time.sleep(600)"
    )
    stage.start(described("deaf", deaf, stop_timeout_s=0.5)).running()
    pid = stage.of("deaf").pid
    assert stage.stop() == 0
    assert stage.happened("killed") == ["deaf"]
    assert not lives(pid)


def test_a_second_request_to_stop_does_not_wait_for_the_time_limit(stage):
    deaf = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('{name}.ready').touch(); time.sleep(600)"
    )
    stage.start(described("deaf", deaf, stop_timeout_s=300)).running()
    stage.process.terminate()
    until(lambda: stage.happened("stopping"), "the first request is under way")
    assert stage.stop() == 0
    assert stage.happened("killed") == ["deaf"]


def test_what_is_killed_starts_again_after_a_back_off_that_is_told(stage):
    stage.start(described("a"), described("b", after=["a"])).running()
    before, other = stage.of("a").pid, stage.of("b").pid
    died = time.monotonic()
    os.kill(before, signal.SIGKILL)
    until(lambda: stage.of("a").state is State.RESTARTING, "the death is seen")
    assert "killed by SIGKILL; starts again in 1 s" in stage.of("a").detail
    until(lambda: stage.of("a").state is State.READY, "it runs again")
    assert time.monotonic() - died >= 1.0
    assert stage.of("a").pid != before
    assert stage.of("a").restarts == 1
    assert stage.of("b").pid == other
    assert [line for line in stage.notices() if line.startswith("a died")] == [
        "a died killed by SIGKILL; starts again in 1 s"
    ]
    os.kill(stage.of("a").pid, signal.SIGKILL)
    until(lambda: "starts again in 2 s" in stage.of("a").detail, "the next pause is longer")
    assert stage.stop() == 0


def test_the_back_off_doubles_up_to_half_a_minute():
    assert [backoff_s(deaths) for deaths in (1, 2, 3, 4, 5, 6, 7, 1000)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_process_that_never_gets_ready_fails_the_start_with_its_last_lines(stage):
    mute = "import sys, time; print('waiting for a port'); sys.stdout.flush(); time.sleep(600)"
    stage.start(described("good"), described("mute", mute, ready_timeout_s=1.0))
    assert stage.process.wait(LIMIT_S) == 1
    told = stage.process.stderr.read()
    assert "mute was not ready within 1 s" in told
    assert "waiting for a port" in told
    assert str(stage.folder / "logs" / "mute.log") in told
    assert "Traceback" not in told
    assert sorted(stage.happened("stopped")) == ["good", "mute"]
    assert stage.pids() == []


def test_a_start_neither_waits_for_nor_fails_by_what_is_not_essential(stage):
    beside = {"ready_timeout_s": 0.2, "essential": False}
    mute, dying = described("mute", "import time; time.sleep(600)", **beside), described("dying", "1/0", **beside)
    stage.start(described("good"), mute, dying).running()
    until(lambda: len(stage.happened("died")) > 3, "it is started again and again")
    assert stage.process.poll() is None
    assert stage.of("good").state is State.READY
    assert stage.stop() == 0


def test_a_process_that_keeps_dying_fails_the_start(stage):
    stage.start(described("broken", "import sys; print('no such setting'); sys.exit(3)"))
    assert stage.process.wait(LIMIT_S) == 1
    told = stage.process.stderr.read()
    assert "broken ended 3 times before it was ready" in told
    assert "exit status 3" in told
    assert "no such setting" in told


def test_a_command_that_cannot_be_executed_is_named(stage):
    missing = "import os; os.execv('/nonexistent/program', ['program'])"
    stage.start(described("missing", missing))
    assert stage.process.wait(LIMIT_S) == 1
    assert "FileNotFoundError" in stage.process.stderr.read()


def test_a_plan_that_waits_for_nothing_known_is_refused(stage):
    stage.start(described("a", after=["ghost"]))
    assert stage.process.wait(LIMIT_S) == 1
    assert "the plan waits for ghost, which nothing in it starts" in stage.process.stderr.read()


def test_processes_come_and_go_with_the_desired_list(stage):
    stage.start(described("part")).running()
    stage.want([described("table", after=["part"])])
    until(lambda: (one := stage.of("table")) and one.state is State.READY, "the new process runs")
    pid = stage.of("table").pid
    stage.want([])
    until(lambda: stage.of("table") is None, "it is gone")
    assert not lives(pid)
    assert stage.of("part").state is State.READY
    assert stage.stop() == 0


def test_a_newcomer_that_fails_does_not_end_the_platform(stage):
    stage.start(described("part")).running()
    stage.want([described("broken", "import sys; sys.exit(3)")])
    until(lambda: (one := stage.of("broken")) and one.restarts >= 1, "it is tried again")
    assert stage.of("part").state is State.READY
    assert stage.stop() == 0


def test_what_stops_answering_is_shown_and_left_alone(stage):
    stage.start(described("a")).running()
    pid = stage.of("a").pid
    (stage.folder / "a.ready").unlink()
    until(lambda: stage.of("a").state is State.NOT_ANSWERING, "the check says no")
    (stage.folder / "a.ready").touch()
    until(lambda: stage.of("a").state is State.READY, "the check says yes again")
    assert stage.of("a").pid == pid
    assert stage.of("a").restarts == 0
    assert stage.stop() == 0


def test_a_stop_during_the_start_stops_what_has_begun(stage):
    stage.start(described("good"), described("slow", SLEEP))
    until(lambda: (stage.folder / "notices").exists() and "good" in stage.happened("ready"), "one is ready")
    pids = stage.pids()
    assert stage.stop() == 0
    assert not any(lives(pid) for pid in pids)


def test_the_end_of_the_parent_s_pipe_is_a_request_to_stop(stage):
    stage.start(described("a"), tied=True).running()
    stage.process.stdin.close()
    assert stage.process.wait(LIMIT_S) == 0
    assert stage.happened("stopped") == ["a"]


def test_a_signal_to_the_terminal_s_group_reaches_the_supervisor_only(stage):
    stage.start(described("a")).running()
    assert os.getpgid(stage.of("a").pid) != os.getpgid(stage.process.pid)
    os.killpg(stage.process.pid, signal.SIGINT)
    assert stage.process.wait(LIMIT_S) == 0
    assert stage.happened("stopped") == ["a"]
    assert "a died" not in "\n".join(stage.notices())


def test_only_the_listed_environment_reaches_a_process(stage, monkeypatch):
    monkeypatch.setenv("CIVICBUS_DATABASE_URL", "postgresql://postgres:hunter2@db/postgres")
    tell = "import os, pathlib, time; print(sorted(os.environ), flush=True); " + STEADY.removeprefix(
        "import pathlib, time; "
    )
    stage.start(described("a", tell, environment={"GIVEN": "1"})).running()
    assert "['GIVEN', 'PATH']" in until((stage.folder / "logs" / "a.log").read_text, "the output is logged").replace(
        ", 'LC_CTYPE'", ""
    )
    assert stage.stop() == 0
