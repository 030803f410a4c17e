"""OIDC client tokens: a signed token of the configured issuer, for this audience, that names a department."""

from __future__ import annotations

import threading
import time

import httpx
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.names import DepartmentId, department_id
from civicbus.settings import IngressSettings

log = structlog.get_logger()

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_KEYS_BYTES = 1024 * 1024
_KEYS_LAST_S = 600.0
_KEYS_LAST_AT_MOST_S = 3600.0
_ASK_AGAIN_AFTER_S = 10.0
_WAIT_FOR_ANOTHER_S = 1.0
_WITHIN_S = 5.0
_LEEWAY_S = 30


class Tokens:
    """Checks tokens against the issuer's public keys, which are fetched again when a token names an unknown one.

    One request at a time asks the issuer, and none in the seconds after it did not answer: whoever has no right at
    all must not be able to hold up the others with a token that looks new. Keys that are read last an hour at most.
    """

    def __init__(self, settings: IngressSettings) -> None:
        self._settings = settings
        self._registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": settings.oidc_issuer or ""},
            aud={"essential": True, "value": settings.oidc_audience},
            exp={"essential": True},
        )
        self._fetching = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched_s = float("-inf")
        self._asked_s = float("-inf")

    def holder(self, token: str) -> DepartmentId | None:
        """Whom the token names; None for one that is not taken. Raises Unavailable where the issuer has no keys now."""
        if self._settings.oidc_jwks_url is None:
            return None
        for age_s in (_KEYS_LAST_S, _ASK_AGAIN_AFTER_S):
            keys = self._known(age_s)
            try:
                claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
                self._registry.validate(claims)
                return department_id(str(claims.get(self._settings.oidc_claim)))
            except (JoseError, ValueError, ConfigurationError):
                continue
        return None

    def _known(self, age_s: float) -> KeySet:
        """The issuer's keys: older than this only where another request asks for them, or where it did not answer."""
        url = str(self._settings.oidc_jwks_url)
        if self._due(age_s) and self._fetching.acquire(timeout=_WAIT_FOR_ANOTHER_S if self._keys is None else 0.0):
            try:
                if self._due(age_s):
                    self._fetch(url)
            finally:
                self._fetching.release()
        if self._keys is None or time.monotonic() - self._fetched_s > _KEYS_LAST_AT_MOST_S:
            raise Unavailable(f"the keys of the issuer at {url} cannot be read")
        return self._keys

    def _due(self, age_s: float) -> bool:
        return time.monotonic() > max(self._fetched_s + age_s, self._asked_s + _ASK_AGAIN_AFTER_S)

    def _fetch(self, url: str) -> None:
        """Ask the issuer; where it does not answer, what is known stays."""
        self._asked_s = time.monotonic()
        try:
            with httpx.stream("GET", url, timeout=_WITHIN_S) as answer:
                answer.raise_for_status()
                body = b"".join(_bounded(answer))
            self._keys = KeySet.import_key_set(httpx.Response(200, content=body).json())
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError):
            log.warning("issuer_keys_unread", url=url)
        else:
            self._fetched_s = time.monotonic()


def _bounded(answer: httpx.Response) -> list[bytes]:
    parts: list[bytes] = []
    for part in answer.iter_bytes():
        parts.append(part)
        if sum(map(len, parts)) > _KEYS_BYTES:
            raise ValueError("too large")
    return parts
