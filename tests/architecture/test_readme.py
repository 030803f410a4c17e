"""Every command of the README works, in the order in which it stands there, and its Chinese version is the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from civicbus.cli.demo.city import ENTERPRISES, PERMITS, city
from civicbus.infra.doctor import NEWER_PYTHON, OLDEST_PYTHON
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.settings import Settings
from support.project import CONFIGURATION, ROOT, files, named

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
DEMO = 'make demo ARGS="--seconds 60"'
FILES_DEMO = ".venv/bin/civicbus demo --data ../shared/data/chicago --seconds 120"

# The only commands of the README that are not run here as they stand, and why.
NOT_RUN = {
    DEMO: "tests/flow/test_demo.py runs the whole city; here a demo of forty rows leaves the state that is looked at",
    FILES_DEMO: "tests/flow/test_demo_chicago.py runs it where the records lie beside the project",
    ". .venv/bin/activate": "the environment that runs the tests stands in its place",
    "make test": "it is what runs this",
}
# What must be seen, beyond exit status 0.
SHOWS = {
    "civicbus status": "table-market",
    "civicbus catalogue list": "construction.permits",
    "civicbus agreements show approved_permits": "inbox.market.approved_permits",
    "civicbus inbox tail market approved_permits --from-start -n 3": "SG20260000",
    'civicbus sql market -c "SELECT status, count(*) FROM inbox.approved_permits GROUP BY status"': "approved",
    "civicbus quarantine list construction": "",
    "civicbus doctor": "Python",
    "civicbus down --wipe --yes": "removed",
}
# The test that follows the commands of each page.
FOLLOWED = {
    "README.md": "tests/architecture/test_readme.py",
    "README.zh.md": "tests/architecture/test_readme.py",
    "docs/outbox.md": "tests/flow/test_outbox_page.py",
    "docs/capture.md": "tests/flow/test_capture_page.py",
    "docs/drop-folder.md": "tests/flow/test_drop_folder.py",
    "docs/publish.md": "tests/flow/test_publish_page.py",
    "docs/http.md": "tests/flow/test_http.py",
    "docs/sdk.md": "tests/flow/test_sdk.py",
}
STANDS_IN = "civicbus demo --data records --seconds 0"


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody in an empty folder with a few records; whatever fails, nothing is left running."""
    tables = city(load_catalogue(shipped_catalogue()).datasets)
    (tmp_path / "records").mkdir()
    for name in (ENTERPRISES, PERMITS):
        tables[name].head(40).write_csv(tmp_path / "records" / f"{name}.csv")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CIVICBUS_")}
    environment = kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if cache := os.environ.get("CIVICBUS_CACHE"):
        environment["CIVICBUS_CACHE"] = cache
    yield environment
    run("civicbus down --wipe --yes", tmp_path, environment)


def run(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("bash") or "bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_command_works_in_the_order_of_the_page(newcomer: dict[str, str], tmp_path: Path) -> None:
    written = commands(ENGLISH)
    assert set(written) >= set(NOT_RUN) | set(SHOWS)
    for command in [STANDS_IN, *(each for each in written if each not in NOT_RUN)]:
        done = run(command, tmp_path, newcomer)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert SHOWS.get(command, "") in done.stdout, f"{command}\n{done.stdout}"
    assert [path.name for path in tmp_path.iterdir()] == ["records"]


def test_what_is_run_elsewhere_is_run_there() -> None:
    places = re.findall(r"tests/\S+\.py", " ".join(NOT_RUN.values()))
    assert places
    assert [place for place in places if not (ROOT / place).is_file()] == []


def test_continuous_integration_runs_the_checks_and_the_test_command_of_the_page() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert script[-2:] == ["make check", "make test"]
    assert "make test" in commands(ENGLISH)


def test_every_page_with_commands_is_followed_by_a_test() -> None:
    with_commands = {named(page) for page in files() if page.suffix == ".md" and commands(page)}
    assert with_commands == set(FOLLOWED)
    for page, test in FOLLOWED.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


def test_the_chinese_page_has_the_same_commands_figures_links_tables_and_sections() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in (ENGLISH, CHINESE))
    assert commands(CHINESE) == commands(ENGLISH)
    for pattern in (r"^(#+) ", r"^\| (`[^`]+`)", r"(CIVICBUS_\w+)", r"\d+(?:[.,]\d+)*"):
        assert re.findall(pattern, chinese, re.MULTILINE) == re.findall(pattern, english, re.MULTILINE)
    links = [re.findall(r"\]\(([^)]+)\)", text) for text in (english, chinese)]
    assert links[0][0] == "README.zh.md"
    assert links[1][0] == "README.md"
    assert sorted(links[0][1:]) == sorted(links[1][1:])
    assert len(re.findall(r"^- ", chinese, re.MULTILINE)) == len(re.findall(r"^- ", english, re.MULTILINE))


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=named)
def test_the_table_of_settings_is_the_settings(page: Path) -> None:
    rows = dict(re.findall(r"^\| `(CIVICBUS_\w+)` \| (.+?) \|", page.read_text(encoding="utf-8"), re.MULTILINE))
    fields = Settings.model_fields
    assert list(rows) == [f"CIVICBUS_{name.upper()}" for name in fields]
    for (name, field), said in zip(fields.items(), rows.values(), strict=True):
        if field.default is not None:
            assert said == f"`{field.default}`", name
        else:
            assert "`" not in said, name


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    lowest, newest = CONFIGURATION["project"]["requires-python"].removeprefix(">=").split(",<")
    versions = [f"3.{minor}" for minor in range(int(lowest[2:]), int(newest[2:]))]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"for version in {' '.join(versions)};" in makefile
    assert f"({lowest.replace('.', ', ')}) <= sys.version_info < ({newest.replace('.', ', ')})" in makefile
    assert f"Python {versions[0]} to {versions[-1]};" in makefile
    assert f"Python {', '.join(versions[:-1])} or {versions[-1]}" in ENGLISH.read_text(encoding="utf-8")
    assert f"Python {'、'.join(versions[:-1])} 或 {versions[-1]}" in CHINESE.read_text(encoding="utf-8")
    assert tuple((3, int(version[2:])) for version in (lowest, newest)) == (OLDEST_PYTHON, NEWER_PYTHON)
    assert CONFIGURATION["tool"]["mypy"]["python_version"] == versions[0]
    assert CONFIGURATION["tool"]["ruff"]["target-version"] == f"py{versions[0].replace('.', '')}"
    assert f"--python-version {versions[0]} " in makefile
