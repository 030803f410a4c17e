"""The page on the catalogue says what there is, and its example passes the check."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from civicbus.names import DatasetId
from civicbus.schemas.catalogue_files import FORMER, load_catalogue
from civicbus.schemas.datasets import (
    Classification,
    Dataset,
    Department,
    Field,
    Listing,
    Openness,
    Quality,
    Retention,
    SequenceRule,
    Sharing,
    Source,
    UpdateCycle,
)
from civicbus.schemas.directory import directory_entry
from support.entries import DEPARTMENT, write_catalogue

PAGE = (Path(__file__).parents[2] / "docs" / "catalogue.md").read_text(encoding="utf-8")
YAML, JSON = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("yaml", "json"))


def example(tmp_path: Path) -> tuple[Department, Dataset]:
    assert YAML is not None
    assert JSON is not None
    catalogue = load_catalogue(write_catalogue(tmp_path, entry=YAML[1], schema=JSON[1], department=DEPARTMENT))
    dataset = catalogue.datasets[DatasetId.parse("parks.trees")]
    return catalogue.departments[dataset.id.department], dataset


def test_the_example_passes_the_check(tmp_path: Path) -> None:
    _, dataset = example(tmp_path)
    assert (dataset.file, dataset.order_by) == ("inventory.csv", ("planted_on",))


@pytest.mark.parametrize("record", [Dataset, Department, Field, Listing, Quality, Retention, Source])
def test_every_key_of_a_document_is_explained(record: type) -> None:
    names = {item.name for item in fields(record)} - {"schemas"} | {FORMER}
    assert [name for name in sorted(names) if f"`{name}" not in PAGE] == []


@pytest.mark.parametrize("words", [Classification, Openness, SequenceRule, Sharing, UpdateCycle])
def test_every_word_that_a_key_takes_is_listed(words: type) -> None:
    assert [word for word in words if f"`{word}`" not in PAGE] == []


def test_every_key_of_the_directory_is_listed(tmp_path: Path) -> None:
    department, dataset = example(tmp_path)
    assert [name for name in directory_entry(department, dataset) if name not in PAGE] == []
