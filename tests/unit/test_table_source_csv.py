"""A CSV file is read strictly: what is in doubt is named with its place, and nothing of the file is published."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from civicbus.errors import CheckFailed, CivicbusError, ConfigurationError
from civicbus.names import DatasetId
from civicbus.producers.journal import Journal
from civicbus.producers.table import ROW, read_csv
from civicbus.producers.table_source import Outcome, TableSource
from civicbus.reasons import Reason
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Dataset
from support.chicago import FOLDER, needs_chicago
from support.entries import write_catalogue
from support.publishing import SCHEMA_ID, MemoryTopic

HEADER = "tree_no,species,height_m,planted_on\n"


@pytest.fixture
def trees(tmp_path: Path) -> Dataset:
    return load_catalogue(write_catalogue(tmp_path / "catalogue")).datasets[DatasetId.parse("parks.trees")]


class Source:
    """A dataset's file, journal and topic."""

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.file = folder / "trees.csv"
        self.topic = MemoryTopic()
        self._journal = folder / "journal"
        self._dataset = dataset

    def publish(self, text: str | bytes, *, full: bool = True) -> Outcome:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        with Journal(self._journal, self._dataset.id) as journal:
            return TableSource(self._dataset, SCHEMA_ID, journal, self.topic).publish_csv(self.file, full=full)

    def rows(self) -> list[list[object]]:
        return [list(row.values()) for row in self.topic.rows(self._dataset).values()]

    def refuses(self, text: str | bytes) -> str:
        """What the refusal of this file says; nothing was published."""
        with pytest.raises(CivicbusError) as caught:
            self.publish(text)
        assert self.topic.changes == []
        return str(caught.value)


@pytest.fixture
def source(tmp_path: Path, trees: Dataset) -> Source:
    return Source(tmp_path, trees)


def test_every_text_is_read_as_its_field_says_and_an_empty_cell_is_null(source):
    source.publish(HEADER + "T0001,银杏,12.5,2024-02-29\nT0002,,,\n")
    first, second = source.rows()
    assert [str(value) for value in first] == ["T0001", "银杏", "12.5", "2024-02-29"]
    assert second == ["T0002", None, None, None]


def test_texts_pass_unchanged_with_their_spaces_quotes_lines_and_leading_zeros(source):
    source.publish(HEADER + '0007," a ""b"",\r\nc ",,\n')
    assert source.rows() == [["0007", ' a "b",\r\nc ', None, None]]


@pytest.mark.parametrize(
    "header", ["树号,树种,高度,种植日", "Tree number,Species,Height,Planted on", "\ufeff" + HEADER.strip()]
)
def test_columns_are_found_by_name_by_title_in_either_language_and_by_alias(source, header):
    source.publish(header + "\nT0001,oak,1,2024-01-01\n")
    assert source.rows()[0][1] == "oak"


def test_columns_may_stand_in_any_order_and_unknown_ones_are_named_and_not_sent(source):
    outcome = source.publish("owner,planted_on,height_m,species,tree_no\nLi,2024-01-01,1,oak,T0001\n")
    assert (outcome.unknown_columns, source.rows()[0][0]) == (("owner",), "T0001")
    assert b"Li" not in source.topic.changes[0].value


def test_a_missing_column_and_what_stands_in_its_place_are_named(source):
    said = source.refuses("tree_no,specie,height_m,planted_on\nT0001,oak,1,2024-01-01\n")
    assert "no column fills the field species" in said
    assert "'specie'" in said


def test_two_columns_of_one_field_are_refused(source):
    assert "two columns fill the field species" in source.refuses("树种," + HEADER + "oak,T0001,oak,1,2024-01-01\n")


def test_a_quote_that_is_not_closed_is_named_with_its_line_and_deletes_nothing(source):
    source.publish(HEADER + "T0001,oak,,\nT0002,oak,,\n")
    sent = len(source.topic.changes)
    with pytest.raises(ConfigurationError, match="line"):
        source.publish(HEADER + 'T0001,"oak,,\nT0002,oak,,\n')
    assert len(source.topic.changes) == sent


