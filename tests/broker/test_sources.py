"""One source for each dataset, on a real broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from civicbus.errors import ConfigurationError
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
