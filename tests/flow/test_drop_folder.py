"""Files dropped into a folder become exactly their changes, although the folder's process is killed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from civicbus.infra.desired import Role, departments_with
from civicbus.names import DatasetId, department_id
from civicbus.producers.folder.desk import Desk, End
from civicbus.producers.folder.place import Language, Place, write_place
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from support.changes import Owned, latest, own
from support.chicago import FOLDER, needs_chicago
from support.following import described, follow
from support.platform import Member, Platform
from support.stages import StageProcess, everything, wait_for
from support.supervision import until

KILLS = 5
ROWS = 17_823


def folder_process(home: Path, department: str) -> StageProcess:
    arguments = ("--department", department)
    return StageProcess("civicbus.producers.folder", home, f"folder-{department}", arguments)


def test_the_page_followed_literally_ends_in_admitted_changes(platform, running_admission, gardens, tmp_path):
    process = folder_process(platform.home, gardens)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow, "drop-folder.md", platform, tmp_path, gardens)
        until(
            lambda: following.done() or department_id(gardens) in departments_with(platform.home, Role.FOLDER),
            "the folder to be added",
            60,
        )
        try:
            process.start()
            said = following.result()
        finally:
            process.stop()
    assert "3 rows: 3 new or changed, 0 deleted, 0 unchanged, 0 refused" in said
    assert "height_m: the value does not fit the field's type" in said
    owned = described(platform, tmp_path / "my_catalogue", gardens)
    rows = {key.decode(): owned.row(change) for key, change in latest(owned.changes()).items()}
    assert rows["T0003"] is None
    assert {key: row["species"] for key, row in rows.items() if row} == {"T0001": "oak", "T0002": "linden"}
    admitted = wait_for(
        "the admitted changes",
        lambda: found if len(found := everything(platform, owned.dataset.id.records)) >= 5 else None,
    )
    assert {record.key.decode() for record in admitted} == {"T0001", "T0002", "T0003"}


@dataclass(frozen=True, slots=True)
class Dropping:
    """A department's dataset and its watched folder."""

    owned: Owned
    folder: Path
    process: StageProcess

    def drop(self, name: str, content: bytes) -> None:
        draft = self.folder / f".{name}"
        draft.write_bytes(content)
        draft.rename(self.folder / name)

    def done(self) -> int:
        return Desk(self.folder).count(End.DONE)

    def results(self) -> list[str]:
        return [path.read_text(encoding="utf-8-sig") for path in sorted(self.folder.glob("done/*/result.txt"))]


@pytest.fixture
def inspections(platform: Platform, new_department: Callable[[str], Member], tmp_path: Path) -> Iterator[Dropping]:
    member = new_department("inspectors")
    catalogue = tmp_path / "catalogue" / member.id
    catalogue.mkdir(parents=True)
    for path in (shipped_catalogue() / "public_health").iterdir():
        text = path.read_text(encoding="utf-8").replace("public_health", member.id)
        text = text.replace("  related: [business_affairs.license_register]\n", "")  # is not in this catalogue
        (catalogue / path.name).write_text(text, encoding="utf-8")
    dataset = load_catalogue(catalogue.parent).datasets[DatasetId(member.id, "food_inspections")]
    folder = tmp_path / "dropped"
    folder.mkdir()
    write_place(platform.home, member.id, Place(folder=folder, language=Language.EN, catalogue=catalogue.parent))
    process = folder_process(platform.home, member.id)
    yield Dropping(own(platform, member, dataset), folder, process)
    process.stop()


def killed(dropping: Dropping, count: Callable[[], int], *, changes: int) -> None:
    """Start it, wait until the topic holds so many changes, and kill -9."""
    dropping.process.launch()
    until(lambda: count() >= changes, f"{changes} changes", 60)
    dropping.process.kill()


@needs_chicago
def test_the_inspections_of_chicago_and_then_what_differs_are_published_although_killed_five_times(inspections):
    header, *rows = (FOLDER / "public_health.food_inspections.csv").read_bytes().splitlines(keepends=True)
    inspections.drop("food_inspections.csv", b"".join([header, *rows]))
    with inspections.owned.counting() as count:
        for number in range(KILLS - 1):
            killed(inspections, count, changes=number * 4_000 + 1)
        inspections.process.start()
        until(lambda: inspections.done() == 1, "the first file", 60)
        changes = inspections.owned.changes()
        assert len({change.event.id for change in changes}) == len(latest(changes)) == ROWS

        removed, changed = keys(rows[1::100]), keys(rows[2::100])
        rows[2::100] = [row.replace(b",Canvass", b",Recanvass", 1) for row in rows[2::100]]
        del rows[1::100]
        inspections.drop("food_inspections_20261126.csv", b"".join([header, *rows]))
        until(lambda: count() > len(changes), "a change of the second file", 60)
        inspections.process.kill()
    inspections.process.start()
    until(lambda: inspections.done() == 2, "the second file", 60)

    known = {change.event.id for change in changes}
    news = {change.event.id: change for change in inspections.owned.changes() if change.event.id not in known}.values()
    assert {change.key for change in news if change.value is None} == removed
    assert {change.key for change in news if change.value is not None} <= changed
    assert len(news) == len(removed) + sum(b",Recanvass" in row for row in rows)
    first, second = inspections.results()
    assert "was interrupted" in first
    assert f"{len(rows)} rows" in second


def keys(rows: list[bytes]) -> set[bytes]:
    return {row.partition(b",")[0] for row in rows}
