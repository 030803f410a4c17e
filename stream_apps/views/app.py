"""The views process: wires the agreements, the catalogue, the registry and the loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import structlog

from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.names import AGREEMENTS_TOPIC, CATALOGUE_TOPIC, AgreementId, value_subject
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.datasets import Catalogue
from civicbus.schemas.published import catalogue_of
from civicbus.schemas.registry import Registry
from civicbus.schemas.views import View, check
from civicbus.secrets import VIEWS, SecretStore, agreement_secret
from civicbus.settings import Settings, secrets_folder
from civicbus.stream_apps.running import Process
from civicbus.stream_apps.running import Rules as FollowedRules
from civicbus.stream_apps.views.cache import Cache
from civicbus.stream_apps.views.inbox import Inbox
from civicbus.stream_apps.views.stage import Rules, Views
from civicbus.transport.compacted import Follower
from civicbus.transport.exactly_once import Worker
from civicbus.transport.partitions import Facts

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM."""
    process = Process.start("views", VIEWS)
    registry = Registry(process.endpoints.registry_url)
    inboxes = Inboxes(registry, SecretStore(secrets_folder(process.home)))

    def make_worker(followed: Follower) -> tuple[Worker, FollowedRules[Rules]]:
        rules = FollowedRules(
            followed,
            lambda: inboxes.rules(followed.table(AGREEMENTS_TOPIC), catalogue_of(followed.table(CATALOGUE_TOPIC))),
        )
        cache = Cache(
            process.home / "cache" / "views" / str(process.worker),
            Facts(process.endpoints, process.credentials),
            memory_bytes=Settings().views_memory_mb * 2**20,
        )
        stage = Views(rules.read(), rules.renewed, registry.schema, lambda: datetime.now(UTC), cache)
        return Worker(process.endpoints, process.credentials, process.loop, stage), rules

    process.run((CATALOGUE_TOPIC, AGREEMENTS_TOPIC), make_worker)


class Inboxes:
    """Makes the rules of the views from documents; what it made of a document it makes of it again at no cost."""

    def __init__(self, registry: Registry, secrets: SecretStore) -> None:
        self._registry = registry
        self._secrets = secrets
        self._catalogue: Catalogue | None = None
        self._checked: dict[bytes, View] = {}
        self._made: dict[AgreementId, Inbox] = {}

    def rules(self, documents: Mapping[bytes, bytes], catalogue: Catalogue) -> Rules:
        """The rules of today; raises Unavailable where the registry does not answer."""
        if catalogue != self._catalogue:
            self._catalogue, self._checked = catalogue, {}
        views = list(self._views(documents, catalogue))
        self._made = {view.agreement: self._inbox(view) for view in views}
        return Rules(datasets=catalogue.datasets, inboxes=list(self._made.values()))

    def _views(self, documents: Mapping[bytes, bytes], catalogue: Catalogue) -> Iterator[View]:
        """The views of every agreement in force; one that does not pass its check stops only itself."""
        today = datetime.now(UTC).date()
        for key, text in documents.items():
            try:
                agreement = Agreement.from_json(text)
                if agreement.in_force(today):
                    yield self._view(agreement, text, catalogue)
            except (CheckFailed, ConfigurationError) as fault:
                log.warning("agreement_not_active", agreement=AgreementId(key.decode()), fault=str(fault))

    def _view(self, agreement: Agreement, text: bytes, catalogue: Catalogue) -> View:
        view = self._checked.get(text)
        if view is None:
            view = self._checked[text] = check(agreement, catalogue)
        return view

    def _inbox(self, view: View) -> Inbox:
        known = self._made.get(view.agreement)
        if known is not None and known.view == view:
            return known
        return Inbox(
            view=view,
            schema_id=self._registry.register(value_subject(view.topic), view.output),
            secret=self._secrets.read(agreement_secret(view.agreement)).password.encode(),
            codec=ColumnCodec(view.output),
        )
