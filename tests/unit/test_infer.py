"""What a draft assumes of a file's columns, and that it passes the check once its key is named."""

from pathlib import Path

import polars as pl
import pytest

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId
from civicbus.schemas.catalogue_files import load_catalogue, read_catalogue, shipped_catalogue
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.compatibility import type_text
from civicbus.schemas.datasets import Classification
from civicbus.schemas.infer import Draft, draft
from support.chicago import needs_chicago, texts

TREES = DatasetId.parse("parks.trees")


def drafted(columns: dict[str, list[str | None]], *key: str, of: DatasetId = TREES) -> Draft:
    return draft(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), of, key)


def kind(values: list[str | None], heading: str = "x") -> str:
    """The type that a column is drafted with."""
    keys = [str(number) for number in range(len(values))]
    schema = AvroSchema.parse(drafted({"tree_no": keys, heading: values}).schema)
    return type_text(schema.record.fields[1].type)


def written(one: Draft, folder: Path) -> Path:
    department = folder / one.dataset.department
    department.mkdir(parents=True, exist_ok=True)
    (department / f"{one.dataset.name}.yaml").write_text(one.entry, encoding="utf-8")
    (department / f"{one.dataset.name}.avsc").write_text(one.schema, encoding="utf-8")
    (department / "department.yaml").write_text(one.department, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "-20"], "int"),
        (["1", None], "int or null"),
        (["1", ""], "int or null"),
        (["2147483648"], "long"),
        (["9" * 25], "string"),
        (["1.5", "2"], "double"),
        (["1e5"], "double"),
        (["0.5", "0"], "double"),
        (["007", "12"], "string"),
        (["00.5"], "string"),
        (["+1"], "string"),
        (["1,000"], "string"),
        (["2026-02-28", "1999-12-31"], "date"),
        (["2026-02-30"], "string"),
        (["2026-2-3"], "string"),
        (["28/02/2026"], "string"),
        (["2026-02-28T10:00:00Z", "2026-02-28 10:00:00.5+08:00"], "timestamp-micros"),
        (["2026-02-28T10:00:00"], "string"),
        (["true", "false"], "boolean"),
        (["yes", "no"], "string"),
        ([None, None], "string or null"),
        (["a", " 1"], "string"),
    ],
)
def test_a_column_gets_the_narrowest_type_that_keeps_its_values(values: list[str | None], type_: str) -> None:
    assert kind(values) == type_


@pytest.mark.parametrize(
    "heading", ["zip_code", "permit_no", "ward", "LEI", "licenceNumber", "phone", "许可证编号", "手机"]
)
def test_digits_that_name_something_stay_text(heading: str) -> None:
    assert kind(["12", "13"], heading) == "string"


@pytest.mark.parametrize("heading", ["violations", "height", "notes", "anode", "数量"])
def test_digits_that_count_something_are_numbers(heading: str) -> None:
    assert kind(["12", "13"], heading) == "int"


def test_a_draft_passes_the_check_once_its_key_is_named(tmp_path: Path) -> None:
    columns = {
        "树号": ["001", "002", None],
        "Planted On": ["2026-01-01", None, None],
        "no": ["a: b", "#c", None],
        "申请人手机": ["13800000000", "13900000000", None],
        'odd "quoted" \\ heading': ["1", "2", None],
    }
    one = drafted(columns, "树号")
    catalogue = load_catalogue(written(one, tmp_path))
    dataset = catalogue.datasets[TREES]
    assert dataset.key == ("field_1",)
    assert set(columns) <= dataset.columns().keys()
    assert [field.name for field in dataset.fields] == ["field_1", "planted_on", "no", "field_4", "odd_quoted_heading"]
    assert dataset.fields[3].classification is Classification.PERSONAL
    assert "1 row entirely empty: refused, having no key" in one.assumptions


def test_a_draft_without_a_key_names_candidates_and_does_not_pass(tmp_path: Path) -> None:
    one = drafted({"height": ["1", "2"], "tree_no": ["a", "b"], "species": ["oak", "oak"]})
    assert "#   tree_no\n#   height\nkey: []" in one.entry
    assert [finding.location for finding in read_catalogue(written(one, tmp_path))[1]] == [("key",)]


def test_two_columns_that_name_a_row_together_are_a_candidate() -> None:
    one = drafted({"street": ["a", "a", "b", "b"], "house": ["1", "2", "1", "2"]})
    assert "#   street, house\n" in one.entry


def test_a_key_is_never_null_and_never_a_fraction(tmp_path: Path) -> None:
    one = drafted({"x": ["1.5", None, "1.5"], "y": ["a", "b", "c"]}, "x")
    assert load_catalogue(written(one, tmp_path)).datasets[TREES].key == ("x",)
    assert "1 row without a key: refused" in one.assumptions
    assert "1 row repeating a key: the last row of each stays" in one.assumptions


@pytest.mark.parametrize("heading", ["", "a\nb", "x" * 501])
def test_a_heading_that_cannot_be_used_is_named(heading: str) -> None:
    with pytest.raises(ConfigurationError, match="column 2"):
        drafted({"a": ["1"], heading: ["2"]})


def test_a_key_that_is_no_column_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="has no column tree_nr — name one of tree_no"):
        drafted({"tree_no": ["1"]}, "tree_nr")


def test_assumptions_hold_no_values() -> None:
    said = " ".join(drafted({"name": ["Zhang Wei", None], "phone": ["13812345678", "007"]}).assumptions)
    assert "Zhang" not in said
    assert "138" not in said


@needs_chicago
@pytest.mark.parametrize(
    "name",
    [
        "business_affairs.business_licenses",
        "public_health.food_inspections",
        "streets_sanitation.sanitation_complaints",
    ],
)
def test_the_drafts_of_real_files_have_the_types_of_their_entries(name: str) -> None:
    shipped = load_catalogue(shipped_catalogue()).datasets[DatasetId.parse(name)]
    one = AvroSchema.parse(draft(texts(shipped.file), shipped.id, shipped.key).schema)

    def types(schema: AvroSchema) -> dict[str, str]:
        return {field.name: type_text(field.type).removesuffix(" or null") for field in schema.record.fields}

    assert types(one) == types(shipped.schema)


@needs_chicago
def test_the_key_of_a_real_file_is_among_its_candidates() -> None:
    def entry(name: str) -> str:
        return draft(texts(f"{name}.csv"), DatasetId.parse(name)).entry

    assert "#   inspection_id\nkey: []" in entry("public_health.food_inspections")
    assert "#   license_record_id\n" in entry("business_affairs.business_licenses")
    assert "#   service_request_number (176 rows repeating" in entry("streets_sanitation.sanitation_complaints")
    assert "#   none: no column or pair" in entry("public_health.inspection_visits")
