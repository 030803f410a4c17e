"""Makes agreements flow on a running platform, and stops them.

Promise: it may run again at any time and changes only what differs. Where one agreement does not pass its check,
nothing at all is changed. The document is published last, when its inbox, its rights, its schema and its key are
there; a revocation takes the right to read away first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.infra.desired import Role, add_processes, departments_with, remove_processes
from civicbus.infra.health import ask, living
from civicbus.infra.provision import activate_inbox, revoke_inbox
from civicbus.names import AGREEMENTS_TOPIC, CATALOGUE_TOPIC, AgreementId, value_subject
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.datasets import Catalogue
from civicbus.schemas.published import catalogue_of
from civicbus.schemas.registry import Registry
from civicbus.schemas.views import View, check, examine
from civicbus.secrets import OPERATOR, SecretStore, agreement_secret
from civicbus.settings import Endpoints
from civicbus.transport.compacted import Follower, put_all

STOPS_WITHIN_S = 10.0
VIEWS_PROCESS = "views"
_GROUP = "platform.operator"
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Published:
    """What the platform runs on: its catalogue and its agreements."""

    catalogue: Catalogue
    agreements: Mapping[AgreementId, Agreement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """Which agreements were new, which replaced an earlier document, and which were there as they are."""

    new: tuple[AgreementId, ...]
    changed: tuple[AgreementId, ...]
    unchanged: tuple[AgreementId, ...]


def published(endpoints: Endpoints, secrets: SecretStore) -> Published:
    """The catalogue and the agreements that the platform runs on."""
    with Follower(endpoints, secrets.read(OPERATOR), (CATALOGUE_TOPIC, AGREEMENTS_TOPIC), _GROUP) as follower:
        tables = follower.read_to_end()
    agreements = [Agreement.from_json(text) for text in tables[AGREEMENTS_TOPIC].values()]
    return Published(catalogue_of(tables[CATALOGUE_TOPIC]), {agreement.id: agreement for agreement in agreements})


def activate(endpoints: Endpoints, secrets: SecretStore, agreements: Sequence[Agreement]) -> Activated:
    """Let these agreements flow; raises CheckFailed with every finding where one of them may not."""
    before = published(endpoints, secrets)
    views = _checked(agreements, before)
    with Registry(endpoints.registry_url) as registry:
        for view in views:
            _prepare(endpoints, secrets, registry, view, before.catalogue)
    differing = [agreement for agreement in agreements if before.agreements.get(agreement.id) != agreement]
    rows = ((agreement.id.encode(), agreement.to_json()) for agreement in differing)
    put_all(endpoints, secrets.read(OPERATOR), AGREEMENTS_TOPIC, rows)
    return Activated(
        new=tuple(agreement.id for agreement in differing if agreement.id not in before.agreements),
        changed=tuple(agreement.id for agreement in differing if agreement.id in before.agreements),
        unchanged=tuple(agreement.id for agreement in agreements if agreement not in differing),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """An agreement that ended. ``stopped_s``: how long its output went on after its subscriber lost the right to read.

    None where no views process of this home said within a while that it stopped.
    """

    agreement: Agreement
    stopped_s: float | None


def revoke(home: Path, endpoints: Endpoints, secrets: SecretStore, name: AgreementId) -> Revoked:
    """Take the subscriber's right to read away, then stop the output; raises ConfigurationError for an unknown id."""
    agreement = found(published(endpoints, secrets).agreements, name)
    revoke_inbox(endpoints, secrets, agreement.subscriber, agreement.id)
    began_s = time.monotonic()
    end = put_all(endpoints, secrets.read(OPERATOR), AGREEMENTS_TOPIC, iter([(name.encode(), None)]))
    stopped = _taken_in(home, end)
    return Revoked(agreement=agreement, stopped_s=time.monotonic() - began_s if stopped else None)


def _taken_in(home: Path, end: int) -> bool:
    """Wait until all that is visible was decided by the agreements up to this offset; whether that came."""
    deadline_s = time.monotonic() + STOPS_WITHIN_S
    while time.monotonic() < deadline_s:
        workers = [process for process in living(home) if process.process.partition("-")[0] == VIEWS_PROCESS]
        if not workers:
            return False
        if all(ask(worker).goes_by.get(AGREEMENTS_TOPIC, 0) >= end for worker in workers):
            return True
        time.sleep(_LOOK_S)
    return False


def keep_tables(home: Path, endpoints: Endpoints, secrets: SecretStore) -> None:
    """Have a table process run for each department that a published agreement delivers a table to, and for no other."""
    agreements = published(endpoints, secrets).agreements.values()
    wanted = {agreement.subscriber for agreement in agreements if agreement.delivery.table}
    add_processes(home, Role.TABLE, wanted)
    remove_processes(home, Role.TABLE, set(departments_with(home, Role.TABLE)) - wanted)


def found(agreements: Mapping[AgreementId, Agreement], name: str) -> Agreement:
    """The published agreement of this name; raises ConfigurationError where there is none."""
    agreement = agreements.get(AgreementId(name))
    if agreement is None:
        known = ", ".join(sorted(agreements)) or "none yet"
        raise ConfigurationError(f"no agreement {name} is published", mend=f"published are: {known}")
    return agreement


def _checked(agreements: Iterable[Agreement], before: Published) -> list[View]:
    views: list[View] = []
    findings: list[str] = []
    today = datetime.now(UTC).date()
    for agreement in agreements:
        earlier = before.agreements.get(agreement.id, agreement)
        if earlier.subscriber != agreement.subscriber:
            mend = f"revoke it first, or give the one for {agreement.subscriber} another id"
            findings.append(f"{agreement.id}: agreement: {earlier.subscriber} subscribes to it already; {mend}")
        try:
            view = check(agreement, before.catalogue, on=today)
            findings.extend(_moved(agreement, view, before))
            views.append(view)
        except CheckFailed as fault:
            findings.extend(fault.findings)
    if findings:
        raise CheckFailed("these agreements may not flow; nothing was changed:", findings)
    return views


def _moved(agreement: Agreement, view: View, before: Published) -> Iterator[str]:
    """Why an agreement may not drive from another dataset: its inbox has the keys and partitions of the first."""
    earlier = before.agreements.get(agreement.id)
    was = None if earlier is None else examine(earlier, before.catalogue)
    if isinstance(was, View) and was.driving != view.driving:
        mend = f"keep it in FROM, or give the one over {view.driving} another id"
        yield f"{agreement.id}: select: its driving dataset is {was.driving}; {mend}"


def _prepare(endpoints: Endpoints, secrets: SecretStore, registry: Registry, view: View, catalogue: Catalogue) -> None:
    """The key, the schema, then the topic and the right to read it."""
    secrets.ensure(agreement_secret(view.agreement))
    subject = value_subject(view.topic)
    registry.register(subject, view.output)
    registry.set_compatibility(subject)
    partitions = catalogue.datasets[view.driving].partitions
    activate_inbox(endpoints, secrets, view.subscriber, view.agreement, partitions)
