"""What a catalogue's folder may say, and how each fault in it is named: file, line, place and mend."""

import json
from pathlib import Path

import pytest

from civicbus.errors import CheckFailed, ConfigurationError, Unacceptable
from civicbus.names import DatasetId, DepartmentId
from civicbus.reasons import Reason
from civicbus.schemas.agreement import load_agreements
from civicbus.schemas.catalogue_files import load_catalogue, read_catalogue, shipped_agreements, shipped_catalogue
from civicbus.schemas.datasets import Dataset, SequenceRule, Sharing
from civicbus.schemas.directory import directory_entry
from civicbus.schemas.published import catalogue_of, rows_of
from civicbus.schemas.views import check
from support.entries import DEPARTMENT, ENTRY, SCHEMA, write_catalogue

TREES = DatasetId.parse("parks.trees")


def findings(folder: Path) -> list[str]:
    return [str(finding) for finding in read_catalogue(folder)[1]]


def trees(tmp_path: Path) -> Dataset:
    return load_catalogue(write_catalogue(tmp_path)).datasets[TREES]


def test_the_shipped_catalogue_passes_its_check() -> None:
    assert findings(shipped_catalogue()) == []


def test_every_shipped_agreement_lies_in_its_subscribers_folder() -> None:
    departments = load_catalogue(shipped_catalogue()).departments
    files = sorted(shipped_agreements().glob("*/*.yaml"))
    assert files
    for file in files:
        assert DepartmentId(file.parent.name) in departments
        assert f"id: {file.stem}\nsubscriber: {file.parent.name}\n" in file.read_text(encoding="utf-8")


def test_an_entry_says_what_its_file_says(tmp_path: Path) -> None:
    dataset = trees(tmp_path)
    assert (dataset.key, dataset.sharing, dataset.sequence) == (
        ("tree_no",),
        Sharing.UNCONDITIONAL,
        SequenceRule.REQUIRED,
    )
    assert (dataset.partitions, dataset.max_bytes, dataset.file) == (4, 2**20, "parks.trees.csv")
    assert [field.name for field in dataset.fields] == list(dataset.schema.field_names)


def test_the_published_form_is_the_same_catalogue() -> None:
    catalogue = load_catalogue(shipped_catalogue())
    rows = dict(rows_of(catalogue))
    again = catalogue_of(rows)
    assert (again.departments, again.datasets) == (catalogue.departments, catalogue.datasets)
    assert dict(rows_of(again)) == rows


def test_a_published_document_that_is_no_dataset_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="catalogue apply"):
        Dataset.from_json(b'{"id": "parks.trees"}')


def test_columns_go_by_name_title_or_header(tmp_path: Path) -> None:
    columns = trees(tmp_path).columns()
    assert {"planted_on", "栽种日期", "Planted on", "种植日"} == {
        column for column, field in columns.items() if field == "planted_on"
    }


def test_the_key_of_a_row_is_its_canonical_text(tmp_path: Path) -> None:
    assert trees(tmp_path).key_of({"tree_no": "T0001", "species": "oak"}) == b"T0001"


@pytest.mark.parametrize("row", [{}, {"tree_no": None}, {"tree_no": ""}])
def test_a_row_without_its_key_names_the_field(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(Unacceptable) as refused:
        trees(tmp_path).key_of(row)
    assert (refused.value.reason, refused.value.field) == (Reason.KEY_MISSING, "tree_no")


def test_a_key_of_a_foreign_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unacceptable) as refused:
        trees(tmp_path).key_of({"tree_no": 1.5})
    assert (refused.value.reason, refused.value.field) == (Reason.BYTES, "tree_no")


def entry(old: str, new: str) -> str:
    assert old in ENTRY
    return ENTRY.replace(old, new, 1)


