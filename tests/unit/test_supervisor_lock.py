"""One platform a home: the lock, and what a second one is told."""

import os
import subprocess
import sys

import pytest

from civicbus.errors import ConfigurationError
from civicbus.infra.desired import Role, add_processes, departments_with, remove_processes, services_file
from civicbus.infra.lock import holder, home_lock, lock_file
from civicbus.names import DepartmentId

HOLD = """
import pathlib, subprocess, sys
from civicbus.infra.lock import home_lock
with home_lock(pathlib.Path(sys.argv[1])) as lock:
    if len(sys.argv) > 2:
        sleep = f"import time; time.sleep({sys.argv[2]})"
        subprocess.Popen([sys.executable, "-c", sleep], stdout=subprocess.DEVNULL, pass_fds=(lock,))
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(home, *more):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.kill()
    process.communicate()


def test_a_second_platform_is_told_the_first_one_s_pid_and_what_to_do(tmp_path):
    first = hold(tmp_path)
    with pytest.raises(ConfigurationError) as refused, home_lock(tmp_path):
        pass
    assert f"pid {first.pid}" in str(refused.value)
    assert "civicbus status" in str(refused.value)
    assert "civicbus down" in str(refused.value)
    assert holder(tmp_path) == first.pid
    end(first)


def test_a_lock_file_left_behind_is_no_obstacle(tmp_path):
    end(hold(tmp_path))
    assert lock_file(tmp_path).exists()
    assert holder(tmp_path) is None
    with home_lock(tmp_path):
        assert lock_file(tmp_path).read_text() == str(os.getpid())


def test_a_stale_pid_that_somebody_else_has_now_is_no_obstacle(tmp_path):
    lock_file(tmp_path).write_text("1")
    with home_lock(tmp_path):
        assert lock_file(tmp_path).read_text() == str(os.getpid())


def test_a_new_platform_waits_for_the_watchdog_of_a_killed_one(tmp_path):
    end(hold(tmp_path, "0.5"))
    assert holder(tmp_path) is not None
    with home_lock(tmp_path):
        assert lock_file(tmp_path).read_text() == str(os.getpid())


def test_a_home_where_nothing_ran_has_no_holder_and_stays_as_it_is(tmp_path):
    assert holder(tmp_path / "home") is None
    assert not (tmp_path / "home").exists()


def test_departments_with_a_table_process_are_kept_and_taken_away(tmp_path):
    market, streets = DepartmentId("market"), DepartmentId("streets")
    assert departments_with(tmp_path, Role.TABLE) == ()
    add_processes(tmp_path, Role.TABLE, [streets, market])
    add_processes(tmp_path, Role.TABLE, [market])
    assert departments_with(tmp_path, Role.TABLE) == (market, streets)
    remove_processes(tmp_path, Role.TABLE, [streets])
    assert departments_with(tmp_path, Role.TABLE) == (market,)


def test_a_damaged_list_of_departments_is_named(tmp_path):
    services_file(tmp_path).write_text('{"departments": 3')
    with pytest.raises(ConfigurationError, match=r"services\.json is damaged"):
        departments_with(tmp_path, Role.TABLE)
