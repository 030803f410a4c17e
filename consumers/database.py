"""A department's connection to its own database."""

from __future__ import annotations

from civicbus import postgres
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints


def connect(endpoints: Endpoints, credentials: Credentials) -> postgres.Session:
    """A session of the department in the database of its name; raises Unavailable or AccessDenied."""
    name = credentials.principal
    return postgres.connect(endpoints, role=name, password=credentials.password, database=name)
