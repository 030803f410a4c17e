"""Writes the pages of this folder that are made from the code: commands, refusals, view-language. Run by ``make docs``.

A test holds the pages equal to what this gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup

from civicbus.cli.main import app
from civicbus.reasons import MEANINGS, MENDS, Reason
from civicbus.schemas.sql import manual

FOLDER = Path(__file__).parent
GENERATED = "<!-- Written by `make docs`; change the code that it is made from. -->"


def pages() -> dict[str, str]:
    """The text of each generated page, by its file's name."""
    return {
        "commands.md": "\n".join([GENERATED, *_commands()]) + "\n",
        "refusals.md": "\n".join([GENERATED, *_refusals()]) + "\n",
        "view-language.md": f"{GENERATED}\n{manual.text()}\n",
    }


def commands() -> Iterator[typer.Context]:
    """The context of every command and group, the whole tree, in the order of the help."""
    root = typer.main.get_command(app)
    yield from _below(typer.Context(root, info_name="civicbus"))


def _below(context: typer.Context) -> Iterator[typer.Context]:
    yield context
    command = context.command
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _below(typer.Context(below, info_name=name, parent=context))


def _commands() -> Iterator[str]:
    found = list(commands())
    yield from (
        "# Commands",
        "",
        "`civicbus --help` and `civicbus COMMAND --help` say the same. A fault is one message on standard error, with",
        "what to do about it, and exit status 1.",
        "",
        "| command | |",
        "|---|---|",
    )
    yield from (f"| [`{c.command_path}`](#{_anchor(c)}) | {_first_line(c)} |" for c in found if _runs(c))
    for context in found:
        yield from _section(context)


def _section(context: typer.Context) -> Iterator[str]:
    command = context.command
    yield from ("", f"## {context.command_path}", "", command.help or "")
    if _runs(context):
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield from ("", "```", usage, "```")
    records = [parameter.get_help_record(context) for parameter in command.params]
    if any(records):
        yield ""
    yield from (
        f"- `{name}`: {_escaped(text.removesuffix('[required]').strip())}" for name, text in filter(None, records)
    )


def _refusals() -> Iterator[str]:
    yield from (
        "# Refusals",
        "",
        "A change that may not enter the bus is parked on its dataset's quarantine topic, with its bytes and one of",
        "these codes; other changes go on. Only the owner and the operator can read it. The code also stands in",
        "`civicbus_refused_total{reason=…}`. `civicbus quarantine list` shows what is parked.",
        "",
        "| code | what was found | what to do |",
        "|---|---|---|",
    )
    yield from (f"| `{reason}` | {_escaped(MEANINGS[reason])} | {_escaped(MENDS[reason])} |" for reason in Reason)


def _runs(context: typer.Context) -> bool:
    return not isinstance(context.command, TyperGroup)


def _first_line(context: typer.Context) -> str:
    return (context.command.help or "").split("\n\n")[0].replace("\n", " ")


def _escaped(text: str) -> str:
    """Markdown would take ``<home>`` for HTML and hide it."""
    return text.replace("<", "&lt;")


def _anchor(context: typer.Context) -> str:
    return context.command_path.replace(" ", "-")


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
