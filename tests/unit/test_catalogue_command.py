"""The commands on a catalogue's folder, as a person runs them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from civicbus.cli.catalogue import app
from civicbus.cli.context import Context
from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.schemas.catalogue_files import shipped_catalogue
from support.chicago import FOLDER, needs_chicago
from support.entries import ENTRY, write_catalogue


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), obj=Context.from_environment(None))


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    file = tmp_path / "parks.trees.csv"
    file.write_text("tree_no,树种,Planted On\n001,银杏,2026-01-02\n002,,2026-01-03\n,,\n003,oak\n", encoding="utf-8")
    return file


def test_the_shipped_catalogue_is_checked_by_default() -> None:
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "9 datasets of 9 departments pass their check\n")


def test_findings_fail_the_check(tmp_path: Path) -> None:
    result = run("check", write_catalogue(tmp_path, entry=ENTRY.replace("key: [tree_no]", "key: [tree_nr]")))
    assert isinstance(result.exception, CheckFailed)
    assert result.exception.findings == ("parks/trees.yaml:8: key[0]: tree_nr is no field; did you mean tree_no?",)


def test_a_folder_is_listed_with_keys_and_terms(tmp_path: Path) -> None:
    result = run("list", write_catalogue(tmp_path))
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("parks.trees", "树木", "Trees", "tree_no", "unconditional", "daily"))


def test_the_listing_as_json_has_entries_and_the_directory(tmp_path: Path) -> None:
    listed = json.loads(run("list", write_catalogue(tmp_path), "--json").stdout)
    assert [(entry["id"], entry["directory"]["提供方"]) for entry in listed] == [("parks.trees", "园林局")]


def test_a_draft_is_printed_and_its_assumptions_told(trees: Path) -> None:
    result = run("infer", trees)
    assert result.exit_code == 0
    assert "# parks/trees.yaml\nid: parks.trees\n" in result.stdout
    assert '# parks/trees.avsc\n{\n  "type": "record",\n  "name": "trees",\n' in result.stdout
    assert "#   tree_no\n" in result.stdout
    assert "key: []\n" in result.stdout
    assert "assumed: 1 row entirely empty" in result.stderr
    assert "rows left out, having more or fewer cells than headings: 1" in result.stderr


def test_a_draft_with_its_key_passes_the_check(tmp_path: Path, trees: Path) -> None:
    into = tmp_path / "catalogue"
    assert run("infer", trees, "--key", "tree_no", "--into", into).exit_code == 0
    assert run("check", into).exit_code == 0


def test_a_draft_takes_the_place_of_nothing(tmp_path: Path, trees: Path) -> None:
    into = tmp_path / "catalogue"
    run("infer", trees, "--into", into)
    before = (into / "parks" / "trees.yaml").read_text(encoding="utf-8")
    again = run("infer", trees, "--key", "tree_no", "--into", into)
    assert isinstance(again.exception, ConfigurationError)
    assert (into / "parks" / "trees.yaml").read_text(encoding="utf-8") == before


def test_a_file_can_be_drafted_for_another_dataset(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text("a\n1\n", encoding="utf-8")
    assert isinstance(run("infer", file).exception, ConfigurationError)
    result = run("infer", file, "--department", "parks", "--dataset", "benches", "--key", "a")
    assert "id: parks.benches\n" in result.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,a\n1,2\n", "two columns have the heading 'a'"),
        ("树\n1\n".encode("gb18030"), "is not UTF-8"),
        (b'a\n"1\n', "is no CSV"),
        (b"", "the file has no column"),
        (b"a,,c\n1,2,3\n", "column 2 has no heading"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "parks.trees.csv"
    file.write_bytes(content)
    result = run("infer", file)
    assert isinstance(result.exception, ConfigurationError)
    assert said in str(result.exception)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in str(run("infer", tmp_path / "parks.trees.csv").exception)


@needs_chicago
def test_a_draft_of_real_records_passes_the_check(tmp_path: Path) -> None:
    file = FOLDER / "streets_sanitation.sanitation_complaints.csv"
    result = run("infer", file, "--key", "service_request_number", "--into", tmp_path)
    assert "assumed: 176 rows repeating a key: the last row of each stays" in result.stderr
    assert run("check", tmp_path).exit_code == 0


def test_the_shipped_catalogue_holds_every_dataset_of_both_cities() -> None:
    listed = json.loads(run("list", shipped_catalogue(), "--json").stdout)
    assert {entry["id"] for entry in listed} >= {
        "business_affairs.business_licenses",
        "business_affairs.license_register",
        "public_health.food_inspections",
        "streets_sanitation.sanitation_complaints",
        "market.enterprises",
        "construction.permits",
        "public_security.residents",
        "emergency.inspections",
        "citizen_services.petitions",
    }
