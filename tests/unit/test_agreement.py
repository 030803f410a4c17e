"""The agreement as a document: what a file may say, where its faults are, and that it travels unchanged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from civicbus.cli.agreements import app
from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.schemas.agreement import Agreement, KeyMode, load_agreement, load_agreements
from civicbus.schemas.catalogue_files import shipped_agreements
from support.samples import agreement

TEXT = """\
id: approved_permits
subscriber: market
purpose:
  zh: 核验施工许可
  en: To check building permits
legal_basis: Example for trials; states no law
owner_consents:
  - {department: construction, by: The head of the office, date: 2026-01-05}
valid_from: 2026-01-01
valid_until: 2035-12-31
delivery: {table: true}
freshness_s: 5
key: hashed
select: |
  SELECT permit_no
  FROM   construction.permits
"""


def written(folder: Path, text: str = TEXT, name: str = "one.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def findings(path: Path) -> list[str]:
    with pytest.raises(CheckFailed) as fault:
        load_agreement(path)
    return [finding.removeprefix(f"{path}:") for finding in fault.value.findings]


def test_a_file_says_who_receives_what_and_until_when(tmp_path: Path) -> None:
    found = load_agreement(written(tmp_path))
    assert (found.id, found.subscriber, found.topic) == ("approved_permits", "market", "inbox.market.approved_permits")
    assert found.owner_consents[0].date == date(2026, 1, 5)
    assert (found.valid_from, found.valid_until) == (date(2026, 1, 1), date(2035, 12, 31))
    assert (found.key, found.delivery.table, found.freshness_s) == (KeyMode.HASHED, True, 5)
    assert found.select == "SELECT permit_no\nFROM   construction.permits\n"


def test_what_may_be_left_out_has_its_default(tmp_path: Path) -> None:
    short = "".join(
        line for line in TEXT.splitlines(keepends=True) if not line.startswith(("key", "delivery", "fresh"))
    )
    found = load_agreement(written(tmp_path, short))
    assert (found.key, found.delivery.table, found.freshness_s) == (KeyMode.RECORD, False, 60)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("id: approved_permits", "id: Approved", "1: id: 'Approved' is no valid name"),
        ("subscriber: market\n", "", "1: subscriber: is missing; add it"),
        ("subscriber: market", "subscriber: platform", "2: subscriber: 'platform' is a reserved name"),
        ("freshness_s: 5", "freshness_s: soon", "12: freshness_s: Input should be a valid integer"),
        ("freshness_s: 5", "freshness_s: 0", "12: freshness_s: Input should be greater than or equal to 1"),
        ("valid_until: 2035-12-31", "valid_until: soon", "10: valid_until: Input should be a valid date"),
        ("key: hashed", "key: masked", "13: key: Input should be 'record' or 'hashed'"),
        ("table: true", "table: true, webhook: x", "11: delivery.webhook: is no key here"),
        ("freshness_s: 5", "freshnes: 5", "12: freshnes: is no key here; remove it or correct its spelling"),
        ("legal_basis: Example", "legal_basis: &a Example", "6: has an anchor or alias"),
        ("subscriber: market", "id: market", "2: id: is given twice"),
        ("by: The head of the office", "by: ''", "8: owner_consents[0].by: "),
    ],
)
def test_a_fault_is_told_with_its_line_and_its_mend(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = findings(written(tmp_path, TEXT.replace(old, new)))
    assert any(finding.startswith(expected) for finding in found), found


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    assert "cannot be read" in findings(tmp_path / "absent.yaml")[0]
    assert "is no YAML" in findings(written(tmp_path, "id: [\n"))[0]


def test_every_file_below_a_folder_is_read_and_an_id_is_given_once(tmp_path: Path) -> None:
    written(tmp_path, name="market/one.yaml")
    written(tmp_path, TEXT.replace("approved_permits", "another"), name="health/two.yaml")
    assert [found.id for found in load_agreements([tmp_path])] == ["another", "approved_permits"]
    written(tmp_path, name="three.yaml")
    with pytest.raises(CheckFailed, match=r"three\.yaml: approved_permits is the id of .* too; give each"):
        load_agreements([tmp_path])


def test_an_agreement_travels_unchanged_and_equal_ones_are_equal_bytes(tmp_path: Path) -> None:
    found = load_agreement(written(tmp_path))
    assert Agreement.from_json(found.to_json()) == found
    assert Agreement.from_json(found.to_json()).to_json() == found.to_json()
    assert json.loads(found.to_json())["owner_consents"][0]["date"] == "2026-01-05"


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"id": "x", "clock": 1}', b"\xff"])
def test_a_document_on_the_topic_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"a document on platform\.agreements is no agreement"):
        Agreement.from_json(text)


def test_the_command_says_what_passes_and_exits_accordingly(tmp_path: Path) -> None:
    shipped = CliRunner().invoke(app, ["check", str(shipped_agreements())])
    assert shipped.exit_code == 0
    assert "approved_permits.yaml: approved_permits passes" in shipped.stdout
    wrong = written(tmp_path, TEXT.replace("permit_no", "permit"))
    broken = written(tmp_path, "id: 5\n", name="two.yaml")
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{wrong}: select 1:8: there is no column permit; write permit_" in result.stdout
    assert f"{broken}:1: subscriber: is missing; add it" in result.stdout


def test_the_commands_json_has_every_finding_with_its_place(tmp_path: Path) -> None:
    written(tmp_path, TEXT.replace("permit_no", "permit_no, now() AS n"))
    (report,) = json.loads(CliRunner().invoke(app, ["check", "--json", str(tmp_path)]).stdout)
    (finding,) = report["findings"]
    assert (finding["line"], finding["column"]) == (1, 19)
    assert finding["mend"] == "write a constant or a column instead"
    (good,) = json.loads(CliRunner().invoke(app, ["check", "--json", str(written(tmp_path, TEXT))]).stdout)
    assert good["findings"] == []
    assert good["lineage"] == [
        {"dataset": "construction.permits", "field": "permit_no", "use": "shows", "column": "permit_no"}
    ]


def test_only_who_must_agree_is_asked() -> None:
    alone = replace(agreement("one", "SELECT 1"), owner_consents=())
    assert alone.consented(alone.subscriber)
    assert not alone.consented("construction")
