"""Who may send, how much, and what a refusal says: asked of the real application, whose broker is away."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jsonschema_rs
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.names import DepartmentId
from civicbus.producers.http import openapi
from civicbus.producers.http.answers import STATUSES
from civicbus.producers.http.app import make_app
from civicbus.producers.http.events import BATCH
from civicbus.producers.http.fates import Fates
from civicbus.producers.http.ingress import Ingress
from civicbus.producers.http.intake import Intake
from civicbus.producers.http.keys import KeyFile
from civicbus.producers.http.known import Known
from civicbus.producers.http.limits import full
from civicbus.producers.http.receipts import Receipts
from civicbus.producers.publisher import Publisher
from civicbus.schemas.datasets import Quality
from civicbus.settings import IngressSettings
from support.answering import answering, says
from support.ingress import client
from support.project import ROOT
from support.samples import permits

CONSTRUCTION = DepartmentId("construction")
DATASET = permits(quality=Quality(allowed=("open", "closed"), max_length=6))
RECORDS = f"/v1/datasets/{DATASET.id}/records"
ISSUER = "https://issuer.example"


@dataclass(frozen=True, slots=True)
class Desk:
    client: httpx.Client
    keys: KeyFile
    known: Known


def away(_: object, __: object = None) -> Publisher:
    raise Unavailable("no broker answers")


@contextmanager
def desk(folder: Path, **settings: object) -> Iterator[Desk]:
    """The application without a broker; its client has the key of the construction department."""
    with Receipts(folder) as receipts:
        known, keys = Known(away), KeyFile(folder)
        known.datasets = {DATASET.id: DATASET}
        intake = Intake(receipts, away, known.claim, lambda: datetime.now(UTC))
        ingress = Ingress(
            IngressSettings(**settings),
            keys=keys,
            known=known,
            receipts=receipts,
            intake=intake,
            fates=Fates(receipts, away, away),
        )
        with served(ingress) as url, client(url, keys.make(CONSTRUCTION)) as own:
            yield Desk(own, keys, known)


@contextmanager
def served(ingress: Ingress) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(make_app(ingress), log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, body_bytes=2_000, batch_events=5, burst_events=10, events_per_s=5) as made:
        yield made


def test_every_rejection_is_a_problem_document(here: Desk) -> None:
    document = here.client.get("/openapi.json").json()
    problem = jsonschema_rs.validator_for(
        {"$ref": "#/components/schemas/problem", "components": document["components"]}
    )
    event = {"Content-Type": BATCH}
    asked = {
        400: here.client.put(RECORDS, content=b"{", headers={"Content-Type": "application/json"}),
        401: here.client.put(RECORDS, json={}, headers={"Authorization": "Bearer construction.guess"}),
        403: here.client.put("/v1/datasets/health.visits/records", json={}),
        404: here.client.put("/v1/datasets/construction.none/records", json={}),
        405: here.client.post(RECORDS, json={}),
        413: here.client.put(RECORDS, json=[{}] * 6),
        415: here.client.put(RECORDS, content=b"a,b", headers={"Content-Type": "text/csv"}),
        422: here.client.post("/v1/events", content=b"[1]", headers=event),
        503: here.client.put(RECORDS, json={"permit_no": "P1"}),
    }
    for status, answer in asked.items():
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), status
        assert answer.json()["status"] == status
        problem.validate(answer.json())
    assert asked[401].headers["www-authenticate"].startswith("Bearer")
    assert int(asked[503].headers["retry-after"]) > 0
    assert asked[405].headers["allow"] == "PUT"
    assert set(asked) | {409, 429, 500} == set(STATUSES.values())


def test_what_the_framework_would_read_as_something_else_is_refused(here: Desk) -> None:
    assert here.client.delete(f"{RECORDS}/%CA%F71").status_code == 404
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert here.client.put(RECORDS, content=b"{}", headers=packed).status_code == 415


def test_a_body_of_unknown_length_is_refused_where_it_becomes_too_large(here: Desk) -> None:
    parts = (b"[" * 1_000 for _ in range(3))
    answer = here.client.put(RECORDS, content=parts, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_who_sends_too_much_is_told_when_to_come_again(here: Desk) -> None:
    assert here.client.put(RECORDS, json=[{"permit_no": "P1"}] * 5).status_code == 503
    assert here.client.put(RECORDS, json=[{"permit_no": "P1"}] * 5).status_code == 503
    answer = here.client.put(RECORDS, json=[{"permit_no": "P1"}] * 5)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_before_the_catalogue_is_read_a_sender_waits(here: Desk) -> None:
    here.known.datasets = None
    answer = here.client.put(RECORDS, json={"permit_no": "P1"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_key_is_taken_until_it_is_revoked_or_followed_by_another(here: Desk) -> None:
    first = here.client.headers["Authorization"].removeprefix("Bearer ")
    second = here.keys.make(CONSTRUCTION)
    other = KeyFile(here.keys._path.parent)
    assert (other.holder(first), other.holder(second)) == (None, CONSTRUCTION)
    assert here.keys.revoke(CONSTRUCTION)
    assert other.holder(second) is None
    assert not here.keys.revoke(CONSTRUCTION)
    assert here.keys._path.stat().st_mode & 0o077 == 0
    assert second.partition(".")[2] not in here.keys._path.read_text()


@pytest.mark.parametrize("key", ["", ".", "construction.", "construction", "none.", "树.x", "a" * 10_000])
def test_what_is_no_key_is_nobodys(here: Desk, key: str) -> None:
    assert here.keys.holder(key) is None


def test_a_bucket_gives_what_it_has_and_fills_with_time() -> None:
    bucket, wait_s = full(10, 20, 0.0).taken(20, 0.0)
    assert wait_s == 0
    bucket, wait_s = bucket.taken(5, 0.1)
    assert wait_s == pytest.approx(0.4)
    bucket, wait_s = bucket.taken(5, 0.5)
    assert wait_s == 0
    assert bucket.taken(20, 1_000.0)[1] == 0
    assert bucket.taken(21, 1_000.0)[1] > 0


def token(key: RSAKey, **changed: object) -> str:
    claims = {"iss": ISSUER, "aud": "civicbus", "exp": int(time.time()) + 60, "civicbus_department": "construction"}
    kept = {name: value for name, value in (claims | changed).items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": key.kid}, kept, key)


def test_a_token_is_taken_from_the_issuer_for_this_audience_and_its_department_alone(tmp_path: Path) -> None:
    key = RSAKey.generate_key(2048, auto_kid=True)
    other = RSAKey.generate_key(2048, {"kid": key.kid})
    keys = says(200, json.dumps(KeySet([key]).as_dict(private=False)))
    with (
        answering(keys) as issuer,
        desk(tmp_path, oidc_issuer=ISSUER, oidc_jwks_url=f"{issuer.url}/keys") as made,
    ):

        def status(text: str) -> int:
            headers = {"Authorization": f"Bearer {text}"}
            return made.client.get("/openapi.json", headers=headers).status_code

        assert status(token(key)) == 200
        wrong: list[dict[str, object]] = [
            *({"iss": "https://other"}, {"aud": "other"}, {"exp": int(time.time()) - 60}, {"exp": None}),
            *({"civicbus_department": None}, {"civicbus_department": "platform"}, {"civicbus_department": 7}),
        ]
        assert [status(token(key, **changed)) for changed in wrong] == [401] * len(wrong)
        assert status(token(other)) == 401
        assert status(token(key)[:-4] + "AAAA") == 401
        head, body, _ = token(key).split(".")
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        assert status(f"{unsigned}.{body}.") == status(f"{head}.{body}.") == 401
        assert len(issuer.asked) == 1


def test_an_issuer_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    key = RSAKey.generate_key(2048, auto_kid=True)
    with (
        answering(says(500)) as issuer,
        desk(tmp_path, oidc_issuer=ISSUER, oidc_jwks_url=f"{issuer.url}/keys") as made,
    ):
        headers = {"Authorization": f"Bearer {token(key)}"}
        assert made.client.get("/openapi.json", headers=headers).status_code == 503


def test_a_department_reads_of_its_own_datasets_alone() -> None:
    document = openapi.document(DepartmentId("health"), {DATASET.id: DATASET}, 10)
    assert str(DATASET.id) not in json.dumps(document)


def test_the_schema_of_a_record_says_the_rules_of_the_catalogue() -> None:
    validator = jsonschema_rs.validator_for(openapi.row_schema(DATASET))
    assert validator.is_valid({"permit_no": "P1", "status": "open", "score": None})
    wrong = [{}, {"permit_no": 1}, {"permit_no": "P1", "other": 1}, {"permit_no": "P1", "status": "gone"}]
    assert not any(map(validator.is_valid, wrong))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "10.0.0.1"),
        ("TLS_KEY", "key.pem"),
        ("OIDC_ISSUER", ISSUER),
        ("PORT", "70000"),
        ("BURST_EVENTS", "10"),
        ("OIDC_JWKS_URL", "http://a"),
    ],
)
def test_settings_that_do_not_fit_together_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CIVICBUS_INGRESS_{name}", value)
    with pytest.raises(ConfigurationError, match="CIVICBUS_INGRESS_"):
        IngressSettings.from_environment()


def test_the_table_of_settings_is_the_settings() -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `CIVICBUS_INGRESS_(\w+)` \| (.+?) \|", page, re.MULTILINE))
    fields = IngressSettings.model_fields
    assert rows == {
        name.upper(): "none" if field.default is None else f"`{field.default}`" for name, field in fields.items()
    }


def test_settings_reach_the_process_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given = IngressSettings(host="::1", port=8443, oidc_issuer=ISSUER, oidc_jwks_url="https://issuer.example/keys")
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert IngressSettings.from_environment() == given
