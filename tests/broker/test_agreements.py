"""An agreement's life on a real broker and registry: applied, applied again, changed, revoked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from typer.testing import CliRunner

from civicbus.cli.activation import activate, published, revoke
from civicbus.cli.agreements import app
from civicbus.cli.applying import apply_catalogue
from civicbus.cli.context import Context
from civicbus.errors import AccessDenied, CheckFailed, ConfigurationError
from civicbus.names import AgreementId, DatasetId, value_subject
from civicbus.schemas.agreement import Agreement, Consent
from civicbus.schemas.datasets import Catalogue, Department
from civicbus.schemas.registry import Registry
from civicbus.secrets import VIEWS, agreement_secret
from civicbus.settings import Settings
from support.attempts import VALUE, Librdkafka
from support.platform import Member, Platform, unique
from support.samples import TITLE, agreement, permits


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Two departments, a dataset of the first, and an agreement for the second."""

    platform: Platform
    owner: Member
    subscriber: Member
    agreement: Agreement

    def apply(self, *agreements: Agreement) -> tuple[AgreementId, ...]:
        """Which agreements were published."""
        done = activate(self.platform.endpoints, self.platform.secrets, agreements or (self.agreement,))
        return (*done.new, *done.changed)

    def published(self) -> Agreement | None:
        return published(self.platform.endpoints, self.platform.secrets).agreements.get(self.agreement.id)

    def read(self, member: Member) -> bytes:
        client = Librdkafka(self.platform.endpoints, member.credentials)
        return client.read(self.agreement.topic, f"{member.id}.reader")

    def command(self, *words: str) -> str:
        context = Context(Settings(home=self.platform.home))
        result = CliRunner().invoke(app, list(words), obj=context, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout


@pytest.fixture
def town(platform: Platform, new_department: Callable[[str], Member]) -> Town:
    owner, subscriber = new_department("owner"), new_department("reader")
    dataset = replace(permits(), id=DatasetId(owner.id, "permits"))
    departments = {one.id: Department(id=one.id, title=TITLE, code=one.id) for one in (owner, subscriber)}
    apply_catalogue(
        platform.endpoints, platform.secrets, Catalogue(departments=departments, datasets={dataset.id: dataset})
    )
    first = agreement(unique("agreed"), f"SELECT permit_no, status FROM {dataset.id} WHERE score > 3")
    consent = Consent(department=owner.id, by="the head", date=first.valid_from)
    mine = replace(first, subscriber=subscriber.id, owner_consents=(consent,))
    return Town(platform=platform, owner=owner, subscriber=subscriber, agreement=mine)


def test_an_applied_agreement_has_its_inbox_its_schema_its_key_and_its_document(town: Town) -> None:
    assert town.apply() == (town.agreement.id,)
    Librdkafka(town.platform.endpoints, town.platform.secrets.read(VIEWS)).write(town.agreement.topic)
    assert town.read(town.subscriber) == VALUE
    with pytest.raises(AccessDenied):
        town.read(town.owner)
    with Registry(town.platform.endpoints.registry_url) as registry:
        schema_id = registry.latest(value_subject(town.agreement.topic))
        assert schema_id is not None
        assert registry.schema(schema_id).field_names == ("permit_no", "status")
    assert town.platform.secrets.read(agreement_secret(town.agreement.id)).password
    assert town.published() == town.agreement


def test_applying_again_changes_nothing_and_a_new_select_is_published(town: Town) -> None:
    town.apply()
    secret = town.platform.secrets.read(agreement_secret(town.agreement.id)).password
    assert town.apply() == ()
    wider = replace(town.agreement, select=town.agreement.select.replace("status", "status, phone"))
    assert town.apply(wider) == (wider.id,)
    assert town.published() == wider
    assert town.platform.secrets.read(agreement_secret(wider.id)).password == secret


def test_one_wrong_agreement_keeps_all_of_them_back(town: Town) -> None:
    wrong = replace(
        town.agreement, id=AgreementId(unique("wrong")), select=town.agreement.select.replace("score", "scoer")
    )
    with pytest.raises(CheckFailed, match=r"select 1:\d+: there is no column scoer; write score"):
        town.apply(town.agreement, wrong)
    assert town.published() is None


def test_an_agreement_in_force_does_not_change_its_subscriber(town: Town) -> None:
    town.apply()
    with pytest.raises(CheckFailed, match="subscribes to it already; revoke it first"):
        town.apply(replace(town.agreement, subscriber=town.owner.id))


def test_a_revoked_agreement_is_unreadable_and_unpublished_and_may_come_back(town: Town) -> None:
    town.apply()
    Librdkafka(town.platform.endpoints, town.platform.secrets.read(VIEWS)).write(town.agreement.topic)
    revoke(town.platform.home, town.platform.endpoints, town.platform.secrets, town.agreement.id)
    assert town.published() is None
    with pytest.raises(AccessDenied):
        town.read(town.subscriber)
    with pytest.raises(ConfigurationError, match="no agreement "):
        revoke(town.platform.home, town.platform.endpoints, town.platform.secrets, town.agreement.id)
    assert town.apply() == (town.agreement.id,)
    assert town.read(town.subscriber) == VALUE


def test_the_commands_say_what_flows_and_where_each_column_comes_from(town: Town) -> None:
    town.apply()
    listed = json.loads(town.command("list", "--json"))
    assert [one["topic"] for one in listed if one["id"] == town.agreement.id] == [town.agreement.topic]
    shown = json.loads(town.command("show", town.agreement.id, "--json"))
    uses = {(link["field"], link["use"], link["column"]) for link in shown["lineage"]}
    assert uses == {("permit_no", "shows", "permit_no"), ("status", "shows", "status"), ("score", "filters", "")}
    assert f"{town.owner.id}.permits.score filters the rows" in town.command("show", town.agreement.id)
    assert "may no longer read" in town.command("revoke", town.agreement.id)
