"""Reads the YAML documents that people write, and says where in a file a fault lies.

Untrusted input: size, depth and aliases are bounded before anything is built, and a key given twice is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import ValidationError

Location = tuple[str | int, ...]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault in a document: the file, the line where it is known, the place inside, and the mend."""

    file: str
    line: int | None = None
    location: Location = ()
    wrong: str
    mend: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        inside = f"{path_text(self.location)}: " if self.location else ""
        return f"{place}: {inside}{self.wrong}" + (f"; {self.mend}" if self.mend else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file holds, and on which line each part of it stands."""

    file: str
    content: Mapping[str, object]
    lines: Mapping[Location, int | None] = field(repr=False)

    def finding(self, location: Location, wrong: str, mend: str = "") -> Finding:
        """A fault at ``location``; the line is that of the nearest part which stands in the file."""
        known = (location[:length] for length in range(len(location), -1, -1))
        line = next((self.lines[part] for part in known if part in self.lines), None)
        return Finding(file=self.file, line=line, location=location, wrong=wrong, mend=mend)


class Unreadable(ValueError):
    """A file that is no document; ``finding`` says why. Never leaves this folder."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def read_document(path: Path, name: str) -> Document:
    """The YAML mapping in a file that findings call ``name``; raises Unreadable."""
    text = read_text(path, name)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        wrong = f"is no YAML: it holds a character that cannot be printed, U+{ord(text[error.position]):04X}"
        before = text[: error.position].count("\n")
        raise Unreadable(Finding(file=name, line=before + 1, wrong=wrong, mend="delete it")) from None
    try:
        _refuse_tricks(text, name)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise Unreadable(Finding(file=name, line=1, wrong="is no mapping", mend="write `key: value` lines"))
        lines = dict(_lines(node, (), name))
        content = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = _line_of(error.problem_mark)
        raise Unreadable(Finding(file=name, line=line, wrong=f"is no YAML: {error.problem}")) from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(Finding(file=name, wrong=f"is no YAML: {' '.join(str(error).split())}")) from None
    finally:
        loader.dispose()
    return Document(file=name, content=content, lines=lines)


def read_text(path: Path, name: str) -> str:
    """The text of a file of bounded size; raises Unreadable."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(Finding(file=name, wrong=f"cannot be read: {error.strerror}")) from None
    if len(content) > MAX_BYTES:
        raise Unreadable(Finding(file=name, wrong="is larger than 1 MiB", mend="split it"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(Finding(file=name, line=line, wrong="is not UTF-8", mend="save it as UTF-8")) from None


def findings_of(document: Document, error: ValidationError) -> Iterator[Finding]:
    """What pydantic found, with the place in the file and what to write instead."""
    for detail in error.errors():
        location = tuple(detail["loc"])
        match detail["type"]:
            case "missing" | "missing_keyword_only_argument":
                yield document.finding(location, "is missing", "add it")
            case "unexpected_keyword_argument" | "extra_forbidden":
                yield document.finding(location, "is no key here", "remove it or correct its spelling")
            case "string_type":
                yield document.finding(location, "is no text", "put it in quotes, or write a text")
            case "string_pattern_mismatch" | "string_too_short" | "string_too_long":
                yield document.finding(location, detail["msg"], "see docs/catalogue.md for what it may hold")
            case "tuple_type":
                yield document.finding(location, "is no list", "write [a, b]")
            case "value_error":
                yield document.finding(location, detail["msg"].removeprefix("Value error, "))
            case _:
                yield document.finding(location, detail["msg"])


def closest(name: str, known: Iterable[str]) -> str:
    """A mend that names the known name most like this one, or all of them."""
    names = sorted(known)
    match get_close_matches(name, names, n=1):
        case [like]:
            return f"did you mean {like}?"
        case _:
            return f"known are {', '.join(names)}" if names else ""


def path_text(location: Location) -> str:
    """``fields[3].quality.pattern``"""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _refuse_tricks(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _line_of(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise Unreadable(Finding(file=name, line=line, wrong="has an anchor or alias", mend="write it out"))
        if getattr(event, "tag", None) is not None:
            raise Unreadable(Finding(file=name, line=line, wrong="has a tag", mend="remove the `!…`"))
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Unreadable(Finding(file=name, line=line, wrong=f"is nested deeper than {MAX_DEPTH}"))


def _lines(node: yaml.Node, location: Location, name: str) -> Iterator[tuple[Location, int | None]]:
    yield location, _line_of(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*location, index), name)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = _line_of(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                raise Unreadable(Finding(file=name, line=line, location=location, wrong="has a key that is no word"))
            if key.value in seen:
                raise Unreadable(Finding(file=name, line=line, location=(*location, key.value), wrong="is given twice"))
            seen.add(key.value)
            yield from _lines(value, (*location, key.value), name)
            yield (*location, key.value), line


def _line_of(mark: object) -> int | None:
    # PyYAML's stubs allow a mark of either parser or none.
    line = getattr(mark, "line", None)
    return line + 1 if isinstance(line, int) else None
