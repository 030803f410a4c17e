"""A folder is added, shown and removed by commands, and its process is wanted exactly as long as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.errors import ConfigurationError
from civicbus.infra.desired import Role, departments_with
from civicbus.producers.folder.place import Language, read_place
from support.entries import DEPARTMENT, ENTRY, SCHEMA, write_catalogue
from support.platform import Member, Platform


@pytest.fixture
def member(new_department: Callable[[str], Member]) -> Member:
    return new_department("parks")


@pytest.fixture
def catalogue(member: Member, tmp_path: Path) -> Path:
    folder = write_catalogue(
        tmp_path / "catalogue",
        entry=ENTRY.replace("id: parks.", f"id: {member.id}."),
        schema=SCHEMA.replace("civicbus.parks", f"civicbus.{member.id}"),
        department=DEPARTMENT.replace("id: parks", f"id: {member.id}"),
    )
    (folder / "parks").rename(folder / member.id)
    return folder


def run(platform: Platform, *arguments: object) -> str:
    done = CliRunner().invoke(app, ["--home", str(platform.home), "folder", *map(str, arguments)])
    if isinstance(done.exception, ConfigurationError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def shown(platform: Platform, member: Member) -> list[dict[str, object]]:
    return [row for row in json.loads(run(platform, "status", "--json")) if row["department"] == member.id]


def test_a_folder_is_watched_from_its_adding_to_its_removal_and_keeps_its_files(platform, member, catalogue, tmp_path):
    folder = tmp_path / "new" / "dropped"
    said = run(platform, "add", member.id, "--folder", folder, "--language", "en", "--catalogue", catalogue)
    assert f"{member.id}.trees" in said
    assert member.id in departments_with(platform.home, Role.FOLDER)
    place = read_place(platform.home, member.id)
    assert (place.folder, place.language, place.catalogue) == (folder, Language.EN, catalogue)
    (folder / "trees.csv").write_text("rows")
    counts = {"dropped": 1, "working": 0, "done": 0, "refused": 0}
    assert shown(platform, member) == [
        {"department": member.id, "folder": str(folder), "process": "not running"} | counts
    ]
    run(platform, "remove", member.id)
    assert member.id not in departments_with(platform.home, Role.FOLDER)
    assert (shown(platform, member), (folder / "trees.csv").read_text()) == ([], "rows")


def test_a_folder_that_is_away_is_shown_without_counts(platform, member, catalogue, tmp_path):
    folder = tmp_path / "share"
    run(platform, "add", member.id, "--folder", folder, "--catalogue", catalogue)
    folder.rename(tmp_path / "away")
    (row,) = shown(platform, member)
    assert row["dropped"] is None
    run(platform, "remove", member.id)


def test_a_department_without_datasets_or_without_a_user_gets_no_folder(platform, member, tmp_path):
    with pytest.raises(ConfigurationError, match="has no dataset"):
        run(platform, "add", member.id, "--folder", tmp_path)
    with pytest.raises(ConfigurationError, match="nobody_knows"):
        run(platform, "add", "nobody_knows", "--folder", tmp_path)
    assert not {member.id, "nobody_knows"} & set(departments_with(platform.home, Role.FOLDER))


def test_a_folder_that_was_never_added_cannot_be_removed(platform, member):
    with pytest.raises(ConfigurationError, match="has no drop folder here"):
        run(platform, "remove", member.id)
