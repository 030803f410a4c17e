"""Random histories of a city: whatever comes, changes, moves and dies, every inbox ends as its SELECT.

``support.city`` says what happens, ``support.promises`` what is promised; ``test_broken_engines_are_caught`` shows that
these histories find what is wrong. CIVICBUS_TEST_SEED and CIVICBUS_TEST_EXAMPLES choose others, and more of them.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from civicbus.stream_apps.views import joined, source
from support.city import City, History, live
from support.histories import admitted_histories, histories, moving_histories
from support.promises import check_promises

EXAMPLES = int(os.environ.get("CIVICBUS_TEST_EXAMPLES", "120"))
SEED = int(os.environ.get("CIVICBUS_TEST_SEED", "0"))


def city(history: History) -> City:
    return City(agreements=dict(history.agreements), admitted=history.admitted)


@pytest.mark.parametrize(
    ("found", "share"),
    [
        pytest.param(histories(), 2, id="everything happens"),
        pytest.param(moving_histories(), 3, id="partitions move"),
        pytest.param(admitted_histories(), 6, id="admission dies"),
    ],
)
def test_every_inbox_is_its_select_and_nothing_comes_twice_or_goes_back(
    found: st.SearchStrategy[History], share: int
) -> None:
    @seed(SEED)
    @settings(max_examples=EXAMPLES // share, deadline=None, suppress_health_check=list(HealthCheck))
    @given(found)
    def lived(history: History) -> None:
        check_promises(live(history, city))

    lived()


@pytest.mark.parametrize(("lot", "result"), [(1, 2**20), (100, 2**20), (2**20, 1)])
def test_so_it_is_where_few_bytes_are_worked_on_at_once(lot: int, result: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LOT_BYTES", lot)
    monkeypatch.setattr(source, "RESULT_BYTES", result)
    monkeypatch.setattr(joined, "_DECODED_BYTES", lot)

    @seed(SEED)
    @settings(max_examples=EXAMPLES // 6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(histories())
    def lived(history: History) -> None:
        check_promises(live(history, city))

    lived()