@pytest.mark.parametrize(
    ("spoilt", "line", "said"),
    [
        (entry("sharing:", "sharring:"), 6, "sharring: is no key here"),
        (entry("sharing: unconditional\n", ""), 1, "sharing: is missing; add it"),
        (entry("unconditional", "always"), 6, "'unconditional', 'conditional' or 'refused'"),
        (entry("id: parks.trees", "id: parks.shrubs"), 1, "is not parks.trees; write `id: parks.trees`"),
        (entry("id: parks.trees", "id: Parks.trees"), 1, "is no valid name"),
        (entry("id: parks.trees", "id: platform.trees"), 1, "reserved"),
        (entry("en: Trees}", "en: 12}"), 2, "title.en: is no text; put it in quotes"),
        (entry("en: Trees}", "en: ' Trees'}"), 2, "title.en"),
        (entry("key: [tree_no]", "key: tree_no"), 8, "key: is no list; write [a, b]"),
        (entry("key: [tree_no]", "key: []"), 8, "key: "),
        (entry("key: [tree_no]", "key: [tree_nr]"), 8, "tree_nr is no field; did you mean tree_no?"),
        (entry("key: [tree_no]", "key: [tree_no, tree_no]"), 8, "tree_no is named twice"),
        (entry("key: [tree_no]", "key: [height_m]"), 8, "height_m is double or null, which no key may be"),
        (entry("key: [tree_no]", "key: [species]"), 8, "species is string or null, which no key may be"),
        (entry("- name: species", "- name: spezies"), 14, "spezies is not in the .avsc; did you mean species?"),
        (entry("- name: species", "- name: tree_no"), 14, "tree_no is named twice"),
        (entry("T[0-9]{4}", "T[0-9"), 13, "fields[0].quality.pattern: is no regular expression here"),
        (entry("T[0-9]{4}", "(?=T)T.*"), 13, "look-around"),
        (entry("T[0-9]{4}", "a)|(b"), 13, "is no regular expression here"),
        (entry("allowed: [oak, lime, 银杏]", "allowed: []"), 17, "allows nothing"),
        (entry("allowed: [oak, lime, 银杏]", "allowed: [yes, no]"), 17, "fields[1].quality.allowed[0]: is no text"),
        (entry("allowed: [oak, lime, 银杏]", "minimum: 1"), 17, "fields[1].quality.minimum: does not apply to string"),
        (entry("maximum: 120", "maximum: -1"), 21, "fields[2].quality.minimum: is above the maximum"),
        (entry("minimum: 0", "pattern: a"), 21, "fields[2].quality.pattern: does not apply to double"),
        (entry("headers: [种植日]", "headers: [树种]"), 22, "the column name 树种 is also that of species"),
        (entry("classification: public", "classification: personal"), 5, "open to the public but tree_no is personal"),
        (
            entry("sharing: unconditional", "sharing: refused"),
            3,
            "listing.condition: is missing while sharing is refused",
        ),
        (entry("openness: open", "related: [parks.benches]"), 5, "parks.benches is not in this catalogue"),
        (ENTRY + "source: {file: a.csv, order_by: [age]}\n", 26, "source.order_by[0]: age is no field"),
        (ENTRY + "capture: {table: public.trees, columns: {specie: a}}\n", 26, "specie is no field; did you mean"),
        (ENTRY + "sequence: unused\ncapture: {table: public.trees}\n", 26, "sequence: a capture numbers its changes"),
        (ENTRY + "max_bytes: 4194305\n", 26, "max_bytes: "),
        (ENTRY + "partitions: 0\n", 26, "partitions: "),
        (ENTRY + "schemas: []\n", 26, "schemas: is no key here; name older schemas in former_schemas"),
        (ENTRY + "former_schemas: [../../secret.avsc]\n", 26, "is no .avsc file beside the entry"),
        (ENTRY + 'former_schemas: ["a\\0.avsc"]\n', 26, "is no .avsc file beside the entry"),
        (entry("maximum: 120", "maximum: .inf"), 21, "fields[2].quality.maximum: "),
        (entry("maximum: 120", "maximum: .nan"), 21, "fields[2].quality.maximum: "),
        (ENTRY + "former_schemas: trees.1.avsc\n", 26, "former_schemas: is no list"),
        (ENTRY + "id: parks.trees\n", 26, "id: is given twice"),
        (entry("title: {zh: 树木", "title: &a {zh: 树木"), 2, "has an anchor or alias; write it out"),
        (entry("en: Trees", "en: !!str Trees"), 2, "has a tag"),
        (entry("  openness: open", "\topenness: open"), 5, "is no YAML"),
        (entry("key: [tree_no]", "key: " + "[" * 40 + "]" * 40), 8, "is nested deeper than 30"),
        ("- a\n- b\n", 1, "is no mapping"),
        ("", 1, "is no mapping"),
    ],
)
def test_a_fault_is_named_with_its_line_and_its_mend(tmp_path: Path, spoilt: str, line: int, said: str) -> None:
    found = findings(write_catalogue(tmp_path, entry=spoilt))
    assert any(text.startswith(f"parks/trees.yaml:{line}: ") and said in text for text in found), found


