"""The rules for Chicago's datasets against every real row: what is refused, and what a subscriber's table holds."""

import polars as pl
import pytest

from civicbus.names import DatasetId
from civicbus.reasons import Reason
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Dataset
from civicbus.schemas.quality import QualityRules
from civicbus.schemas.sql.types import field_types
from support.chicago import needs_chicago, texts

pytestmark = needs_chicago

DTYPES = {"INTEGER": pl.Int32, "DOUBLE": pl.Float64, "VARCHAR": pl.String}


def dataset(name: str) -> Dataset:
    return load_catalogue(shipped_catalogue()).datasets[DatasetId.parse(name)]


def typed(of: Dataset) -> pl.DataFrame:
    """The rows of a dataset's file, by field, in the types of its schema; any value that does not fit raises."""
    frame = texts(of.file).rename(of.columns(), strict=False)
    types = {name: str(found.type) for name, found in field_types(of.schema.record).items()}
    return frame.select(
        pl.col(name).str.to_date("%Y-%m-%d") if type_ == "DATE" else pl.col(name).cast(DTYPES[type_])
        for name, type_ in types.items()
    )


@pytest.mark.parametrize(
    ("name", "rows", "without_key", "table"),
    [
        ("business_affairs.business_licenses", 15_515, 1, 15_514),
        ("business_affairs.license_register", 15_515, 1, 11_033),
        ("public_health.food_inspections", 17_823, 0, 17_823),
        ("streets_sanitation.sanitation_complaints", 55_343, 0, 55_167),
    ],
)
def test_only_the_row_without_a_key_is_refused(name: str, rows: int, without_key: int, table: int) -> None:
    of = dataset(name)
    frame = typed(of)
    keyed = frame.drop_nulls(of.key)
    assert frame.height == rows
    assert frame.height - keyed.height == without_key
    assert QualityRules(of).violations(keyed) == []
    assert keyed.n_unique(of.key) == table


def test_the_row_without_a_key_is_entirely_empty() -> None:
    of = dataset("business_affairs.business_licenses")
    empty = typed(of).filter(pl.col("license_record_id").is_null())
    assert set(empty.row(0)) == {None}
    assert {found.reason for found in QualityRules(of).violations(empty)} == {Reason.QUALITY_REQUIRED}


def test_fields_that_cannot_be_null_are_never_null() -> None:
    for of in load_catalogue(shipped_catalogue()).datasets.values():
        if of.id.department in {"business_affairs", "public_health", "streets_sanitation"}:
            keyed = typed(of).drop_nulls(of.key)
            required = [name for name, type_ in field_types(of.schema.record).items() if not type_.nullable]
            assert keyed.select(required).null_count().row(0) == (0,) * len(required)


def test_no_two_terms_of_a_licence_begin_on_one_day() -> None:
    register = dataset("business_affairs.license_register")
    terms = typed(register).drop_nulls("license_number")
    assert register.order_by == ("term_start",)
    assert terms.n_unique(["license_number", "term_start"]) == terms.height
    assert terms.group_by("license_number").len().filter(pl.col("len") > 1).height == 4_395
