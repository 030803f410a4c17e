"""What department staff read, from the message catalogue in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

import yaml

from civicbus.producers.folder.place import Language

Texts = Mapping[str, Mapping[str, Mapping[str, str]]]


@cache
def catalogue() -> Texts:
    """Section, key, language: the text."""
    text = resources.files(__package__).joinpath("messages.yaml").read_text(encoding="utf-8")
    loaded: Texts = yaml.safe_load(text)
    return loaded


def say(language: Language, section: str, key: str, /, **values: str | int) -> str:
    """One text with its values filled in."""
    return catalogue()[section][key][language.value].format(**values)
