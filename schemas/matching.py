"""Texts that match a pattern: for generated records. Pure, and made anew at each step of the same chance.

Python reads the pattern; what it has and a catalogue's patterns have not (look-around, back-references) is not made.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from re import _parser as parser  # type: ignore[attr-defined]  # how Python reads a pattern has no public name

_LONGER = 6
_CHARACTERS = string.ascii_letters + string.digits
_CATEGORIES: Mapping[str, str] = {
    "CATEGORY_DIGIT": string.digits,
    "CATEGORY_WORD": _CHARACTERS + "_",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": string.ascii_letters,
    "CATEGORY_NOT_WORD": " ",
    "CATEGORY_NOT_SPACE": _CHARACTERS,
}


def matching(pattern: str, chance: random.Random) -> Iterator[str]:
    """Texts without end; none where no text can be made of this pattern."""
    try:
        parsed = parser.parse(pattern)
        while True:
            text = _sequence(parsed, chance)
            if re.fullmatch(pattern, text):
                yield text
    except (re.error, KeyError, IndexError):
        return


def _sequence(steps: Iterable[tuple[object, object]], chance: random.Random) -> str:
    return "".join(_STEPS[str(kind)](found, chance) for kind, found in steps)


def _any(_: object, chance: random.Random) -> str:
    return chance.choice(_CHARACTERS)


def _other_than(code: int, chance: random.Random) -> str:
    return chance.choice(_CHARACTERS.replace(chr(code), ""))


def _one_of(members: list[tuple[object, object]], chance: random.Random) -> str:
    if str(members[0][0]) == "NEGATE":
        unwanted = "".join(map(_characters, members[1:]))
        return chance.choice([each for each in _CHARACTERS + " -_.,:/" if each not in unwanted])
    return chance.choice("".join(map(_characters, members)))


def _characters(member: tuple[object, object]) -> str:
    match str(member[0]), member[1]:
        case "LITERAL", int(code):
            return chr(code)
        case "RANGE", (int(first), int(last)):
            return "".join(map(chr, range(first, min(last, first + 999) + 1)))
        case _, category:
            return _CATEGORIES[str(category)]


def _repeated(found: tuple[int, int, Iterable[tuple[object, object]]], chance: random.Random) -> str:
    least, most, steps = found
    times = chance.randint(least, min(most, least + _LONGER))
    return "".join(_sequence(steps, chance) for _ in range(times))


_STEPS: Mapping[str, Callable[..., str]] = {
    "LITERAL": lambda code, _: chr(code),
    "NOT_LITERAL": _other_than,
    "ANY": _any,
    "AT": lambda _, __: "",
    "IN": _one_of,
    "BRANCH": lambda found, chance: _sequence(chance.choice(found[1]), chance),
    "SUBPATTERN": lambda found, chance: _sequence(found[-1], chance),
    "MAX_REPEAT": _repeated,
    "MIN_REPEAT": _repeated,
}
