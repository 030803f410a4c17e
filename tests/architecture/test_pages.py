"""The pages hold together: links lead somewhere, words are the glossary's, and nothing names anybody's machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from civicbus.infra import wipe
from support.project import CONFIGURATION, FOLDERS, ROOT, files, named, pages, sources

ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
TEXT_ENDINGS = {"", ".avsc", ".lock", ".md", ".py", ".pyi", ".sql", ".toml", ".yaml", ".yml"}

# Second words for things that have one (ARCHITECTURE.md §2), and words that say nothing.
NOT_OURS = [
    *(r"dead.?letters?", r"\bdlq\b", r"subscription agreement", r"\bmailbox", r"poison queue", "死信", "数据集"),
    *(r"\brobust\b", r"\bpowerful\b", "enterprise.grade", r"\bseamless", "cutting.edge", "world.class", "blazing"),
]
# Where packages come from is the user's configuration, and where they lie the machine's.
NOBODYS = [
    *(r"pypi\.", "pythonhosted", r"maven\.org", r"maven\.apache", r"npmjs\.", r"conda\."),
    *(rf"(?<![\w.-])/{folder}/\w" for folder in ("home", "Users", "work")),
    *(r"\btmp/\w*venv", "/opt/wheels", r"\.pyenv"),
]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and most others give a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)) if "://" not in link]


def texts() -> list[Path]:
    return [path for path in files() if path.suffix in TEXT_ENDINGS]


def found(pattern: str, paths: list[Path]) -> list[str]:
    wanted = re.compile(pattern, re.IGNORECASE)
    return [
        f"{named(path)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if wanted.search(line)
    ]


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_of_the_docs_is_linked_from_another() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in pages() for link in links(page)}
    unlinked = [page for page in pages() if page.parent != ROOT and page.resolve() not in linked]
    assert [named(page) for page in unlinked] == []


def test_every_test_that_the_architecture_names_is_there() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for name in re.findall(r"`(test_\w+)`", ARCHITECTURE) if f"def {name}(" not in tests]
    assert missing == []


def test_every_file_that_the_architecture_names_is_there() -> None:
    places = [place for place in re.findall(r"`([\w/]+\.py)`", ARCHITECTURE) if place != "app.py"]
    roots = [ROOT, ROOT / "civicbus", ROOT / "stream_apps"]
    assert [place for place in places if not any((root / place).exists() for root in roots)] == []


def test_every_folder_and_all_that_a_home_holds_stands_in_the_architecture() -> None:
    assert [folder for folder in ("civicbus", *FOLDERS) if f"[{folder}/]({folder})" not in ARCHITECTURE] == []
    kept = [f"{folder}/" for folder in wipe.FOLDERS] + [name for name in wipe.FILES if name.endswith(".json")]
    assert [name for name in kept if f"`{name}`" not in ARCHITECTURE] == []


def test_what_docstrings_cite_is_a_section_or_a_rule_of_the_architecture() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*sources(), *pages()])
    cited = re.findall(r"DESIGN §(\d)(?:\.(\d))?(?:,? rules? (\d))?", text)
    assert cited
    for section, promise, rule in cited:
        body = re.search(rf"^## {section}\. .*?(?=^## |\Z)", ARCHITECTURE, re.MULTILINE | re.DOTALL)
        assert body, f"§{section}"
        assert not promise or f"| {promise}. " in body[0], f"§{section}.{promise}"
        assert not rule or f"\n{rule}. " in body[0], f"§{section} rule {rule}"


@pytest.mark.parametrize("pattern", NOT_OURS)
def test_one_thing_has_one_word(pattern: str) -> None:
    here = Path(__file__)
    assert found(pattern, [path for path in texts() if path != here]) == []


@pytest.mark.parametrize("pattern", NOBODYS)
def test_no_file_names_a_registry_or_a_machine(pattern: str) -> None:
    here = Path(__file__)
    assert found(pattern, [path for path in texts() if path != here]) == []


def test_headings_carry_no_pictures() -> None:
    assert found(r"^#+ .*[\u2190-\u2bff\U0001f000-\U0001faff]", pages()) == []


def test_types_are_checked_in_every_module() -> None:
    mypy = CONFIGURATION["tool"]["mypy"]
    assert mypy["strict"] is True
    assert not {"exclude", "ignore_errors", "ignore_missing_imports", "follow_imports", "overrides"} & set(mypy)
    ignored = found(r"#\s*mypy:|type: ignore(?!\[)", sources())
    assert ignored == []
