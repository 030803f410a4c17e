"""The table process of one department: ``python -m civicbus.consumers.table --home FOLDER --department ID``.

It has that department's credentials and no others. A broker or database that is down is waited for; a new
secret is read before every new try.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from civicbus.consumers.database import connect
from civicbus.consumers.delivery import Delivery
from civicbus.consumers.rows import Decoding
from civicbus.errors import AccessDenied, Unavailable
from civicbus.names import DepartmentId
from civicbus.observe import Health
from civicbus.schemas.registry import Registry
from civicbus.secrets import SecretStore, principal_of
from civicbus.serving import Work, serve, tried_again
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.assigned import AssignedReader


def table_of(home: Path, department: DepartmentId) -> Work:
    """Delivers the department's inboxes."""
    return tried_again(partial(_deliver, home, department, Endpoints.load(home)), (Unavailable, AccessDenied))


def _deliver(home: Path, department: DepartmentId, endpoints: Endpoints, stop: threading.Event, health: Health) -> None:
    credentials = SecretStore(secrets_folder(home)).read(principal_of(department))
    with (
        Registry(endpoints.registry_url) as registry,
        connect(endpoints, credentials) as session,
        AssignedReader(endpoints, credentials, group=f"{department}.table") as reader,
    ):
        Delivery(department, reader, session, Decoding(registry)).run(stop, health)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    serve("table", "civicbus.consumers.table", "whose inboxes become tables", table_of)


if __name__ == "__main__":
    main()