def test_a_day_that_does_not_exist_is_a_finding(tmp_path: Path) -> None:
    found = findings(write_catalogue(tmp_path, entry=entry("openness: open", "published: 2026-02-30")))
    assert found == ["parks/trees.yaml: is no YAML: day is out of range for month"]


def test_every_fault_is_found_at_once(tmp_path: Path) -> None:
    spoilt = entry("key: [tree_no]", "key: [tree_nr]").replace("T[0-9]{4}", "[").replace("maximum: 120", "maximum: -1")
    assert len(findings(write_catalogue(tmp_path, entry=spoilt, department=None))) == 4


def test_an_unreadable_entry_is_not_reported_again_by_those_that_name_it(tmp_path: Path) -> None:
    other = ENTRY.replace("parks.trees", "parks.shrubs").replace("openness: open", "related: [parks.trees]")
    schema = SCHEMA.replace('"trees"', '"shrubs"')
    folder = write_catalogue(tmp_path, entry="id: [", shrubs__yaml=other, shrubs__avsc=schema)
    found = findings(folder)
    assert len(found) == 1
    assert found[0].startswith("parks/trees.yaml")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (None, "trees.avsc: cannot be read"),
        ("{", "trees.avsc: schema: it is no JSON"),
        (SCHEMA.replace('"trees"', '"tree"'), 'the Avro record is named civicbus.parks.tree; write "name": "trees"'),
        (SCHEMA.replace('"date"', '"dat"'), "the logical type dat is not applied"),
        (SCHEMA.replace('["null", "double"], "default": null', '["null", "double"]'), "height_m may be null"),
        (SCHEMA.replace('["null", "double"], "default": null', '["double", "null"]'), "height_m may be null"),
        (
            SCHEMA.replace('"string"], "default": null', '{"type": "array", "items": "string"}], "default": null'),
            "rows are flat",
        ),
        (SCHEMA.replace('"planted_on"', '"felled_on"'), "felled_on of the .avsc is missing; add it with its titles"),
    ],
)
def test_a_fault_in_a_schema_is_named(tmp_path: Path, schema: str | None, said: str) -> None:
    found = findings(write_catalogue(tmp_path, schema=schema))
    assert any(said in text for text in found), found


def test_a_former_schema_that_the_current_one_cannot_read_is_a_finding(tmp_path: Path) -> None:
    former = SCHEMA.replace('["null", "double"], "default": null', '"string"')
    folder = write_catalogue(tmp_path, entry=ENTRY + "former_schemas: [trees.1.avsc]\n", trees__1__avsc=former)
    assert [text for text in findings(folder) if "height_m" in text and "keep the type" in text]


def test_former_schemas_stand_before_the_current_one(tmp_path: Path) -> None:
    former = json.dumps(json.loads(SCHEMA) | {"fields": json.loads(SCHEMA)["fields"][:3]})
    folder = write_catalogue(tmp_path, entry=ENTRY + "former_schemas: [trees.1.avsc]\n", trees__1__avsc=former)
    dataset = load_catalogue(folder).datasets[TREES]
    assert [len(schema.field_names) for schema in dataset.schemas] == [3, 4]
    assert dataset.schema.field_names[-1] == "planted_on"


