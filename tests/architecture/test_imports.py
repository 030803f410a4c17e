"""Imports run one way, modules are imported under one name, and importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from support.project import CONFIGURATION, FOLDERS, ROOT, named, parsed, sources

IMPORT_EVERYTHING = """
import importlib, pkgutil, socket, sys

def refuse(*arguments):
    raise AssertionError(f"a module connects when it is imported: {arguments[1:]}")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import civicbus
for module in pkgutil.walk_packages(civicbus.__path__, "civicbus."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("civicbus.")]))
"""


def imports_of(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append(node.module)
    return found


def test_every_contract_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    broken = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert broken == 0, capsys.readouterr().out


def test_every_stage_is_blind_to_the_others() -> None:
    contracts = CONFIGURATION["tool"]["importlinter"]["contracts"]
    independent = next(contract for contract in contracts if contract["type"] == "independence")
    stages = {path.name for path in (ROOT / "stream_apps").iterdir() if (path / "__init__.py").exists()}
    assert set(independent["modules"]) == {f"civicbus.stream_apps.{stage}" for stage in stages}


def test_a_folder_is_never_imported_by_its_bare_name() -> None:
    banned = CONFIGURATION["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(banned) == set(FOLDERS)
    bare = [
        f"{named(path)} imports {name}"
        for path in [*sources(), *(ROOT / "tests").rglob("*.py")]
        for name in imports_of(path)
        if name.partition(".")[0] in FOLDERS
    ]
    assert bare == []


def test_faust_is_wired_only_in_the_apps_of_cases() -> None:
    importers = [named(path) for path in sources() if any(name.startswith("faust") for name in imports_of(path))]
    assert [path for path in importers if not (path.startswith("stream_apps/") and path.endswith("/app.py"))] == []


def test_importing_every_module_connects_to_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len([path for path in sources() if path.name not in ("__init__.py", "__main__.py")])


def test_the_environment_is_read_in_the_settings_alone() -> None:
    readers = [
        named(path)
        for path in sources()
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "getenv"))
    ]
    assert set(readers) == {"civicbus/settings.py"}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        named(path)
        for path in [*sources(), *(ROOT / "tests").rglob("test_*.py")]
        if not ast.get_docstring(parsed(path))
    ]
    assert silent == []
