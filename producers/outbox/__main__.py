"""The relay of one department: ``python -m civicbus.producers.outbox --home FOLDER --department ID``.

It has that department's credentials and no others. A broker or database that is down is waited for; a new secret
is read before every new try.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from civicbus.errors import AccessDenied, ConfigurationError, Fenced, Unavailable
from civicbus.names import DepartmentId
from civicbus.observe import Health
from civicbus.producers.outbox.database import open_outbox
from civicbus.producers.outbox.outlets import Outlets
from civicbus.producers.outbox.relay import Relay
from civicbus.secrets import SecretStore, principal_of
from civicbus.serving import Work, serve, tried_again
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.assigned import AssignedReader

_WAITED_OUT = (Unavailable, AccessDenied, Fenced, ConfigurationError)


def relay_of(home: Path, department: DepartmentId) -> Work:
    """Relays the department's outbox."""
    return tried_again(partial(_relay, home, department), _WAITED_OUT)


def _relay(home: Path, department: DepartmentId, stop: threading.Event, health: Health) -> None:
    endpoints = Endpoints.load(home)
    credentials = SecretStore(secrets_folder(home)).read(principal_of(department))
    with (
        open_outbox(home, department) as outbox,
        Outlets(endpoints, credentials, department) as outlets,
        AssignedReader(endpoints, credentials, group=f"{department}.outbox") as reader,
    ):
        Relay(outbox, outlets, reader, origin=outbox.origin(), health=health).run(stop)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    serve("outbox", "civicbus.producers.outbox", "whose outbox is published", relay_of)


if __name__ == "__main__":
    main()
