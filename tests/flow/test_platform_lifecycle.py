"""The real platform from start to stop: what an operator sees, what is killed, what is in the way.

Broker, registry and database only (``--parts-only``): what our own processes add is in the other flow tests.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from civicbus.infra import databases, jars
from civicbus.infra.lock import holder
from civicbus.infra.status import platform_view
from civicbus.infra.wipe import wipe
from civicbus.observe import observed
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Endpoints, Settings, secrets_folder

COMMAND = str(Path(sys.executable).with_name("civicbus"))
LIMIT_S = 120
NOTHING = SimpleNamespace(processes=())


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    yield home
    if (supervisor := holder(home)) is not None:
        os.kill(supervisor, signal.SIGKILL)
    wipe(home)


def environment(home, **settings):
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CIVICBUS_")}
    return ours | {"CIVICBUS_HOME": str(home)} | settings


def run(home, *arguments, **settings):
    return subprocess.run(
        [COMMAND, *arguments],
        env=environment(home, **settings),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def start(home, *arguments, **settings):
    return subprocess.Popen(
        [COMMAND, "up", "--parts-only", *arguments],
        env=environment(home, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(condition, what, limit_s=LIMIT_S, lives=None):
    """Wait for a condition, no longer than the process ``lives`` does."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert lives is None or lives.poll() is None, lives.stdout.read()
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.1)
    return found


def healthy(home):
    view = platform_view(home)
    return view is not None and view.healthy


def status(home):
    return json.loads(run(home, "status", "--json").stdout)


def part(home, name):
    return next(process for process in status(home)["processes"] if process["name"] == name)


def members(pid):
    """The supervisor and everything below it."""
    supervisor = psutil.Process(pid)
    return [supervisor, *supervisor.children(recursive=True)]


def living(processes):
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def sql(home, statement):
    endpoints, operator = Endpoints.load(home), SecretStore(secrets_folder(home)).read(OPERATOR)
    with databases.session(endpoints, operator) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def said_without_traceback(text):
    assert "Traceback" not in text
    return " ".join(text.split())


def test_a_platform_from_up_to_down(home):
    """One start for many truths, since a start takes seconds."""
    assert run(home, "status").returncode == 3
    up = start(home)
    until(lambda: healthy(home), "everything is ready", lives=up)
    assert run(home, "status").returncode == 0
    supervisor = status(home)["supervisor"]
    assert supervisor == holder(home)
    everything = members(supervisor)

    second = run(home, "up", "--parts-only")
    assert second.returncode == 1
    refusal = said_without_traceback(second.stderr)
    assert f"pid {supervisor}" in refusal
    assert "civicbus status" in refusal
    assert "civicbus down" in refusal
    assert status(home)["healthy"], "the second start did not disturb the first"

    arguments = [word for process in living(everything) for word in process.cmdline()]
    passed_on = [value for process in living(everything)[1:] for value in process.environ().values()]
    for principal in SecretStore(secrets_folder(home)).principals():
        password = SecretStore(secrets_folder(home)).read(principal).password
        assert not any(password in word for word in [*arguments, *passed_on]), principal

    examined = json.loads(run(home, "doctor", "--json").stdout)
    found = {finding["check"]: finding["verdict"] for finding in examined}
    assert {found[check] for check in ("broker", "registry", "database", "Java", "jars", "home")} == {"ok"}

    killed = part(home, "registry")["pid"]
    os.kill(killed, signal.SIGSTOP)
    until(lambda: not healthy(home), "that it does not answer shows")
    assert run(home, "status").returncode == 1
    os.kill(killed, signal.SIGKILL)
    until(lambda: part(home, "registry")["restarts"] == 1 and healthy(home), "it runs again")
    assert part(home, "registry")["restarts"] == 1
    assert part(home, "registry")["pid"] != killed
    everything = members(supervisor)

    (supervision,) = [process for process in observed(home) if process.process == "supervisor"]
    metrics = httpx.get(f"{supervision.url}/metrics", trust_env=False).text
    assert 'civicbus_process_restarts_total{process="registry"} 1.0' in metrics
    assert 'civicbus_process_up{process="kafka"} 1.0' in metrics
    assert httpx.get(f"{supervision.url}/healthz", trust_env=False).json()["ready"]
    targets = json.loads((home / "prometheus" / "targets.json").read_text())
    assert targets == [{"targets": [f"127.0.0.1:{supervision.port}"], "labels": {"instance": "supervisor"}}]

    down = run(home, "down")
    assert down.returncode == 0
    assert f"pid {supervisor}" in down.stdout
    assert not living(everything)
    assert run(home, "status").returncode == 3
    told, _ = up.communicate(timeout=LIMIT_S)
    assert up.returncode == 0
    assert "registry died: killed by SIGKILL; starts again in 1 s" in " ".join(told.split())
    assert str(home / "logs") in told


