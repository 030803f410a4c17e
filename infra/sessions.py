"""Connections of the platform's operator, who may do everything, to the broker and to the database.

Where a rotation of the operator's own secret was cut short, each of the two may know the old or the new one;
the one that is accepted is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from civicbus.errors import AccessDenied
from civicbus.infra import databases
from civicbus.postgres import Session
from civicbus.secrets import OPERATOR, Credentials, SecretStore
from civicbus.settings import Endpoints
from civicbus.transport.admin import Administration, administration
from civicbus.transport.authentication import authenticate


@contextmanager
def operator_administration(endpoints: Endpoints, secrets: SecretStore) -> Iterator[Administration]:
    """The broker's administration; raises AccessDenied or Unavailable where it cannot be had."""
    credentials = _accepted(secrets, lambda candidate: authenticate(endpoints, candidate))
    with administration(endpoints, credentials) as admin:
        yield admin


@contextmanager
def operator_session(endpoints: Endpoints, secrets: SecretStore) -> Iterator[Session]:
    """A session on the database server; raises AccessDenied or Unavailable where it cannot be had."""
    credentials = _accepted(secrets, lambda candidate: databases.authenticate(endpoints, candidate))
    with databases.session(endpoints, credentials) as session:
        yield session


def _accepted(secrets: SecretStore, attempt: Callable[[Credentials], None]) -> Credentials:
    current = secrets.read(OPERATOR)
    if OPERATOR not in secrets.prepared():
        return current
    try:
        attempt(current)
    except AccessDenied:
        return secrets.prepare(OPERATOR)
    return current
