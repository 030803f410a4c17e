"""Generated records keep the catalogue's rules, and the checker says what admission would say of a file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.errors import ConfigurationError
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Quality
from civicbus.schemas.generated import generated_rows
from support.entries import write_catalogue
from support.samples import permits

SHIPPED = load_catalogue(shipped_catalogue()).datasets
RUNNER = CliRunner()
NOWHERE = "no/platform/was/here"
TREES = ["tree_no,species,height_m,planted_on", "T0001,oak,12.5,1998-04-01"]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return write_catalogue(tmp_path / "catalogue")


def said(*words: object, status: int) -> str:
    done = RUNNER.invoke(app, ["--home", NOWHERE, "sandbox", *map(str, words)])
    assert done.exit_code == status, done.output
    return done.output


@pytest.mark.parametrize("department", sorted({str(one.department) for one in SHIPPED}))
def test_every_generated_record_of_the_catalogue_would_be_admitted(department, tmp_path):
    said_of_making = said("make", department, "--into", tmp_path / "made", "--rows", 40, status=0)
    for path in (tmp_path / "made").iterdir():
        assert f"{path}: 40 generated records" in said_of_making
        name = path.name.removeprefix("generated.").removesuffix(".csv")
        assert json.loads(said("check", name, path, "--json", status=0))["admitted"] == 40


def test_generated_records_are_the_same_each_time():
    dataset = next(iter(SHIPPED.values()))
    assert generated_rows(dataset, 5) == generated_rows(dataset, 5)
    assert generated_rows(dataset, 5) != generated_rows(dataset, 5, seed=1)


def test_without_a_platform_the_records_are_made_and_the_credentials_are_said_to_be_missing(tmp_path):
    output = RUNNER.invoke(
        app, ["--home", str(tmp_path / "none"), "sandbox", "make", "market", "--into", str(tmp_path)]
    )
    assert output.exit_code == 0
    assert "no credentials were made" in output.output


PATTERNS = st.sampled_from(
    ["A[0-9]{3}", "(?:x|yz)+", r"\d{2}-\w+", "[^a-z]{2}", "a?b*c+", r"[\u4e00-\u9fff]{1,3}", ".{4}", "^x$", "(?i:q)Q"]
)


@settings(max_examples=60, deadline=None)
@given(PATTERNS, st.integers(0, 1000))
def test_a_text_with_a_pattern_matches_it(pattern, seed):
    dataset = with_status(Quality(required=True, pattern=pattern))
    for row in generated_rows(dataset, 5, seed):
        assert re.fullmatch(pattern, row["status"])


@pytest.mark.parametrize(
    "quality",
    [Quality(required=True, pattern="a(?=b)"), Quality(required=True, pattern="ab", min_length=5)],
)
def test_a_rule_for_which_no_text_is_found_names_the_field(quality):
    with pytest.raises(ConfigurationError, match="status"):
        generated_rows(with_status(quality), 5)


def with_status(quality: Quality):
    sample = permits()
    return replace(
        sample,
        fields=tuple(replace(one, quality=quality if one.name == "status" else Quality()) for one in sample.fields),
    )


WRONG_ROWS = [
    "T2,oak,1,2024-01-01",
    "T0003,elm,1,2024-01-01",
    "T0004,oak,121,2024-01-01",
    "T0005,oak,1,01.02.2024",
    ",oak,1,2024-01-01",
    "T0007,oak,1",
    "T0008,oak,1,2024-01-01",
]


def test_every_row_that_admission_would_refuse_is_named_with_why_and_what_mends_it(catalogue, tmp_path):
    file = tmp_path / "trees.csv"
    file.write_text("\n".join([*TREES, *WRONG_ROWS]))
    found = json.loads(said("check", "parks.trees", file, "--catalogue", catalogue, "--json", status=1))
    assert (found["rows"], found["admitted"]) == (8, 2)
    assert [(one["row"], one["reason"], one["field"]) for one in found["refused"]] == [
        (3, "quality_pattern", "tree_no"),
        (4, "quality_allowed", "species"),
        (5, "quality_range", "height_m"),
        (6, "unreadable_row", "planted_on"),
        (7, "key_missing", "tree_no"),
        (8, "unreadable_row", None),
    ]
    output = said("check", "parks.trees", file, "--catalogue", catalogue, status=1)
    assert output.startswith("parks.trees: 8 rows: 2 would be admitted, 6 refused\n")
    assert "the catalogue says: allowed oak, lime, 银杏" in output
    assert "Use one of the values that the catalogue allows for the field." in output
    assert "elm" not in output, "a value is never shown"


def test_json_lines_are_checked_alike_and_a_line_that_is_no_object_stops_only_itself(catalogue, tmp_path):
    file = tmp_path / "trees.jsonl"
    lines = [
        '{"tree_no": "T0001", "species": "oak", "height_m": 12.5, "planted_on": "1998-04-01"}',
        '{"tree_no": "T0002"}',
        "[1]",
        "{",
        '{"tree_no": "T0005", "height_m": "high"}',
        '{"tree_no": "T0006", "height_m": -1, "owner": "Li"}',
        '{"树号": "T0007", "height_m": null}',
        '{"tree_no": {"a": 1}}',
        '{"tree_no": "T0009", "species": "\\ud800"}',
    ]
    file.write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    found = json.loads(said("check", "parks.trees", file, "--catalogue", catalogue, "--json", status=1))
    assert (found["rows"], found["admitted"], found["unknown_columns"]) == (10, 3, ["owner"])
    assert [(one["row"], one["reason"], one["field"]) for one in found["refused"]] == [
        (3, "unreadable_row", None),
        (4, "unreadable_row", None),
        (5, "unreadable_row", "height_m"),
        (6, "quality_range", "height_m"),
        (8, "quality_pattern", "tree_no"),
        (9, "unreadable_row", None),
        (10, "unreadable_row", None),
    ]


def test_a_file_that_would_be_admitted_says_so_and_succeeds(catalogue, tmp_path):
    file = tmp_path / "trees.csv"
    file.write_text("\n".join(TREES))
    output = said("check", "parks.trees", file, "--catalogue", catalogue, status=0)
    assert output == "parks.trees: 1 rows: 1 would be admitted, 0 refused\n"
