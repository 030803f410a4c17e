"""What is built is the tree: every module and data file of the folders travels, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest

from support.project import CONFIGURATION, FOLDERS, PACKAGES, ROOT, files, is_left_behind

USE_EVERYTHING = """
import importlib, pkgutil
import civicbus
for module in pkgutil.walk_packages(civicbus.__path__, "civicbus."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from civicbus.schemas.agreement import load_agreements
from civicbus.schemas.catalogue_files import load_catalogue, shipped_agreements, shipped_catalogue
datasets, agreements = load_catalogue(shipped_catalogue()).datasets, load_agreements([shipped_agreements()])
print(civicbus.__file__, len(datasets), len(agreements))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that neither the working folder nor what earlier builds left there takes part."""
    clone = tmp_path_factory.mktemp("clone") / "civicbus"
    copytree(ROOT, clone, symlinks=True, ignore=lambda _, names: [name for name in names if is_left_behind(name)])
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(clone)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed plainly, into a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, str(wheel)], check=True)
    return folder


def in_the_tree() -> Iterator[str]:
    for folder in ("civicbus", *FOLDERS):
        for path in files(ROOT / folder):
            place = path.relative_to(ROOT)
            yield str(place if folder == "civicbus" else "civicbus" / place)


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    assert held == set(in_the_tree())


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    held = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/licenses/" in name}
    assert held == {"LICENSE", "NOTICE"}


def test_every_package_of_the_tree_is_listed() -> None:
    setuptools = CONFIGURATION["tool"]["setuptools"]
    there = {str(Path(place).parent).replace("/", ".") for place in in_the_tree() if place.endswith("/__init__.py")}
    assert set(setuptools["packages"]) == there
    assert there <= set(PACKAGES) | {"civicbus.transport"}


def test_a_plain_install_runs_without_the_tree(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    used = subprocess.run(
        [sys.executable, "-c", USE_EVERYTHING],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr
    place, datasets, agreements = used.stdout.split()
    assert Path(place).is_relative_to(installed)
    assert int(datasets) > 0
    assert int(agreements) > 0
    help_text = subprocess.run(
        [installed / "bin" / "civicbus", "--help"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "keep every entitled department in step" in help_text.stdout


def test_each_folder_has_a_relative_link_in_the_package() -> None:
    links = {path.name: str(path.readlink()) for path in (ROOT / "civicbus").iterdir() if path.is_symlink()}
    assert links == {folder: f"../{folder}" for folder in FOLDERS}
    assert all((ROOT / "civicbus" / name / "__init__.py").is_file() for name in links)
