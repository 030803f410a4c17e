"""Which rows of a frame break a rule, against the rules read one value at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.names import DatasetId
from civicbus.reasons import Reason
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import (
    Classification,
    Dataset,
    Field,
    Listing,
    Quality,
    Sharing,
    Title,
    UpdateCycle,
)
from civicbus.schemas.quality import QualityRules, Violation, pattern_fault
from support.entries import write_catalogue

TITLE = Title(zh="名称", en="Name")


def dataset(type_: object, **rules: object) -> Dataset:
    """A dataset with one field ``x`` beside its key."""
    fields = [{"name": "id", "type": "int"}, {"name": "x", "type": ["null", type_], "default": None}]
    record = {"type": "record", "name": "things", "namespace": "civicbus.parks", "fields": fields}
    return Dataset(
        id=DatasetId.parse("parks.things"),
        title=TITLE,
        listing=Listing(abstract=TITLE),
        key=("id",),
        fields=(
            Field(name="id", title=TITLE, classification=Classification.PUBLIC),
            Field(name="x", title=TITLE, classification=Classification.PUBLIC, quality=Quality(**rules)),
        ),
        schemas=(AvroSchema.parse(json.dumps(record)),),
        sharing=Sharing.UNCONDITIONAL,
        update_cycle=UpdateCycle.DAILY,
    )


def broken(values: list[object], dtype: pl.DataType, of: Dataset) -> list[tuple[int, Reason]]:
    frame = pl.DataFrame({"id": range(len(values)), "x": pl.Series(values, dtype=dtype)})
    return [(one.row, one.reason) for one in QualityRules(of).violations(frame)]


@pytest.mark.parametrize(
    ("rules", "reason", "kept", "refused"),
    [
        ({"required": True}, Reason.QUALITY_REQUIRED, ["a", " "], [None, ""]),
        ({"pattern": "a|b"}, Reason.QUALITY_PATTERN, ["a", "b", None], ["ab", "ca", "a\n", "\na", ""]),
        ({"pattern": "(?i)a+"}, Reason.QUALITY_PATTERN, ["A", "aA"], ["b"]),
        ({"pattern": "[一-龥]+"}, Reason.QUALITY_PATTERN, ["银杏"], ["x银杏"]),
        ({"allowed": ("a", "b")}, Reason.QUALITY_ALLOWED, ["a", "b", None], ["A", "", "ab"]),
        ({"min_length": 2}, Reason.QUALITY_LENGTH, ["银杏", "ab", None], ["a", "", "树"]),
        ({"max_length": 2}, Reason.QUALITY_LENGTH, ["银杏", "", None], ["abc", "银杏树"]),
    ],
)
def test_a_rule_for_text_refuses_what_breaks_it(
    rules: dict[str, object], reason: Reason, kept: list[object], refused: list[object]
) -> None:
    found = broken([*kept, *refused], pl.String(), dataset("string", **rules))
    assert found == [(row, reason) for row in range(len(kept), len(kept) + len(refused))]


@pytest.mark.parametrize(
    ("type_", "dtype", "kept", "refused"),
    [
        ("int", pl.Int32(), [1, 3, None], [0, 4]),
        ("long", pl.Int64(), [1, 3, None], [0, 2**62]),
        ("double", pl.Float64(), [1.0, 3.0, None], [0.999, 3.001, float("nan"), float("inf"), float("-inf")]),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
            pl.Decimal(6, 2),
            [1, 3, None],
            [0, 4],
        ),
    ],
)
def test_a_range_refuses_what_lies_outside(
    type_: object, dtype: pl.DataType, kept: list[object], refused: list[object]
) -> None:
    both = set(broken([*kept, *refused], dtype, dataset(type_, minimum=1, maximum=3)))
    assert both == {(row, Reason.QUALITY_RANGE) for row in range(len(kept), len(kept) + len(refused))}


def test_a_nan_lies_in_no_half_open_range() -> None:
    assert broken([float("nan")], pl.Float64(), dataset("double", minimum=1)) == [(0, Reason.QUALITY_RANGE)]
    assert broken([float("nan")], pl.Float64(), dataset("double", maximum=1)) == [(0, Reason.QUALITY_RANGE)]


def test_a_missing_day_breaks_only_required() -> None:
    of = dataset({"type": "int", "logicalType": "date"}, required=True)
    assert broken([None], pl.Date(), of) == [(0, Reason.QUALITY_REQUIRED)]


def test_violations_stand_in_order_of_rows_then_fields(tmp_path: Path) -> None:
    trees = load_catalogue(write_catalogue(tmp_path)).datasets[DatasetId.parse("parks.trees")]
    frame = pl.DataFrame(
        {
            "tree_no": ["T0001", "x", "T0003"],
            "species": ["oak", "pine", "lime"],
            "height_m": [500.0, -1.0, 3.0],
            "planted_on": pl.Series([None, None, None], dtype=pl.Date),
        }
    )
    assert QualityRules(trees).violations(frame) == [
        Violation(row=0, reason=Reason.QUALITY_RANGE, field="height_m"),
        Violation(row=1, reason=Reason.QUALITY_PATTERN, field="tree_no"),
        Violation(row=1, reason=Reason.QUALITY_ALLOWED, field="species"),
        Violation(row=1, reason=Reason.QUALITY_RANGE, field="height_m"),
    ]


def test_an_empty_frame_breaks_nothing() -> None:
    assert broken([], pl.String(), dataset("string", required=True)) == []


@pytest.mark.parametrize("pattern", ["[", "(?=a)", "a)|(?:b", r"(a)\1", "(?x) a # comment", "(.{500}){500}"])
def test_a_pattern_that_cannot_be_used_says_why(pattern: str) -> None:
    assert pattern_fault(pattern)


TEXTS = st.none() | st.text(alphabet="ab1树\n ", max_size=5)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "required": st.booleans(),
        "pattern": st.sampled_from(["a*", "[ab]+|1", r"\S+", ".", "树?"]),
        "allowed": st.lists(st.sampled_from(["a", "ab", "树"]), min_size=1, unique=True).map(tuple),
        "min_length": st.integers(0, 3),
        "max_length": st.integers(0, 3),
    },
)


def by_value(text: str | None, rules: Quality) -> Iterator[Reason]:
    if rules.required and not text:
        yield Reason.QUALITY_REQUIRED
    if text is None:
        return
    if rules.pattern is not None and not re.fullmatch(rules.pattern, text):
        yield Reason.QUALITY_PATTERN
    if rules.allowed is not None and text not in rules.allowed:
        yield Reason.QUALITY_ALLOWED
    if rules.min_length is not None and len(text) < rules.min_length:
        yield Reason.QUALITY_LENGTH
    if rules.max_length is not None and len(text) > rules.max_length:
        yield Reason.QUALITY_LENGTH


@given(st.lists(TEXTS, max_size=12), RULES)
def test_columns_and_single_values_break_the_same_rules(values: list[str | None], rules: dict[str, object]) -> None:
    expected = [(row, reason) for row, text in enumerate(values) for reason in by_value(text, Quality(**rules))]
    assert broken(values, pl.String(), dataset("string", **rules)) == expected


def test_the_shipped_rules_can_all_be_evaluated() -> None:
    for one in load_catalogue(shipped_catalogue()).datasets.values():
        empty = {field.name: [None] for field in one.fields}
        dtypes = {
            f.name: pl.String for f in one.fields if f.quality.pattern or f.quality.allowed or f.quality.max_length
        }
        frame = pl.DataFrame(empty, schema_overrides=dtypes)
        required = {field.name for field in one.fields if field.quality.required}
        blank = frame.cast(dict.fromkeys(required, pl.String))
        assert {found.field for found in QualityRules(one).violations(blank)} == required
