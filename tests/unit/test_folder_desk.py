"""A dropped file lies in one place at a time, and nothing that it is or links to leads out of the folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from civicbus.errors import Unavailable
from civicbus.producers.folder.desk import RESULTS, Desk, End, Job, Moved
from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.producers.folder.looking import being_written

NOW = datetime(2026, 11, 26, 10, 0, 0, 5, tzinfo=UTC)
LIMIT = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dropped").mkdir()
    return tmp_path / "dropped"


@pytest.fixture
def desk(folder: Path) -> Desk:
    desk = Desk(folder)
    desk.prepare()
    return desk


def taken(desk: Desk, name: str) -> Job:
    desk.take(name, NOW)
    (job,) = desk.jobs()
    return job


def refused(job: Job) -> Fault:
    with pytest.raises(FileRefused) as caught:
        job.content(LIMIT)
    return caught.value.fault


def test_a_file_goes_from_the_folder_to_working_and_with_its_result_to_done(folder, desk):
    (folder / "trees.csv").write_text("rows")
    job = taken(desk, "trees.csv")
    assert (list(desk.dropped()), job.content(LIMIT)) == ([], b"rows")
    assert (job.arrival.file, job.arrival.time) == ("trees.csv", NOW)
    job.write(job.beside(*RESULTS), b"what happened")
    job.finish(End.DONE)
    assert desk.jobs() == []
    (done,) = (folder / "done").iterdir()
    assert {path.name: path.read_text() for path in done.iterdir()} == {
        "trees.csv": "rows",
        "result.txt": "what happened",
    }


def test_a_dropped_file_that_is_called_as_a_result_is_not_written_over(folder, desk):
    (folder / "result.txt").write_text("rows")
    job = taken(desk, "result.txt")
    job.write(job.beside(*RESULTS), b"what happened")
    assert job.file.read_text() == "rows"
    assert desk.jobs() == [job]


@pytest.mark.parametrize("name", ["a" * 250 + ".csv", "-rf", "树\n木.csv", "a\udcff.csv", " ", "x; rm *.csv"])
def test_any_name_that_a_file_may_have_can_be_taken_and_finished(folder, desk, name):
    (folder / name).write_text("rows")
    job = taken(desk, name)
    assert job.content(LIMIT) == b"rows"
    job.finish(End.REFUSED)
    assert desk.count(End.REFUSED) == 1


def test_a_file_that_is_gone_by_now_leaves_nothing(folder, desk):
    desk.take("gone.csv", NOW)
    assert (desk.jobs(), list((folder / "working").iterdir())) == ([], [])


def test_a_folder_that_a_kill_left_empty_is_removed(folder, desk):
    (folder / "working" / "20261126T100000.000005Z_trees.csv").mkdir()
    assert (desk.jobs(), list((folder / "working").iterdir())) == ([], [])


def test_a_link_is_moved_and_never_opened(folder, desk, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "trees.csv").symlink_to(secret)
    job = taken(desk, "trees.csv")
    assert refused(job) is Fault.NO_FILE
    job.finish(End.REFUSED)
    assert secret.read_text() == "secret"


def test_a_pipe_is_refused_and_not_waited_for(folder, desk):
    os.mkfifo(folder / "trees.csv")
    assert refused(taken(desk, "trees.csv")) is Fault.NO_FILE


def test_a_result_replaces_a_link_and_does_not_follow_it(folder, desk, tmp_path):
    other = tmp_path / "other"
    other.write_text("as it was")
    (folder / "trees.csv").write_text("rows")
    job = taken(desk, "trees.csv")
    for name in (*RESULTS, ".draft"):
        (job.folder / name).symlink_to(other)
    job.write(RESULTS[0], b"what happened")
    assert other.read_text() == "as it was"
    assert (job.folder / RESULTS[0]).read_text() == "what happened"


@pytest.mark.parametrize("name", ["working", "done", "refused"])
def test_a_link_in_the_place_of_a_folder_is_named_and_not_used(folder, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="is a link"):
        Desk(folder).prepare()


def test_a_folder_that_is_away_is_waited_for(tmp_path):
    with pytest.raises(Unavailable, match="does not answer"):
        Desk(tmp_path / "share").prepare()


def test_a_file_above_the_limit_is_refused_before_it_is_read(folder, desk):
    (folder / "trees.csv").write_bytes(bytes(LIMIT + 1))
    assert refused(taken(desk, "trees.csv")) is Fault.TOO_LARGE


def test_a_file_that_is_taken_away_while_it_is_worked_on_is_looked_at_again(folder, desk):
    (folder / "trees.csv").write_text("rows")
    job = taken(desk, "trees.csv")
    job.file.unlink()
    with pytest.raises(Moved):
        job.content(LIMIT)
    assert desk.jobs() == []


def test_a_file_that_is_written_to_while_it_is_read_is_looked_at_again(folder, desk, monkeypatch):
    (folder / "trees.csv").write_text("rows")
    job = taken(desk, "trees.csv")
    read = os.fdopen

    def read_and_write(descriptor: int, mode: str):
        with job.file.open("a") as writer:
            writer.write("more")
        return read(descriptor, mode)

    monkeypatch.setattr("civicbus.producers.folder.desk.os.fdopen", read_and_write)
    with pytest.raises(Moved):
        job.content(LIMIT)


def test_a_file_that_is_open_for_writing_is_known_and_one_that_is_read_is_not(folder):
    (folder / "read.csv").touch()
    with (folder / "written.csv").open("w"), (folder / "read.csv").open():
        assert being_written([folder / "written.csv", folder / "read.csv"]) == {folder / "written.csv"}
    assert being_written([folder / "written.csv"]) == frozenset()
