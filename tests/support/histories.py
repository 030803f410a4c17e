"""Random histories of a city."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from civicbus.names import DatasetId
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
from support.selects import ENTERPRISES, PEOPLE, PERMITS, SITES, Joined, Wish, wishes
from support.simulation import Death

VIEWS = st.sampled_from(["first", "second"])
NAMES = st.sampled_from(["one", "two"])
MOSTLY = (PERMITS, PERMITS, ENTERPRISES, ENTERPRISES, PEOPLE, SITES)
DEATHS = st.sampled_from([*[None] * 24, *Death])


def weighted(choices: dict[st.SearchStrategy[Action], int]) -> st.SearchStrategy[Action]:
    """One of these, each as often as its number says; ``one_of`` would take its choices' choices apart."""
    tickets = [choice for choice, count in choices.items() for _ in range(count)]
    return st.integers(0, len(tickets) - 1).flatmap(tickets.__getitem__)


def publishes(datasets: Sequence[DatasetId] = MOSTLY) -> st.SearchStrategy[Publish]:
    """Most changes are newer than what was before; some come again or late."""
    return st.builds(
        Publish,
        dataset=st.sampled_from(datasets),
        record=st.integers(0, 2),
        picks=st.tuples(*[st.integers(0, 3)] * 6),
        text=st.sampled_from(["u", "w", None]),
        deletion=st.sampled_from([False, False, False, True]),
        older=st.sampled_from([0, 0, 0, 0, 1, 2]),
        schema=st.sampled_from([0, 1]),
    )


def founding(there: Sequence[bool] = (True, True, True, False)) -> st.SearchStrategy[list[Action]]:
    """Most records are there once, and name others that may not be there yet."""
    picks = st.tuples(*[st.integers(1, 3)] * 6)
    first = [
        st.builds(Publish, st.just(name), st.just(record), picks, st.sampled_from(["u", "w"]))
        for name, keys in RECORDS.items()
        for record in range(len(keys))
    ]
    return st.tuples(*(st.tuples(st.sampled_from(there), each) for each in first)).map(
        lambda found: [publish for is_there, publish in found if is_there]
    )


def turns(
    workers: st.SearchStrategy[str] = VIEWS, deaths: st.SearchStrategy[Death | None] = DEATHS
) -> st.SearchStrategy[Turn]:
    few = st.integers(0, 6)
    return st.builds(
        Turn, worker=workers, limit=st.integers(1, 6), outputs=st.integers(1, 8), followed=few, death=deaths
    )


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


def successions() -> st.SearchStrategy[list[Action]]:
    """An owner dies with a transaction that nobody has decided, its successor writes behind it, and starts again."""

    def succession(dead: str, changes: list[Publish], limits: int) -> list[Action]:
        heir = "second" if dead == "first" else "first"
        turn = Turn(heir, limits, 8, 6)
        dies = [changes[0], Turn(dead, 6, 8, 6, Death.WRITTEN), HandOver((), unaware=dead)]
        return [*dies, turn, turn, *changes[1:], turn, turn, Crash(heir), turn, turn]

    changes = st.lists(publishes((PERMITS, PERMITS, ENTERPRISES)), min_size=2, max_size=4)
    return st.builds(succession, VIEWS, changes, st.integers(1, 6))


def hand_overs_to_the_late() -> st.SearchStrategy[list[Action]]:
    """Partitions go to a worker that knows less of the joined records than the one before."""

    def late(giver: str, changes: list[Publish]) -> list[Action]:
        heir = "second" if giver == "first" else "first"
        everything = HandOver((0, 1) if heir == "first" else ())
        return [*changes, Turn(giver, 6, 8, 6), Turn(giver, 6, 8, 6), everything, *[Turn(heir, 6, 8, 0)] * 3]

    return st.builds(late, VIEWS, st.lists(publishes((ENTERPRISES,)), min_size=1, max_size=3))


def owners_unaware() -> st.SearchStrategy[list[Action]]:
    """A worker goes on with what it lost while only joined records change."""

    def unaware(lost: str, changes: list[Publish]) -> list[Action]:
        heir = "second" if lost == "first" else "first"
        turn = Turn(heir, 6, 8, 6)
        return [HandOver((), unaware=lost), turn, turn, *changes, turn, turn, *[Turn(lost, 6, 8, 6)] * 2]

    return st.builds(unaware, VIEWS, st.lists(publishes((ENTERPRISES,)), min_size=1, max_size=3))


def admitted_histories() -> st.SearchStrategy[History]:
    """Changes go through admission, which dies at every point of a transaction."""
    deaths = turns(st.just("admission"), st.sampled_from([None, *Death]))
    happens = weighted({publishes(): 6, deaths: 4, turns(): 4})
    return st.builds(
        History,
        agreements=st.fixed_dictionaries({"one": wishes()}),
        actions=st.tuples(founding(), st.lists(happens, min_size=20, max_size=60)).map(flat),
        admitted=st.just(True),
    )


def moving_histories() -> st.SearchStrategy[History]:
    """One agreement stays; partitions move, owners die or do not know what they lost, joined records change."""
    enterprise, parent = (
        Joined(source, (name,), ENTERPRISES, left=True) for source, name in enumerate(("enterprise", "parent"))
    )
    joins = st.sampled_from([(enterprise,), (enterprise, parent)])
    wish = st.builds(Wish, st.just(PERMITS), joins, st.just(""), st.booleans())
    happens = weighted({publishes((PERMITS, ENTERPRISES, ENTERPRISES)): 8, turns(deaths=st.none()): 12})
    single = st.one_of(hand_overs(), st.builds(Crash, VIEWS), st.builds(Compact, st.sampled_from(["records", "inbox"])))
    moved = st.one_of(
        st.lists(single, min_size=1, max_size=1), successions(), hand_overs_to_the_late(), owners_unaware()
    )
    rounds = st.lists(st.builds(operator.add, st.lists(happens, min_size=4, max_size=12), moved), max_size=6).map(flat)
    calm = st.lists(happens, min_size=10, max_size=40)
    return st.builds(
        History,
        agreements=st.fixed_dictionaries({"one": wish}),
        actions=st.tuples(founding((True, False)), rounds, calm).map(flat),
    )


def flat(parts: Iterable[list[Action]]) -> list[Action]:
    return [action for part in parts for action in part]
