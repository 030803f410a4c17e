"""The ingress process by itself: it answers over TLS while no broker does, and ends when asked."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from civicbus.names import DepartmentId
from civicbus.secrets import INGRESS, SecretStore
from civicbus.settings import Endpoints, secrets_folder
from support.ingress import RunningIngress
from support.stages import StageProcess, wait_for

NOWHERE = Endpoints(
    bootstrap_servers="127.0.0.1:1", registry_url="http://127.0.0.1:1", database_host="", database_port=0
)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine's own, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ingress")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "ingress.pem", folder / "ingress.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningIngress]:
    home = tmp_path / "home"
    home.mkdir()
    NOWHERE.save(home)
    SecretStore(secrets_folder(home)).ensure(INGRESS)
    pem, private = certificate(tmp_path)
    monkeypatch.setenv("CIVICBUS_INGRESS_TLS_CERTIFICATE", str(pem))
    monkeypatch.setenv("CIVICBUS_INGRESS_TLS_KEY", str(private))
    started = RunningIngress(home, StageProcess("civicbus.producers.http", home, "ingress"))
    started.process.launch()
    yield started
    started.process.stop()


def test_it_answers_over_tls_while_no_broker_does_and_ends_when_asked(running: RunningIngress, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "ingress.pem"))

    def answered() -> httpx.Response | None:
        running.process.ready()  # fails where the process has ended
        try:
            headers = {"Authorization": f"Bearer {running.key(DepartmentId('parks'))}"}
            return httpx.get(f"{running.url}/openapi.json", headers=headers, verify=trust)
        except (AssertionError, httpx.TransportError):
            return None

    answer = wait_for("an answer", answered)
    assert running.url.startswith("https://127.0.0.1:")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert httpx.get(f"{running.process.url()}/healthz").json()["ready"] is False
    running.process.stop()
    assert running.process.process is not None
    assert running.process.process.returncode == 0
    mode = (running.home / "ingress").stat().st_mode
    assert mode & 0o077 == 0
