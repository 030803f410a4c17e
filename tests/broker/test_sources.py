"""One source for each dataset, on a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.errors import ConfigurationError, Unavailable
from civicbus.producers import sources
from civicbus.producers.publisher import Publisher
from civicbus.producers.sources import (
    FIRST_EPOCH,
    Claim,
    Way,
    claim,
    claim_of,
    raise_epoch,
    release,
    sequence_of,
)
from civicbus.secrets import Credentials
from support.changes import Owned, own
from support.platform import Member, Platform
from support.samples import permits


@pytest.fixture
def owned(platform: Platform, new_department: Callable[[str], Member]) -> Owned:
    return own(platform, new_department("sources"), permits())


PERMIT = {"permit_no": "A", "status": "new", "score": None, "phone": None}


def test_a_dataset_is_held_by_one_way_until_it_is_released(platform, operator: Credentials, owned):
    who = (platform.endpoints, operator, owned.dataset.id)
    assert claim_of(*who) is None
    held = claim(*who, Way.OUTBOX)
    assert held == claim(*who, Way.OUTBOX) == Claim(way=Way.OUTBOX, epoch=FIRST_EPOCH)
    assert claim_of(platform.endpoints, owned.member.credentials, owned.dataset.id) == held
    with pytest.raises(ConfigurationError, match=r"published by its outbox.*source release"):
        claim(*who, Way.CAPTURE)
    release(*who)
    assert claim(*who, Way.CAPTURE).epoch > FIRST_EPOCH


def test_of_two_commands_at_the_same_instant_one_is_told_to_try_again(platform, operator, owned, monkeypatch):
    who = (platform.endpoints, operator, owned.dataset.id)
    look = sources.claim_of

    def look_slowly(*asked: object) -> Claim | None:
        """What the first command sees; the second is done before it writes."""
        seen = look(*asked)
        monkeypatch.setattr(sources, "claim_of", look)
        claim(*who, Way.CAPTURE)
        return seen

    monkeypatch.setattr(sources, "claim_of", look_slowly)
    with pytest.raises(Unavailable, match="somebody else changed a claim"):
        claim(*who, Way.OUTBOX)
    assert claim_of(*who).way is Way.CAPTURE


def test_who_numbers_by_the_clock_is_refused_while_a_log_holds_the_dataset_and_is_above_it_afterwards(
    platform, operator: Credentials, owned
):
    who = (platform.endpoints, operator, owned.dataset.id)
    with Publisher.at(platform.home, owned.dataset) as publisher:
        before = publisher.upsert(PERMIT).sequence
    held = claim(*who, Way.OUTBOX)
    assert before is not None
    assert before < sequence_of(held.epoch, 0)
    with pytest.raises(ConfigurationError, match="published by its outbox"):
        Publisher.at(platform.home, owned.dataset)
    release(*who)
    with Publisher.at(platform.home, owned.dataset) as publisher:
        after = publisher.upsert(PERMIT).sequence
    assert after is not None
    assert after > sequence_of(held.epoch, 2**56 - 1)


def test_a_raised_epoch_is_above_the_one_before_and_there_is_none_without_a_log(platform, operator, owned):
    who = (platform.endpoints, operator, owned.dataset.id)
    with pytest.raises(ConfigurationError, match="no log numbers"):
        raise_epoch(*who)
    held = claim(*who, Way.OUTBOX)
    assert raise_epoch(*who) == Claim(way=Way.OUTBOX, epoch=held.epoch + 1)


def test_the_commands_show_raise_and_release_a_claim(platform, operator, owned):
    def civicbus(*words: str) -> str:
        result = CliRunner().invoke(app, ["--home", str(platform.home), "source", *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    name = str(owned.dataset.id)
    held = claim(platform.endpoints, operator, owned.dataset.id, Way.CAPTURE)
    assert {"dataset": name, "way": "capture", "epoch": held.epoch} in json.loads(civicbus("list", "--json"))
    assert f"epoch {held.epoch + 1} from now on" in civicbus("epoch", name)
    civicbus("release", name)
    assert {"dataset": name, "way": "table", "epoch": held.epoch + 2} in json.loads(civicbus("list", "--json"))


def test_a_database_without_an_outbox_is_told_how_to_get_one(platform, owned):
    with pytest.raises(ConfigurationError, match=r"has no outbox.*civicbus outbox sql"):
        CliRunner().invoke(
            app, ["--home", str(platform.home), "outbox", "add", owned.member.id], catch_exceptions=False
        )
