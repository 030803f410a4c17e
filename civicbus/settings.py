"""Where civicbus keeps its state and where the parts of the platform are.

Settings come from ``CIVICBUS_*`` environment variables, read once in ``main``; endpoints come from the file
that the running platform wrote into its data folder, unless a setting names an external part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from civicbus.errors import ConfigurationError


class Settings(BaseSettings):
    """What the environment may set for every civicbus command. Ports of 0 mean: any free one."""

    model_config = SettingsConfigDict(env_prefix="CIVICBUS_", frozen=True, extra="ignore")

    data: Path = Field(default=Path(".civicbus"), description="the data folder: state, secrets, logs")
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
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")


class Endpoints(BaseModel):
    """Where the parts answer. Written to ``<data>/endpoints.json`` by the platform; holds no secret."""

    model_config = ConfigDict(frozen=True)

    bootstrap_servers: str
    registry_url: str
    database_host: str
    database_port: int
    security_protocol: str = "SASL_PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    tls_ca_file: Path | None = None

    @classmethod
    def load(cls, data: Path) -> Self:
        """Raises ConfigurationError where no platform has written the file."""
        try:
            return cls.model_validate_json(endpoints_file(data).read_bytes())
        except FileNotFoundError:
            raise ConfigurationError(
                f"no platform has run in {data}", mend="start one with `civicbus up`, or set CIVICBUS_DATA"
            ) from None


def endpoints_file(data: Path) -> Path:
    return data / "endpoints.json"


def secrets_folder(data: Path) -> Path:
    return data / "secrets"
