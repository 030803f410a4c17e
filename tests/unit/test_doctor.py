"""The doctor's findings: what is well, what is not, and how to mend it."""

import os
import socket
import subprocess
import sys
import time

import pytest

from civicbus.infra.doctor import (
    Verdict,
    cached_jars,
    cores,
    examine,
    fixed_ports,
    home_is_private,
    java,
    leftovers,
    memory,
    postgres_user,
    python_version,
    room,
    wanted_parts,
)
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Settings, secrets_folder

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 10), Verdict.FAIL), ((3, 11), Verdict.OK), ((3, 13), Verdict.OK), ((3, 14), Verdict.FAIL)],
)
def test_only_the_supported_pythons_are_well(version, verdict):
    assert python_version(version).verdict is verdict


@pytest.mark.parametrize(("free", "verdict"), [(5 * GB, Verdict.OK), (2 * GB, Verdict.WARN), (GB // 2, Verdict.FAIL)])
def test_little_room_is_a_warning_and_too_little_a_failure(free, verdict):
    found = room("disk", free, GB, 3 * GB, "CIVICBUS_HOME")
    assert found.verdict is verdict
    assert ("CIVICBUS_HOME" in found.mend) == (verdict is not Verdict.OK)
    assert memory(free).verdict is (Verdict.OK if free >= 2 * GB else verdict)


def test_one_core_is_a_warning():
    assert cores(1).verdict is Verdict.WARN
    assert cores(2).verdict is Verdict.OK


def test_a_secret_that_others_may_read_is_a_failure_and_named(tmp_path):
    SecretStore(secrets_folder(tmp_path)).ensure(OPERATOR)
    assert home_is_private(tmp_path).verdict is Verdict.OK
    secret = secrets_folder(tmp_path) / f"{OPERATOR}.json"
    secret.chmod(0o644)
    found = home_is_private(tmp_path)
    assert found.verdict is Verdict.FAIL
    assert str(secret) in found.detail
    subprocess.run(["/bin/sh", "-c", found.mend.split("`")[1]], check=True)
    assert home_is_private(tmp_path).verdict is Verdict.OK


def test_a_home_that_is_not_there_yet_is_well(tmp_path):
    assert home_is_private(tmp_path / "new" / "home").verdict is Verdict.OK
    assert not (tmp_path / "new").exists()


def test_a_fixed_port_in_use_is_a_failure_unless_the_platform_has_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(home=tmp_path, kafka_port=taken.getsockname()[1])
        (found,) = fixed_ports(settings, running=False)
        assert found.verdict is Verdict.FAIL
        assert "CIVICBUS_KAFKA_PORT" in found.mend
        assert list(fixed_ports(settings, running=True)) == []
    (found,) = fixed_ports(settings, running=False)
    assert found.verdict is Verdict.OK


def test_a_process_left_over_on_a_home_is_named(tmp_path):
    idle = "import sys, time; print('runs', flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", idle, f"{tmp_path}{os.sep}kafka"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "runs\n"
        found = leftovers(tmp_path, running=False)
        assert found.verdict is Verdict.WARN
        assert str(process.pid) in found.detail
        assert leftovers(tmp_path, running=True).verdict is Verdict.OK
    finally:
        process.kill()
        process.communicate()
    assert leftovers(tmp_path, running=False).verdict is Verdict.OK


def test_an_empty_cache_says_how_much_a_start_fetches(tmp_path):
    found = cached_jars(tmp_path, wanted_parts(tmp_path))
    assert found.verdict is Verdict.WARN
    assert "MB" in found.mend
    assert list(tmp_path.iterdir()) == []


def test_the_packaged_java_runs():
    assert java().verdict is Verdict.OK


def test_whoever_is_not_root_runs_postgresql_itself():
    assert postgres_user(1000).verdict is Verdict.OK


def test_an_examination_changes_nothing_and_mends_everything_it_finds(tmp_path):
    began = time.monotonic()
    findings = list(examine(Settings(home=tmp_path / "home", cache=tmp_path / "cache")))
    assert time.monotonic() - began < 20
    assert all(finding.mend for finding in findings if finding.verdict is not Verdict.OK)
    assert list(tmp_path.iterdir()) == []
