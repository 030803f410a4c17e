"""The embedded schema registry, started alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from civicbus.infra import ports, registry
from support import parts

SCHEMA = {"type": "record", "name": "permits", "namespace": "construction", "fields": [{"name": "a", "type": "string"}]}


class Running:
    """The part of this module's tests; ``again`` is a kill -9 and a new start."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home / "registry.log"
        self.ports = ports.choose(home, parts.settings(home))
        self.service = registry.prepare(home, parts.settings(home), self.ports)
        self.process = parts.start(self.service, self.log)
        self.client = httpx.Client(base_url=registry.url(self.ports), trust_env=False)

    def register(self, subject: str, schema: object) -> httpx.Response:
        return self.client.post(f"/subjects/{subject}/versions", json={"schema": json.dumps(schema)})

    def again(self) -> None:
        parts.kill(self.process)
        self.process = parts.start(registry.prepare(self.home, parts.settings(self.home), self.ports), self.log)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    part = Running(tmp_path_factory.mktemp("registry") / "家 with a space")
    yield part
    part.client.close()
    parts.kill(part.process)


def test_equal_schemas_have_one_id_under_every_subject(running: Running) -> None:
    ids = {
        running.register(f"{stage}.construction.permits-value", SCHEMA).json()["id"] for stage in ("changes", "records")
    }

    assert len(ids) == 1


def test_a_schema_that_old_rows_do_not_fit_is_refused_from_the_first_start(running: Running) -> None:
    assert running.register("changes.construction.strict-value", SCHEMA).is_success
    fields = [*SCHEMA["fields"], {"name": "b", "type": "string"}]

    assert running.client.get("/config").json() == {"compatibilityLevel": registry.COMPATIBILITY}
    assert running.register("changes.construction.strict-value", SCHEMA | {"fields": fields}).status_code == 409


def test_an_id_that_was_answered_survives_a_kill_the_moment_after(running: Running) -> None:
    subject, schema = "changes.construction.killed-value", SCHEMA | {"name": "killed"}
    answered = running.register(subject, schema).json()["id"]

    running.again()

    assert json.loads(running.client.get(f"/schemas/ids/{answered}").json()["schema"]) == schema
    assert running.register(subject, schema).json()["id"] == answered


def test_every_port_is_on_loopback(running: Running) -> None:
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.Process(running.process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert set(listening) == {"127.0.0.1"}


def test_the_apis_that_civicbus_does_not_use_are_closed(running: Running) -> None:
    base = f"http://127.0.0.1:{running.ports.registry}"

    for api in (
        "/apis/registry/v2/search/artifacts",
        "/apis/registry/v3/search/artifacts",
        "/apis/registry/v3/admin/rules",
    ):
        assert httpx.get(base + api, trust_env=False).status_code == 404
