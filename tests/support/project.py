"""The project's own files, as the tests of its architecture read them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFIGURATION: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: dict[str, str] = CONFIGURATION["tool"]["setuptools"]["package-dir"]
FOLDERS = tuple(sorted({folder.partition("/")[0] for folder in PACKAGES.values()} - {"civicbus"}))
"""The folders of the data flow: at the root, imported as ``civicbus.<folder>``."""

# What tools and runs leave in a working folder.
_LEFT_BEHIND = ("build", "dist", "__pycache__", "node_modules")


def is_left_behind(name: str) -> bool:
    """Whether a file or folder of this name is no part of the project."""
    return name in _LEFT_BEHIND or name.endswith(".egg-info") or (name.startswith(".") and name not in _KEPT)


_KEPT = (".ci", ".gitignore")


def files(folder: Path = ROOT) -> Iterator[Path]:
    """Every file of the project below a folder; links in civicbus/ are not followed."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or is_left_behind(path.name):
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def sources() -> list[Path]:
    """Every module that the wheel holds."""
    return [path for folder in ("civicbus", *FOLDERS) for path in files(ROOT / folder) if path.suffix == ".py"]


def pages() -> list[Path]:
    """Every Markdown page."""
    return [path for path in files() if path.suffix == ".md"]


def named(path: Path) -> str:
    """How a failure names a file."""
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))
