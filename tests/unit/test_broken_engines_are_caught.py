"""The oracle finds what is wrong: engines with one mistake each break a promise within a few random histories."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from support.broken import MISTAKES
from support.city import City, History, Unfulfilled, live
from support.histories import admitted_histories, histories, moving_histories
from support.promises import check_promises

SEED = int(os.environ.get("CIVICBUS_TEST_SEED", "0"))
MOST_HISTORIES = 400
# Where each mistake shows; the others while partitions move.
WHERE = {
    "offsets committed first": admitted_histories(),
    "a changed SELECT for changed rows only": histories(),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_broken_engine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake = MISTAKES[name]
    for owner, attribute, wrong in mistake.patches:
        monkeypatch.setattr(owner, attribute, wrong)

    def city(history: History) -> City:
        return City(loop=mistake.loop, agreements=dict(history.agreements), admitted=history.admitted)

    # A worker that writes for a partition which is not its own does not know the partition's offset.
    with pytest.raises((Unfulfilled, KeyError)):
        search(WHERE.get(name, moving_histories()), lambda history: check_promises(live(history, city)))


def search(found: st.SearchStrategy[History], check) -> None:
    """Raise what the first history raises that breaks a promise; it is not made smaller."""

    @seed(SEED)
    @settings(
        max_examples=MOST_HISTORIES,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(found)
    def lived(history: History) -> None:
        check(history)

    lived()
