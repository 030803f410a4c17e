"""Random histories of a city: whatever comes, changes, moves and dies, every inbox ends as its SELECT."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, seed, settings

from support.city import City, History, live
from support.histories import histories
from support.promises import check_promises

EXAMPLES = int(os.environ.get("CIVICBUS_TEST_EXAMPLES", "120"))
SEED = int(os.environ.get("CIVICBUS_TEST_SEED", "0"))


def city(history: History) -> City:
    return City(agreements=dict(history.agreements), admitted=history.admitted)


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories())
def test_whatever_comes_changes_moves_and_dies_when_every_promise_holds(history: History) -> None:
    check_promises(live(history, city))
