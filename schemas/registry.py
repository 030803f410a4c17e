"""The client of a Confluent-compatible schema registry, which is not trusted.

Every schema is checked when it is fetched, answers are bounded in size and time, and only an answer that says
"no such schema" is taken for that: anything else that is no schema is waited for, never held against a record.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx

from civicbus.errors import AccessDenied, ConfigurationError, Unacceptable, Unavailable
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
ANSWER_BYTES = 8 * 1024 * 1024
IDS = range(2**31)
NEGATIVE_CACHE_S = 5.0
CACHE_SIZE = 4096

# The Confluent API's codes for: no such subject, version, schema. A 404 without one comes from someone else.
_NOT_FOUND = frozenset({40401, 40402, 40403})
_BUSY = frozenset({408, 425, 429})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    complete: bool

    def json(self) -> Mapping[str, object] | None:
        """The object in the body, or None where there is none."""
        try:
            document = json.loads(self.body) if self.complete else None
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: Reason
    detail: str
    field: str | None
    until: float


class Registry:
    """One registry. Safe to use from several threads; close it, or use ``with``."""

    def __init__(self, url: str, timeout_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        parsed = _base(url)
        self._shown = str(parsed.copy_with(username=None, password=None))
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._schemas: dict[int, AvroSchema] = {}
        self._refused: dict[int, _Refused] = {}
        # A proxy in the environment is for the internet, and the environment is read in settings only.
        self._client = httpx.Client(
            base_url=parsed,
            timeout=timeout_s,
            trust_env=False,
            headers={"Accept": f"{MEDIA_TYPE}, application/json", "Accept-Encoding": "identity"},
        )

    def schema(self, schema_id: int) -> AvroSchema:
        """The schema with this id, checked.

        Raises Unacceptable with SCHEMA_UNKNOWN or SCHEMA_UNSAFE, and Unavailable where the registry gives no answer.
        """
        known = self._schemas.get(schema_id)
        if known is not None:
            return known
        refused = self._refused.get(schema_id)
        if refused is not None and self._clock() < refused.until:
            raise Unacceptable(refused.reason, refused.detail, field=refused.field)
        try:
            schema = self._fetch(schema_id)
        except Unacceptable as fault:
            until = self._clock() + NEGATIVE_CACHE_S
            self._keep(self._refused, schema_id, _Refused(fault.reason, fault.detail, fault.field, until))
            raise
        self._keep(self._schemas, schema_id, schema)
        return schema

    def register(self, subject: str, schema: AvroSchema) -> int:
        """The id of a schema under a subject; the same content has the same id under every subject.

        Raises ConfigurationError where the registry refuses the schema.
        """
        answer = self._ask("POST", f"subjects/{quote(subject, safe='')}/versions", {"schema": schema.text})
        if answer.status in {409, 422}:
            mend = "make it readable with the former ones (`civicbus catalogue check`)"
            raise ConfigurationError(f"the registry refuses the schema of {subject}: {_message(answer)}", mend=mend)
        return self._id(answer)

    def latest(self, subject: str) -> int | None:
        """The id of the newest schema under a subject; None where there is none."""
        answer = self._ask("GET", f"subjects/{quote(subject, safe='')}/versions/latest")
        if answer.status == 404 and (answer.json() or {}).get("error_code") in _NOT_FOUND:
            return None
        return self._id(answer)

    def set_compatibility(self, subject: str, level: str = "BACKWARD_TRANSITIVE") -> None:
        """What the registry itself demands of the next schema of a subject."""
        answer = self._ask("PUT", f"config/{quote(subject, safe='')}", {"compatibility": level})
        if answer.status == 422:
            raise ConfigurationError(f"the registry does not know the compatibility {level}")
        self._expected(answer)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, schema_id: int) -> AvroSchema:
        if schema_id not in IDS:
            raise Unacceptable(Reason.SCHEMA_UNKNOWN, f"schema id {schema_id} is outside what a registry gives")
        answer = self._ask("GET", f"schemas/ids/{schema_id}")
        if answer.status == 200 and not answer.complete:
            raise Unacceptable(Reason.SCHEMA_UNSAFE, f"schema {schema_id} is larger than {ANSWER_BYTES} bytes")
        if answer.status == 404 and (answer.json() or {}).get("error_code") in _NOT_FOUND:
            raise Unacceptable(Reason.SCHEMA_UNKNOWN, f"the registry has no schema {schema_id}")
        document = self._expected(answer)
        if document.get("schemaType", "AVRO") != "AVRO":
            raise Unacceptable(Reason.SCHEMA_UNSAFE, f"schema {schema_id} is no Avro schema")
        match document.get("schema"):
            case str() as text:
                return AvroSchema.parse(text)
            case _:
                raise self._nonsense(answer)

    def _keep(self, cache: dict[int, T], schema_id: int, value: T) -> None:
        with self._lock:
            if len(cache) >= CACHE_SIZE:
                cache.pop(next(iter(cache)))
            cache[schema_id] = value

    def _expected(self, answer: _Answer) -> Mapping[str, object]:
        """The document of an answer that is one; raises what any other answer means."""
        if answer.status in {401, 403}:
            raise AccessDenied(f"the registry at {self._shown} refuses access", mend="check CIVICBUS_REGISTRY_URL")
        if answer.status >= 500 or answer.status in _BUSY:
            raise Unavailable(f"the registry at {self._shown} answers {answer.status}")
        document = answer.json()
        if answer.status != 200 or document is None:
            raise self._nonsense(answer)
        return document

    def _id(self, answer: _Answer) -> int:
        schema_id = self._expected(answer).get("id")
        if isinstance(schema_id, int) and not isinstance(schema_id, bool) and schema_id in IDS:
            return schema_id
        raise self._nonsense(answer)

    def _nonsense(self, answer: _Answer) -> Unavailable:
        return Unavailable(
            f"what answers at {self._shown} with status {answer.status} does not speak as a schema registry",
            mend="check CIVICBUS_REGISTRY_URL; it is asked again",
        )

    def _ask(self, method: str, path: str, document: Mapping[str, str] | None = None) -> _Answer:
        content = None if document is None else json.dumps(document).encode()
        headers = {} if document is None else {"Content-Type": MEDIA_TYPE}
        deadline = self._clock() + self._timeout_s
        try:
            with self._client.stream(method, path, content=content, headers=headers) as response:
                return self._read(response, deadline)
        except httpx.HTTPError as error:
            name = type(error).__name__
            raise Unavailable(f"the registry at {self._shown} does not answer: {name}") from error

    def _read(self, response: httpx.Response, deadline: float) -> _Answer:
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > ANSWER_BYTES:
                return _Answer(response.status_code, bytes(body[:ANSWER_BYTES]), complete=False)
            if self._clock() > deadline:
                raise Unavailable(f"the registry at {self._shown} took longer than {self._timeout_s:g} s")
        return _Answer(response.status_code, bytes(body), complete=True)


def _base(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationError("the registry's URL is no http or https URL", mend="correct CIVICBUS_REGISTRY_URL")
    return parsed


def _message(answer: _Answer) -> str:
    message = (answer.json() or {}).get("message")
    return message[:500] if isinstance(message, str) else f"status {answer.status}"
