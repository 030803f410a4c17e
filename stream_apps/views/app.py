"""The views process: wires the agreements, the catalogue, the registry and the loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import structlog

from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.names import AGREEMENTS_TOPIC, CATALOGUE_TOPIC, AgreementId, value_subject
from civicbus.schemas.agreement import Agreement, KeyMode
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.datasets import Catalogue
from civicbus.schemas.published import catalogue_of
from civicbus.schemas.registry import Registry
from civicbus.schemas.views import View, check
from civicbus.secrets import VIEWS, SecretStore, agreement_secret
from civicbus.settings import secrets_folder
from civicbus.stream_apps.running import Process
from civicbus.stream_apps.views.evaluate import Evaluation
from civicbus.stream_apps.views.expressions import keyed_hash
from civicbus.stream_apps.views.stage import Inbox, Views
from civicbus.transport.compacted import Follower
from civicbus.transport.exactly_once import Loop, Worker

log = structlog.get_logger()

LOOP = Loop(process="views", group="platform.views", instance="platform.views.0")


def main() -> None:
    """Run until SIGTERM."""
    process = Process.start("views", VIEWS)
    registry = Registry(process.endpoints.registry_url)
    secrets = SecretStore(secrets_folder(process.home))

    def make_worker(rules: Follower) -> Worker:
        catalogue = catalogue_of(rules.table(CATALOGUE_TOPIC))
        views = list(_views(rules.table(AGREEMENTS_TOPIC), catalogue))
        keys = {view.agreement: secrets.read(agreement_secret(view.agreement)).password.encode() for view in views}
        inboxes = [_inbox(view, registry, keys[view.agreement]) for view in views]
        stage = Views(
            catalogue.datasets, inboxes, lambda some: Evaluation(some, keys), registry.schema, lambda: datetime.now(UTC)
        )
        return Worker(process.endpoints, process.credentials, LOOP, stage)

    process.run((CATALOGUE_TOPIC, AGREEMENTS_TOPIC), make_worker)


def _views(documents: Mapping[bytes, bytes], catalogue: Catalogue) -> Iterator[View]:
    """The views of every agreement in force; one that does not pass its check stops only itself."""
    today = datetime.now(UTC).date()
    for key, text in documents.items():
        try:
            agreement = Agreement.from_json(text)
            if agreement.in_force(today):
                yield check(agreement, catalogue)
        except (CheckFailed, ConfigurationError) as fault:
            log.warning("agreement_not_active", agreement=AgreementId(key.decode()), fault=str(fault))


def _inbox(view: View, registry: Registry, secret: bytes) -> Inbox:
    def hashed(key: bytes) -> bytes:
        return keyed_hash(secret, key).encode()

    return Inbox(
        view=view,
        schema_id=registry.register(value_subject(view.topic), view.output),
        codec=ColumnCodec(view.output),
        key=hashed if view.key_mode is KeyMode.HASHED else bytes,
    )
