"""When positions are of no use, and how long to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from civicbus.consumers.positions import LONGEST_ABSENCE, State, Stored, why_start_over
from civicbus.names import Topic
from civicbus.retry import LONGEST_S, delay_s
from civicbus.transport.assigned import TopicId, TopicIdentity

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BOUNDS = {0: range(5, 101), 1: range(101)}


def stored(topic_id: str = "A", away: timedelta = timedelta(), positions: dict[int, int] | None = None) -> Stored:
    return Stored(
        topic=Topic("inbox.health.permits"),
        topic_id=TopicId(topic_id),
        generation=1,
        state=State.CURRENT,
        columns=("a",),
        caught_up_at=NOW - away,
        positions={0: 50, 1: 100} if positions is None else positions,
    )


@pytest.mark.parametrize(
    "good",
    [stored(), stored(away=LONGEST_ABSENCE), stored(positions={0: 5, 1: 0}), stored(positions={0: 100, 1: 100})],
)
def test_positions_that_can_be_read_on_from_are_kept(good: Stored) -> None:
    assert why_start_over(good, NOW, TopicIdentity(TopicId("A"), 2), BOUNDS) is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (stored("B"), "made again"),
        (stored(positions={0: 50}), "number of partitions"),
        (stored(positions={0: 50, 1: 5, 2: 0}), "number of partitions"),
        (stored(positions={0: 4, 1: 5}), "no longer has"),
        (stored(positions={0: 50, 1: 101}), "no longer has"),
        (stored(away=LONGEST_ABSENCE + timedelta(seconds=1)), "longer than deletions"),
    ],
)
def test_positions_that_cannot_be_read_on_from_mean_the_start(bad: Stored, why: str) -> None:
    assert why in (why_start_over(bad, NOW, TopicIdentity(TopicId("A"), 2), BOUNDS) or "")


def test_waits_grow_to_a_limit_and_are_spread() -> None:
    assert [delay_s(n, 0.999999) for n in range(4)] == pytest.approx([0.2, 0.4, 0.8, 1.6], rel=1e-3)
    assert delay_s(1000, 0.999999) == pytest.approx(LONGEST_S)
    assert delay_s(3, 0.0) == pytest.approx(delay_s(3, 0.999999) / 2, rel=1e-3)