def test_kill_9_of_the_supervisor_leaves_nothing_and_of_two_starts_after_it_one_finds_the_data(home):
    up = start(home)
    until(lambda: healthy(home), "everything is ready", lives=up)
    sql(home, "CREATE TABLE kept AS SELECT 7 AS number")
    everything = members(up.pid)
    up.kill()
    up.communicate()
    until(lambda: not living(everything), "nothing runs", limit_s=10)
    assert run(home, "status").returncode == 3

    both = [start(home, "--detach"), start(home, "--detach")]
    told = [process.communicate(timeout=LIMIT_S)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    loser = next(text for process, text in zip(both, told, strict=True) if process.returncode == 1)
    assert "a platform already runs on" in said_without_traceback(loser)
    assert run(home, "status").returncode == 0
    assert sql(home, "SELECT number FROM kept") == [(7,)]


def test_external_parts_are_asked_and_provisioned_but_not_started(home, tmp_path):
    assert run(home, "up", "--parts-only", "--detach").returncode == 0
    elsewhere, operator = Endpoints.load(home), SecretStore(secrets_folder(home)).read(OPERATOR)
    server = f"{elsewhere.database_host}:{elsewhere.database_port}"
    external = {
        "CIVICBUS_BOOTSTRAP_SERVERS": elsewhere.bootstrap_servers,
        "CIVICBUS_REGISTRY_URL": elsewhere.registry_url,
        "CIVICBUS_DATABASE_URL": f"postgresql://{databases.OPERATOR_ROLE}:{operator.password}@{server}/postgres",
    }
    here = tmp_path / "here"
    refused = run(here, "up", "--parts-only", **external)
    assert refused.returncode == 1
    assert f"no credentials for the Kafka at {elsewhere.bootstrap_servers}" in said_without_traceback(refused.stderr)

    SecretStore(secrets_folder(here)).write(operator)
    assert run(here, "up", "--parts-only", "--detach", **external).returncode == 0
    assert status(here)["processes"] == []
    assert Endpoints.load(here) == elsewhere
    words = [word for process in members(holder(here)) for word in process.cmdline()]
    assert not any(operator.password in word for word in words)
    assert run(here, "down", "--wipe", "--yes").returncode == 0
    assert healthy(home)


def test_ctrl_c_during_the_start_stops_what_has_begun(home):
    up = start(home)
    until(lambda: any(one.pid for one in (platform_view(home) or NOTHING).processes), "a process has begun", lives=up)
    everything = members(up.pid)
    os.killpg(up.pid, signal.SIGINT)
    told, _ = up.communicate(timeout=LIMIT_S)
    assert up.returncode == 130
    assert not living(everything)
    said_without_traceback(told)


def test_a_platform_ends_with_the_process_that_started_it(home):
    starter = """
import sys, time
from pathlib import Path
from civicbus.infra.platform import start_platform
from civicbus.settings import Settings
start_platform(Settings(home=Path(sys.argv[1])), apps=False)
print("ready", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", starter, str(home)], env=environment(home), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    everything = members(holder(home))
    process.kill()
    process.communicate()
    until(lambda: not living(everything), "nothing runs", limit_s=30)


def test_a_fixed_port_in_use_is_named_and_a_half_downloaded_jar_is_fetched_by_the_next_start(home, tmp_path):
    cache, half, whole = cache_with_half_a_jar(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        fixed = {"CIVICBUS_KAFKA_PORT": str(port), "CIVICBUS_CACHE": str(cache)}
        refused = run(home, "up", "--parts-only", **fixed)
        assert refused.returncode == 1
        assert f"port {port}, which CIVICBUS_KAFKA_PORT fixes, is in use" in said_without_traceback(refused.stderr)
        assert holder(home) is None
    assert run(home, "up", "--parts-only", "--detach", **fixed).returncode == 0
    assert Endpoints.load(home).bootstrap_servers == f"127.0.0.1:{port}"
    assert half.read_bytes() == whole


def cache_with_half_a_jar(folder):
    """The machine's cache in other folders, with links to its files, and one file of its own that is cut short."""
    machines, cache = Settings().cache_folder, folder / "cache"
    if jars.lacking(machines, jars.PLATFORM):
        pytest.skip("this machine's cache of jars is not complete")
    shutil.copytree(machines, cache, copy_function=os.link)
    (jar,) = [jar for jar in jars.locked("kafka") if jar.file.startswith("kafka-clients")]
    half = cache / "jars" / jar.file
    whole = half.read_bytes()
    half.unlink()
    half.write_bytes(whole[: len(whole) // 2])
    return cache, half, whole


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root can mount a small disk"
)
def test_a_full_disk_is_named_and_the_next_start_works(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=600m", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    home = disk / "home"
    try:
        (disk / "filler").write_bytes(bytes(590_000_000))
        refused = run(home, "up", "--parts-only")
        assert refused.returncode == 1
        assert f"the disk of {home} is full" in said_without_traceback(refused.stderr)
        assert holder(home) is None
        (disk / "filler").unlink()
        assert run(home, "up", "--parts-only", "--detach").returncode == 0
        assert run(home, "down", "--wipe", "--yes").returncode == 0
        assert not home.exists()
    finally:
        subprocess.run([shutil.which("umount"), disk], check=True)


def test_wipe_removes_what_the_platform_made_and_nothing_else(home):
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "kafka.log").write_text("")
    (home / "endpoints.json").write_text("{}")
    (home / "thesis.odt").write_text("mine")
    elsewhere = home.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "letter").write_text("mine")
    (home / "kafka").symlink_to(elsewhere)
    assert wipe(home) == (home / "thesis.odt",)
    assert [path.name for path in home.iterdir()] == ["thesis.odt"]
    assert (elsewhere / "letter").read_text() == "mine"


def test_down_asks_before_it_removes(home):
    (home / "logs").mkdir(parents=True)
    refused = subprocess.run(
        [COMMAND, "down", "--wipe"], env=environment(home), input="n\n", capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert (home / "logs").exists()