def test_a_key_whose_former_text_differs_is_a_finding(tmp_path: Path) -> None:
    former = SCHEMA.replace('"tree_no", "type": "string"', '"tree_no", "type": "bytes"')
    folder = write_catalogue(tmp_path, entry=ENTRY + "former_schemas: [trees.1.avsc]\n", trees__1__avsc=former)
    assert any("changes the keys of records" in text for text in findings(folder))


def test_a_file_that_no_entry_uses_is_a_finding(tmp_path: Path) -> None:
    folder = write_catalogue(tmp_path, trees__1__avsc=SCHEMA)
    assert findings(folder) == [
        "parks/trees.1.avsc: belongs to no dataset; remove it, or name it in an entry's former_schemas"
    ]


@pytest.mark.parametrize(
    ("department", "said"),
    [
        (None, "parks/department.yaml: cannot be read"),
        (DEPARTMENT.replace("id: parks", "id: park"), "is not parks; write `id: parks`"),
        (DEPARTMENT.replace("code: YL\n", ""), "code: is missing"),
        (DEPARTMENT + "boss: nobody\n", "boss: is no key here"),
    ],
)
def test_a_department_needs_its_own_file(tmp_path: Path, department: str | None, said: str) -> None:
    assert any(said in text for text in findings(write_catalogue(tmp_path, department=department)))


def test_bytes_that_are_no_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    folder = write_catalogue(tmp_path)
    (folder / "parks" / "trees.yaml").write_bytes(b"id: parks.trees\ntitle: {zh: " + "树".encode("gb18030"))
    assert "parks/trees.yaml:2: is not UTF-8; save it as UTF-8" in findings(folder)


def test_a_huge_document_is_not_read(tmp_path: Path) -> None:
    folder = write_catalogue(tmp_path, entry=ENTRY + "#" * 2**20)
    assert any("is larger than 1 MiB" in text for text in findings(folder))


def test_a_folder_without_departments_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="holds no department"):
        load_catalogue(tmp_path)
    with pytest.raises(CheckFailed, match="cannot be read"):
        load_catalogue(tmp_path / "nowhere")


def test_the_directory_speaks_the_national_terms() -> None:
    catalogue = load_catalogue(shipped_catalogue())
    permits = catalogue.datasets[DatasetId.parse("construction.permits")]
    shown = directory_entry(catalogue.departments[permits.id.department], permits)
    assert (shown["信息资源名称"], shown["共享类型"], shown["更新周期"]) == ("建筑工程施工许可", "有条件共享", "实时")
    assert shown["关联资源代码"] == ["market.enterprises"]
    assert {"信息项名称": "申请日期", "信息项代码": "submitted_on", "数据类型": "date"} in shown["信息项"]


def test_every_shipped_agreement_holds_over_the_shipped_catalogue() -> None:
    catalogue = load_catalogue(shipped_catalogue())
    folders = sorted(path for path in shipped_agreements().iterdir() if path.is_dir())
    agreements = load_agreements(folders)
    assert len(agreements) == len(list(shipped_agreements().glob("*/*.yaml")))
    for agreement in agreements:
        assert check(agreement, catalogue).topic == agreement.topic


def test_every_record_of_chicago_reaches_one_subscriber_whole() -> None:
    catalogue = load_catalogue(shipped_catalogue())
    views = [check(one, catalogue) for one in load_agreements([shipped_agreements() / "city_manager"])]
    chicago = {"business_affairs", "public_health", "streets_sanitation"}
    assert {view.driving for view in views} == {name for name in catalogue.datasets if name.department in chicago}
    for view in views:
        assert view.where is None
        assert tuple(column.name for column in view.columns) == catalogue.datasets[view.driving].schema.field_names
