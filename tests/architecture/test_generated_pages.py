"""The pages that are made from the code are current, and the code says enough to make them."""

from __future__ import annotations

import re
import runpy

import pytest
import typer

from civicbus.reasons import MEANINGS, MENDS, Reason
from support.project import ROOT, sources

GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
COMMANDS: list[typer.Context] = list(GENERATE["commands"]())


@pytest.mark.parametrize("page", GENERATE["pages"]().items(), ids=lambda page: page[0])
def test_a_page_is_what_the_code_says(page: tuple[str, str]) -> None:
    name, text = page
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, "run `make docs`"


@pytest.mark.parametrize("context", COMMANDS, ids=lambda context: context.command_path)
def test_a_command_and_each_of_its_options_says_what_it_does(context: typer.Context) -> None:
    command = context.command
    assert re.match(r"[A-Z].{15,}", command.help or ""), f"{context.command_path} has no help"
    assert [parameter.name for parameter in command.params if not parameter.help] == []


def test_every_command_stands_on_the_page() -> None:
    headings = re.findall(r"^## (civicbus.*)$", GENERATE["pages"]()["commands.md"], re.MULTILINE)
    assert headings == [context.command_path for context in COMMANDS]
    assert len(headings) > 20


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_has_its_meaning_and_its_mend(reason: Reason) -> None:
    assert re.fullmatch(r"[A-Za-z].+\.", MEANINGS[reason])
    assert re.fullmatch(r"[A-Z].+\.", MENDS[reason])


def test_every_refusal_is_given_by_somebody() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources() if path.name != "reasons.py")
    assert [reason for reason in Reason if f"Reason.{reason.name}" not in text] == []
