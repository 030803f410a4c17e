"""Random histories of a city."""

from __future__ import annotations

import operator

from hypothesis import strategies as st

from support.city import (
    RECORDS,
    Action,
    Agree,
    Compact,
    Crash,
    HandOver,
    History,
    Publish,
    Registry,
    TimeOut,
    Turn,
    Upgrade,
)
from support.selects import ENTERPRISES, PEOPLE, PERMITS, SITES, wishes
from support.simulation import Death

VIEWS = st.sampled_from(["first", "second"])
NAMES = st.sampled_from(["one", "two"])
DEATHS = st.sampled_from([*[None] * 24, *Death])


def weighted(choices: dict[st.SearchStrategy[Action], int]) -> st.SearchStrategy[Action]:
    """One of these, each as often as its number says; ``one_of`` would take its choices' choices apart."""
    tickets = [choice for choice, count in choices.items() for _ in range(count)]
    return st.integers(0, len(tickets) - 1).flatmap(tickets.__getitem__)


def publishes() -> st.SearchStrategy[Publish]:
    """Most changes are newer than what was before; some come again or late."""
    return st.builds(
        Publish,
        dataset=st.sampled_from([PERMITS, PERMITS, ENTERPRISES, ENTERPRISES, PEOPLE, SITES]),
        record=st.integers(0, 2),
        picks=st.tuples(*[st.integers(0, 3)] * 6),
        text=st.sampled_from(["u", "w", None]),
        deletion=st.sampled_from([False, False, False, True]),
        older=st.sampled_from([0, 0, 0, 0, 1, 2]),
        schema=st.sampled_from([0, 1]),
    )


def founding() -> st.SearchStrategy[list[Publish]]:
    """Every record is there once, and names others."""
    picks = st.tuples(*[st.integers(1, 3)] * 6)
    first = [
        st.builds(Publish, st.just(name), st.just(record), picks, st.sampled_from(["u", "w"]))
        for name, keys in RECORDS.items()
        for record in range(len(keys))
    ]
    return st.tuples(*first).map(list)


def turns(workers: st.SearchStrategy[str] = VIEWS) -> st.SearchStrategy[Turn]:
    return st.builds(Turn, worker=workers, limit=st.integers(1, 6), beside=st.integers(0, 8), death=DEATHS)


def hand_overs() -> st.SearchStrategy[HandOver]:
    numbers = st.sampled_from([(), (0,), (1,), (0, 1)])
    return st.one_of(
        st.builds(HandOver, numbers), st.builds(HandOver, st.just(()), unaware=st.sampled_from(["first", "second"]))
    )


def mishaps() -> st.SearchStrategy[Action]:
    return st.one_of(
        st.builds(Crash, VIEWS),
        st.builds(Compact, st.sampled_from(["records", "inbox"])),
        hand_overs(),
        st.builds(TimeOut),
        st.builds(Registry, st.sampled_from([True, True, False])),
        st.builds(Upgrade),
    )


def agreements() -> st.SearchStrategy[Agree]:
    return st.builds(Agree, NAMES, st.one_of(wishes(), wishes(), st.none()))


def histories() -> st.SearchStrategy[History]:
    """Histories in which everything happens."""
    workers = st.sampled_from(["first", "second", "first", "second", "admission"])
    happens = weighted({publishes(): 8, turns(workers): 12, mishaps(): 3, agreements(): 1})
    return st.builds(
        History,
        agreements=st.fixed_dictionaries({"one": wishes()}, optional={"two": wishes()}),
        actions=st.builds(operator.add, founding(), st.lists(happens, min_size=30, max_size=100)),
        admitted=st.sampled_from([False, False, True]),
    )
