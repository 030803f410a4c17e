"""Log files of processes: rotated by size, never in a process's way, with the last lines at hand."""

import errno
import os
import subprocess
import sys
import time

import pytest

from civicbus.infra.logfiles import KEPT, RotatingLog, follow


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "part.log"


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_a_full_log_is_rotated_and_the_oldest_goes(path):
    log = RotatingLog(path, limit_bytes=100)
    for number in range(10):
        log.write(f"{number}".encode() * 60)
    assert files(path) == ["part.log", "part.log.1", "part.log.2", "part.log.3"]
    assert path.read_text() == "9" * 60
    assert path.with_name(f"part.log.{KEPT}").read_text() == "6" * 60
    log.close()


def test_a_log_goes_on_where_an_earlier_run_ended(path):
    for text in (b"first\n", b"second\n"):
        log = RotatingLog(path)
        log.write(text)
        log.close()
    assert path.read_text() == "first\nsecond\n"


def test_only_the_owner_reads_logs(path):
    RotatingLog(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_last_lines_are_at_hand_and_those_of_a_predecessor_are_not(path):
    log = RotatingLog(path)
    log.write(b"of the first\n")
    log.forget()
    log.write(b"one\ntwo\nthree\n")
    assert log.last_lines(2) == ["two", "three"]
    assert log.last_lines(9) == ["one", "two", "three"]
    log.close()


def test_a_process_that_writes_much_is_not_blocked_and_loses_nothing(path):
    log = RotatingLog(path, limit_bytes=4 * 1024 * 1024)
    talk = "import sys\nfor number in range(120_000): sys.stdout.write(f'{number:099d}\\n')"
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", talk], stdout=subprocess.PIPE)
    follower = follow(process, log)
    assert process.wait(30) == 0
    follower.join(10)
    log.close()
    assert time.monotonic() - began < 20
    parts = [path.with_name(f"part.log.{number}") for number in (2, 1)] + [path]
    assert b"".join(part.read_bytes() for part in parts) == b"".join(b"%099d\n" % number for number in range(120_000))
    assert all(part.stat().st_size <= 4 * 1024 * 1024 for part in parts)


def test_a_full_disk_costs_lines_and_says_how_many_but_does_not_stop_the_reading(path, monkeypatch):
    log = RotatingLog(path)
    log.write(b"before\n")

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.write(b"lost\n")
    log.write(b"after\n")
    log.close()
    assert path.read_text() == "before\n(here 5 bytes were lost: the log could not be written)\nafter\n"
    assert log.last_lines(3) == ["before", "lost", "after"]