def test_text_after_a_closing_quote_is_named_with_its_line(source):
    assert "line 3" in source.refuses(HEADER + 'T0001,oak,,\nT0002,"oak"x,,\n')


def test_a_file_that_is_not_utf_8_is_refused_with_the_place(source):
    assert "this is not UTF-8" in source.refuses((HEADER + "T0001,银杏,,\n").encode("gb18030"))


def test_rows_with_too_few_or_too_many_cells_are_reported_and_the_others_go_on(source):
    outcome = source.publish(HEADER + "T0001,oak\nT0002,oak,1,2024-01-01\nT0003,oak,1,2024-01-01,x\n\n")
    assert (outcome.rows, outcome.upserts, outcome.refused) == (3, 1, {Reason.UNREADABLE_ROW: 2})
    assert [one.row for one in outcome.refused_rows] == [2, 4]
    reports = [change.value.decode() for change in source.topic.changes if change.refusal]
    assert reports[1] == '{"tree_no":"T0003","species":"oak","height_m":"1","planted_on":"2024-01-01","column 5":"x"}'


def test_rows_are_numbered_as_a_spreadsheet_does_even_after_cells_of_several_lines(source):
    outcome = source.publish(HEADER + 'T0001,"o\na\nk",,\n\n,oak,,\n')
    assert [one.row for one in outcome.refused_rows] == [4]


@pytest.mark.parametrize("rows", ["", ",oak,,\n,lime,,\n"])
def test_a_file_that_names_no_record_does_not_delete_every_record(source, rows):
    source.publish(HEADER + "T0001,oak,,\n")
    with pytest.raises(ConfigurationError, match="would delete every record"):
        source.publish(HEADER + rows)
    assert source.publish(HEADER + rows, full=False).deletions == 0


def test_an_incremental_file_deletes_nothing(source):
    source.publish(HEADER + "T0001,oak,,\nT0002,oak,,\n")
    outcome = source.publish(HEADER + "T0002,lime,,\n", full=False)
    assert (outcome.upserts, outcome.deletions, len(source.rows())) == (1, 0, 2)


def test_a_cell_of_a_megabyte_is_read(source):
    assert source.publish(HEADER + f"T0001,{'x' * 900_000},,\n").upserts == 1


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_is_refused(source, text):
    with pytest.raises(CheckFailed):
        source.publish(text)


def test_a_file_that_is_not_there_is_named(trees, tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_csv(tmp_path / "none.csv", trees)


@needs_chicago
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("business_affairs.business_licenses", (15_515, 15_514, {Reason.KEY_MISSING: 1}, 0)),
        ("public_health.food_inspections", (17_823, 17_823, {}, 0)),
        ("streets_sanitation.sanitation_complaints", (55_343, 55_167, {}, 176)),
    ],
)
def test_the_records_of_chicago_become_as_many_changes_as_there_are_records(tmp_path, name, counts):
    dataset = load_catalogue(shipped_catalogue()).datasets[DatasetId.parse(name)]
    topic = MemoryTopic()
    with Journal(tmp_path / "journal", dataset.id) as journal:
        outcome = TableSource(dataset, SCHEMA_ID, journal, topic).publish_csv(FOLDER / dataset.file)
    assert (outcome.rows, outcome.upserts, outcome.refused, len(outcome.repeated)) == counts
    assert len(topic.state()) == outcome.upserts


@needs_chicago
def test_the_register_of_licences_keeps_the_last_term_of_each(tmp_path):
    dataset = load_catalogue(shipped_catalogue()).datasets[DatasetId.parse("business_affairs.license_register")]
    topic = MemoryTopic()
    with Journal(tmp_path / "journal", dataset.id) as journal:
        outcome = TableSource(dataset, SCHEMA_ID, journal, topic).publish_csv(FOLDER / dataset.file)
    terms = read_csv(FOLDER / dataset.file, dataset).frame.drop_nulls("license_number")
    last = terms.sort("term_start", ROW).group_by("license_number").agg(pl.last("license_record_id"))
    assert outcome.repeated == ()
    assert outcome.refused == {Reason.KEY_MISSING: 1}
    published = {key: row["license_record_id"] for key, row in topic.rows(dataset).items()}
    assert published == dict(last.iter_rows())
