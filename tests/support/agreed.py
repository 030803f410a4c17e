"""Agreements of a test's own subscriber, and the proof of their inboxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from civicbus.cli.activation import published
from civicbus.cli.applying import apply_catalogue
from civicbus.cli.demo.proof import Expected, difference, expected, latest, repeats, rows_of, unread
from civicbus.infra.provision import provision_department
from civicbus.names import AgreementId, DatasetId, DepartmentId
from civicbus.schemas.agreement import Agreement, Consent, Delivery, KeyMode
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Catalogue, Department
from civicbus.schemas.registry import Registry
from support.platform import Platform, unique
from support.samples import TITLE
from support.stages import wait_for

SETTLES_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxProof:
    """What was found of one inbox. ``older``: how many rows showed an older version after a newer one."""

    agreement: AgreementId
    expected_rows: int
    inbox_rows: int
    repeats: int
    older: int
    difference: str | None

    @property
    def holds(self) -> bool:
        return self.difference is None and self.repeats == 0 and self.older == 0


def new_subscriber(platform: Platform) -> DepartmentId:
    """A department that owns nothing, in the catalogue."""
    subscriber = DepartmentId(unique("reader"))
    provision_department(platform.endpoints, platform.secrets, subscriber)
    department = Department(id=subscriber, title=TITLE, code=subscriber)
    apply_catalogue(platform.endpoints, platform.secrets, Catalogue(departments={subscriber: department}, datasets={}))
    return subscriber


def agreed(
    stem: str,
    select: str,
    *,
    subscriber: DepartmentId,
    owners: Sequence[DepartmentId],
    key: KeyMode = KeyMode.RECORD,
    table: bool = False,
) -> Agreement:
    """An agreement to which the owners consent, under a name of its own."""
    return Agreement(
        id=AgreementId(unique(stem)),
        subscriber=subscriber,
        purpose=TITLE,
        legal_basis="a law",
        owner_consents=tuple(Consent(department=owner, by="the head", date=date(2026, 1, 1)) for owner in owners),
        valid_from=date(2026, 1, 1),
        valid_until=date(2036, 1, 1),
        delivery=Delivery(table=table),
        key=key,
        select=select,
    )


def inbox_proofs(platform: Platform, agreements: Sequence[Agreement]) -> list[InboxProof]:
    """One proof for each agreement: its inbox's rows against its SELECT, run by DuckDB over the records."""
    catalogue = published(platform.endpoints, platform.secrets).catalogue
    found = expected(platform.endpoints, platform.secrets, catalogue, agreements, lambda _: None)
    with Registry(platform.endpoints.registry_url) as registry:
        return [_proof(each, registry) for each in found]


def settled(platform: Platform, datasets: Sequence[DatasetId], agreements: Sequence[Agreement]) -> list[InboxProof]:
    """The proofs once all of them hold, or as they stand after too long."""

    def decided() -> bool | None:
        return unread(platform.endpoints, platform.secrets, datasets) == 0 or None

    proofs: list[InboxProof] = []

    def proven() -> bool | None:
        proofs[:] = inbox_proofs(platform, agreements)
        return all(proof.difference is None for proof in proofs) or None

    wait_for("admission to decide on everything", decided, SETTLES_WITHIN_S)
    try:
        wait_for("the inboxes to be equal", proven, SETTLES_WITHIN_S)
    except AssertionError:
        assert proofs  # the caller says what differs
    return proofs


def check(proofs: Sequence[InboxProof]) -> None:
    failed = [str(proof) for proof in proofs if not proof.holds]
    assert not failed, "\n".join(failed)
    assert all(proof.inbox_rows == proof.expected_rows > 0 for proof in proofs)


def _proof(each: Expected, registry: Registry) -> InboxProof:
    state = latest(each.inbox)
    return InboxProof(
        agreement=each.agreement.id,
        expected_rows=each.rows.num_rows,
        inbox_rows=len(state),
        repeats=repeats(each.inbox),
        older=_older(each, registry),
        difference=difference(each.rows, rows_of(each.view.output, state, registry)),
    )


def _older(each: Expected, registry: Registry) -> int:
    """How often ``version``, or ``<joined>_version`` of the same ``<joined>_code``, fell under a key of the inbox."""
    codecs: dict[int, RowCodec] = {}
    newest: dict[tuple[bytes | None, str, object], int] = {}
    older = 0
    for record in each.inbox:
        if record.value is None:
            continue
        schema_id, body = unframe(record.value)
        if schema_id not in codecs:
            codecs[schema_id] = RowCodec(registry.schema(schema_id))
        row = codecs[schema_id].decode(body)
        for column, version in row.items():
            if column.endswith("version") and isinstance(version, int):
                place = (record.key, column, row.get(column.replace("version", "code")))
                older += version < newest.get(place, version)
                newest[place] = version
    return older
