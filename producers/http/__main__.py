"""The ingress process: ``python -m civicbus.producers.http --home FOLDER``.

It publishes with the credentials of the department that sends, and by itself may only read the catalogue and see
how far admission is. It answers from the start; while the broker is away with 503.
"""

from __future__ import annotations

import argparse
import signal
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
import uvicorn

from civicbus import logs, observe
from civicbus.errors import Unavailable
from civicbus.names import CATALOGUE_TOPIC, SOURCES_TOPIC, DepartmentId
from civicbus.observe import Health
from civicbus.producers.bulk import bulk_publisher_at
from civicbus.producers.http.app import make_app
from civicbus.producers.http.fates import Fates
from civicbus.producers.http.ingress import Ingress
from civicbus.producers.http.intake import Intake
from civicbus.producers.http.keys import KeyFile
from civicbus.producers.http.known import Known
from civicbus.producers.http.listening import ingress_folder, listen
from civicbus.producers.http.receipts import Receipts
from civicbus.secrets import INGRESS, Credentials, Principal, SecretStore, principal_of
from civicbus.settings import Endpoints, IngressSettings, Settings, secrets_folder
from civicbus.transport.assigned import AssignedReader
from civicbus.transport.compacted import Follower

log = structlog.get_logger()

NAME = "ingress"
_FORGET_EVERY_S = 5.0
_ENDS_WITHIN_S = 10


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m civicbus.producers.http")
    parser.add_argument("--home", type=Path, required=True, help="the folder of state, secrets and logs")
    home: Path = parser.parse_args().home.resolve()
    logs.configure(NAME, Settings().log_level)
    settings = IngressSettings.from_environment()
    stop, health = threading.Event(), Health()
    # The server answers what it has begun, and then hands the signal on to these.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        receipts = stack.enter_context(Receipts(ingress_folder(home)))
        ingress, known = _assembled(home, settings, receipts, stack)
        listening = stack.enter_context(listen(home, settings))
        stack.callback(observe.serve(NAME, home, health).shutdown)
        stack.callback(stop.set)
        for work in (lambda: known.run(stop, health), lambda: _forget(receipts, stop)):
            threading.Thread(target=work, daemon=True).start()
        uvicorn.Server(_server(ingress, settings)).run(sockets=[listening])


def _assembled(home: Path, settings: IngressSettings, receipts: Receipts, stack: ExitStack) -> tuple[Ingress, Known]:
    """The ingress on the platform of this home; secrets are read anew for every connection."""
    endpoints, secrets = Endpoints.load(home), SecretStore(secrets_folder(home))

    def credentials(principal: Principal) -> Credentials:
        return secrets.read(principal)

    def follow() -> Follower:
        return Follower(endpoints, credentials(INGRESS), (CATALOGUE_TOPIC, SOURCES_TOPIC), "platform.admission")

    def progress(group: str) -> AssignedReader:
        return AssignedReader(endpoints, credentials(INGRESS), group=group)

    def quarantine(department: DepartmentId, group: str) -> AssignedReader:
        return AssignedReader(endpoints, credentials(principal_of(department)), group=group)

    known = Known(follow)
    intake = Intake(receipts, partial(bulk_publisher_at, home), known.claim, lambda: datetime.now(UTC))
    fates = Fates(receipts, progress, quarantine)
    stack.callback(fates.close)
    stack.callback(intake.close)
    keys = KeyFile(ingress_folder(home))
    return Ingress(settings, keys=keys, known=known, receipts=receipts, intake=intake, fates=fates), known


def _server(ingress: Ingress, settings: IngressSettings) -> uvicorn.Config:
    # A request's path may hold a record key, so there is no access log.
    return uvicorn.Config(
        make_app(ingress),
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=_ENDS_WITHIN_S,
    )


def _forget(receipts: Receipts, stop: threading.Event) -> None:
    while not stop.wait(_FORGET_EVERY_S):
        try:
            receipts.forget(datetime.now(UTC))
        except Unavailable as fault:
            log.warning("receipts_not_forgotten", fault=str(fault))


if __name__ == "__main__":
    main()
