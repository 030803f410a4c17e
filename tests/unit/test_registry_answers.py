"""What the registry's client makes of good, missing, broken, huge and hostile answers, over real HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from civicbus.errors import AccessDenied, ConfigurationError, Unacceptable, Unavailable
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.registry import ANSWER_BYTES, NEGATIVE_CACHE_S, Registry
from support.answering import Answer, Answering, answering, says

TREE = '{"type": "record", "name": "tree", "fields": [{"name": "id", "type": "string"}]}'
FOUND = says(200, json.dumps({"schema": TREE}))
UNKNOWN = says(404, '{"error_code": 40403, "message": "Schema 7 not found"}')
RECURSIVE = json.dumps(
    {"type": "record", "name": "t", "fields": [{"name": "t", "type": ["null", "t"], "default": None}]}
)


class Clock:
    """Stands still unless it is moved; ``step`` moves it at every look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering(FOUND) as here:
        yield here


def refusal(registry: Registry, schema_id: int = 7) -> Reason:
    with pytest.raises(Unacceptable) as refused:
        registry.schema(schema_id)
    return refused.value.reason


def test_a_schema_is_fetched_once(server: Answering) -> None:
    with Registry(f"{server.url}/apis/ccompat/v7") as registry:
        assert registry.schema(7) == registry.schema(7) == AvroSchema.parse(TREE)
    assert server.asked == ["GET /apis/ccompat/v7/schemas/ids/7"]


def test_a_missing_schema_is_unknown_and_asked_for_again_after_a_while(server: Answering) -> None:
    server.answer = UNKNOWN
    clock = Clock()
    with Registry(server.url, clock=clock) as registry:
        assert [refusal(registry), refusal(registry)] == [Reason.SCHEMA_UNKNOWN] * 2
        assert len(server.asked) == 1
        server.answer = FOUND
        clock.now = NEGATIVE_CACHE_S
        assert registry.schema(7).name == "tree"


@pytest.mark.parametrize("schema_id", [-1, 2**31, 2**32 - 1])
def test_an_id_that_no_registry_gives_is_unknown_without_asking(server: Answering, schema_id: int) -> None:
    with Registry(server.url) as registry:
        assert refusal(registry, schema_id) is Reason.SCHEMA_UNKNOWN
    assert server.asked == []


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"schema": RECURSIVE}),
        json.dumps({"schema": "no json"}),
        json.dumps({"schema": '"string"'}),
        json.dumps({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}),
        b'{"schema": "' + b" " * ANSWER_BYTES + b'"}',
    ],
    ids=["recursive", "no schema", "no record", "protobuf", "huge"],
)
def test_a_hostile_schema_is_unsafe(server: Answering, body: str | bytes) -> None:
    server.answer = says(200, body)
    with Registry(server.url) as registry:
        assert refusal(registry) is Reason.SCHEMA_UNSAFE


@pytest.mark.parametrize(
    "answer",
    [
        says(500),
        says(503, "come back later"),
        says(429),
        says(404, "<html>no such page</html>"),
        says(404, '{"detail": "Not Found"}'),
        says(404, "[]"),
        says(404, '{"error_code": 40403'),
        says(200, "<html>welcome</html>"),
        says(200, "[" * 100_000),
        says(200, "{}"),
        says(200, '{"schema": 7}'),
        says(200, b"\xff\xfe"),
        says(302, "", Location="/elsewhere"),
        says(400, '{"error_code": 400}'),
        says(404, b" " * (ANSWER_BYTES + 1)),
    ],
)
def test_any_other_answer_is_waited_for_and_asked_for_again(server: Answering, answer: Answer) -> None:
    server.answer = answer
    with Registry(server.url) as registry:
        with pytest.raises(Unavailable):
            registry.schema(7)
        server.answer = FOUND
        assert registry.schema(7).name == "tree"


def test_a_compressed_answer_is_not_unpacked(server: Answering) -> None:
    server.answer = says(200, json.dumps({"schema": TREE}), Content_Encoding="gzip")
    with Registry(server.url) as registry:
        assert registry.schema(7).name == "tree"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_access_is_said_so(server: Answering, status: int) -> None:
    server.answer = says(status)
    with Registry(server.url) as registry, pytest.raises(AccessDenied):
        registry.schema(7)


def test_a_registry_that_hangs_is_given_up(server: Answering) -> None:
    server.answer = lambda _: server.stopping.wait(30) and None
    with Registry(server.url, timeout_s=0.1) as registry, pytest.raises(Unavailable, match="ReadTimeout"):
        registry.schema(7)


def test_an_answer_that_trickles_is_given_up(server: Answering) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"{")
        server.stopping.wait(30)

    server.answer = trickle
    with Registry(server.url, clock=Clock(step=11.0)) as registry, pytest.raises(Unavailable, match="longer than 10 s"):
        registry.schema(7)


def test_an_answer_cut_short_is_waited_for(server: Answering) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.answer = cut
    with Registry(server.url) as registry, pytest.raises(Unavailable):
        registry.schema(7)


def test_a_registry_that_is_down_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Registry(f"http://127.0.0.1:{port}") as registry, pytest.raises(Unavailable, match="does not answer"):
        registry.schema(7)


@pytest.mark.parametrize("url", ["", "localhost:8081", "ftp://localhost", "http://", "file:///etc/passwd"])
def test_a_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="CIVICBUS_REGISTRY_URL"):
        Registry(url)


def test_the_password_in_a_url_is_not_shown() -> None:
    with Registry("http://someone:hidden@127.0.0.1:1") as registry, pytest.raises(Unavailable) as fault:
        registry.schema(7)
    assert "hidden" not in str(fault.value)


@pytest.mark.parametrize("status", [409, 422])
def test_a_schema_that_the_registry_refuses_is_a_matter_of_the_catalogue(server: Answering, status: int) -> None:
    server.answer = says(status, '{"error_code": 409, "message": "Incompatible: height"}')
    with (
        Registry(server.url) as registry,
        pytest.raises(ConfigurationError, match=r"parks\.trees.*Incompatible: height"),
    ):
        registry.register("records.parks.trees-value", AvroSchema.parse(TREE))


@pytest.mark.parametrize("body", ['{"id": -1}', '{"id": true}', '{"id": "7"}', '{"id": 2147483648}', "{}"])
def test_an_id_that_is_none_is_not_believed(server: Answering, body: str) -> None:
    server.answer = says(200, body)
    with Registry(server.url) as registry, pytest.raises(Unavailable):
        registry.register("records.parks.trees-value", AvroSchema.parse(TREE))


def test_an_unknown_compatibility_is_named(server: Answering) -> None:
    server.answer = says(422, '{"error_code": 42203}')
    with Registry(server.url) as registry, pytest.raises(ConfigurationError, match="SIDEWAYS"):
        registry.set_compatibility("records.parks.trees-value", "SIDEWAYS")


def test_a_flood_of_ids_does_not_fill_the_memory(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("civicbus.schemas.registry.CACHE_SIZE", 8)
    server.answer = UNKNOWN
    with Registry(server.url) as registry:
        for schema_id in range(20):
            refusal(registry, schema_id)
        asked = len(server.asked)
        refusal(registry, 19)
        assert len(server.asked) == asked
        refusal(registry, 0)
        assert len(server.asked) == asked + 1
