"""A new secret for one principal, in steps that a crash may cut short anywhere.

1. The new secret is written down beside the current one.
2. The broker learns it, and is seen to accept it.
3. The database learns it, where the principal has a role there.
4. It takes the place of the current one.

Whoever runs the rotation again, and every start of the platform, goes on with the secret of step 1. Between
steps 2 and 4, well under a second, who connects with the current secret is refused. The broker's own secret is
the exception: a broker that has started holds the current one, so a start gives that one back to it.
"""

from __future__ import annotations

import time

from civicbus.errors import AccessDenied
from civicbus.infra import databases
from civicbus.infra.sessions import operator_administration, operator_session
from civicbus.secrets import ADMISSION, BROKER, INGRESS, VIEWS, Credentials, Principal, SecretStore
from civicbus.settings import Endpoints
from civicbus.transport.authentication import authenticate

_ACCEPTED_WITHIN_S = 10.0
_WITHOUT_DATABASE = frozenset({BROKER, ADMISSION, VIEWS, INGRESS})


def rotate(endpoints: Endpoints, secrets: SecretStore, principal: Principal) -> None:
    """Raises ConfigurationError for a principal without a secret; after any fault, run it again."""
    secrets.read(principal)
    new = secrets.prepare(principal)
    _tell_broker(endpoints, secrets, new)
    if principal not in _WITHOUT_DATABASE:
        _tell_database(endpoints, secrets, new)
    secrets.adopt(principal)


def finish_rotations(endpoints: Endpoints, secrets: SecretStore) -> None:
    """Finish what was begun and cut short; the broker's own waits until somebody runs it again."""
    for principal in secrets.prepared():
        if principal != BROKER:
            rotate(endpoints, secrets, principal)


def _tell_broker(endpoints: Endpoints, secrets: SecretStore, new: Credentials) -> None:
    with operator_administration(endpoints, secrets) as admin:
        admin.set_secrets([new])
    _wait_until_accepted(endpoints, new)


def _wait_until_accepted(endpoints: Endpoints, new: Credentials) -> None:
    """The broker hears of the new secret a moment after the controller."""
    deadline = time.monotonic() + _ACCEPTED_WITHIN_S
    while True:
        try:
            return authenticate(endpoints, new)
        except AccessDenied:
            if time.monotonic() > deadline:
                raise


def _tell_database(endpoints: Endpoints, secrets: SecretStore, new: Credentials) -> None:
    with operator_session(endpoints, secrets) as session:
        databases.set_secret(session, new)
