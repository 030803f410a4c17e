"""Where the ingress listens: a port of its own that it keeps, written down for those who ask."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from civicbus.errors import ConfigurationError
from civicbus.settings import IngressSettings

# Below the range that the system gives to outgoing connections, so that none sits on it during a restart.
_FROM, _BELOW = 20_000, 32_768
_TRIES = 50


def ingress_folder(home: Path) -> Path:
    """Where the ingress keeps its keys, its receipts and its address."""
    return home / "ingress"


def known_url(home: Path) -> str | None:
    """Where the ingress of this home listens, or listened last."""
    try:
        return _file(home).read_text().strip() or None
    except FileNotFoundError:
        return None


def listen(home: Path, settings: IngressSettings) -> socket.socket:
    """A socket that listens; raises ConfigurationError where its port is in use."""
    before = known_url(home)
    kept = [int(before.rpartition(":")[2])] if before else []
    some = (random.randrange(_FROM, _BELOW) for _ in range(_TRIES))  # noqa: S311 - a port is no secret
    for port in [settings.port] if settings.port else [*kept, *some]:
        bound = _bound(settings.host, port)
        if bound is not None:
            _note(home, settings, port)
            return bound
    raise ConfigurationError(
        f"port {settings.port} on {settings.host} is in use", mend="set CIVICBUS_INGRESS_PORT to another one"
    )


def _bound(host: str, port: int) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(1024)
    except OSError:
        bound.close()
        return None
    return bound


def _note(home: Path, settings: IngressSettings, port: int) -> None:
    scheme = "http" if settings.tls_certificate is None else "https"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    ingress_folder(home).mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _file(home).with_suffix(".new")
    draft.write_text(f"{scheme}://{host}:{port}\n")
    draft.replace(_file(home))


def _file(home: Path) -> Path:
    return ingress_folder(home) / "url"
