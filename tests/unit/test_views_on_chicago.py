"""Real records: each SELECT gives what DuckDB gives for the same words over the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import polars as pl
import pyarrow as pa
import pytest

from civicbus.names import DatasetId, department_id
from civicbus.schemas.agreement import Agreement, Consent, KeyMode, load_agreements
from civicbus.schemas.catalogue_files import load_catalogue, shipped_agreements, shipped_catalogue
from civicbus.schemas.codec.arrow import arrow_schema
from civicbus.schemas.sql.duckdb import SETTINGS, own_functions
from civicbus.schemas.views import check
from civicbus.stream_apps.views.evaluate import Evaluation
from support.chicago import needs_chicago, texts
from support.samples import agreement
from support.view_language import KEY, law, one_batch, plain

pytestmark = needs_chicago

INSPECTIONS = "public_health.food_inspections"
COMPLAINTS = "streets_sanitation.sanitation_complaints"
LICENSES = "business_affairs.business_licenses"
SELECTS = {
    "texts": f"""
        SELECT inspection_id, upper(trim(dba_name)) AS name, mask(address, 4, 0) AS address, hash(license_number) AS h,
               critical_violations + serious_violations + minor_violations AS violations
        FROM   {INSPECTIONS}
        WHERE  results IN ('Fail', 'Pass w/ Conditions') AND inspection_date >= '2012-01-01'""",
    "cases": f"""
        SELECT i.inspection_id, year(i.inspection_date) * 100 + month(i.inspection_date) AS month,
               CASE WHEN critical_violations > 1 THEN 'grave' WHEN serious_violations % 2 = 1 THEN 'odd' ELSE risk END
               AS rank, round(latitude, 3) AS latitude, CAST(longitude AS VARCHAR) AS longitude
        FROM   {INSPECTIONS} AS i
        WHERE  NOT risk LIKE 'Risk 1%' OR risk IS NULL""",
    "divisions": f"""
        SELECT inspection_id, minor_violations / critical_violations AS ratio, -minor_violations // 2 AS half
        FROM   {INSPECTIONS}""",
    "days": f"""
        SELECT service_request_number, completion_date - creation_date AS days, creation_date + 30 AS due,
               coalesce(nature_of_violation, '?') || ', ' || coalesce(ward, '?') AS what
        FROM   {COMPLAINTS}
        WHERE  completion_date > creation_date + 30 AND ward IS DISTINCT FROM '0'""",
    "numbers in texts": f"""
        SELECT service_request_number, CAST(zip_code AS INTEGER) AS zip, CAST(ward AS DOUBLE) * 1.5 AS w,
               substring(street_address, -8, 5) AS tail, length(street_address) AS size
        FROM   {COMPLAINTS}
        WHERE  ward BETWEEN '1' AND '3' OR starts_with(street_address, '4')""",
    "terms": f"""
        SELECT license_record_id, replace(lower(legal_name), 'inc.', 'incorporated') AS name,
               age_band(term_start, term_expiration, 2) AS term, nullif(zip_code, '0') AS zip,
               left(license_code, 2) AS kind
        FROM   {LICENSES}
        WHERE  legal_name LIKE '%_INC%' AND contains(address, ' ') AND term_expiration > DATE '2010-06-30'""",
    "places": f"""
        SELECT license_record_id, latitude
        FROM   {LICENSES}
        WHERE  latitude > 41.9 AND longitude < -87.7 AND police_district <> '1'""",
}


def wanted(name: str) -> Agreement:
    found = agreement("_".join(name.split()), SELECTS[name], key=KeyMode.HASHED)
    departments = {dataset.department for dataset in load_catalogue(shipped_catalogue()).datasets}
    consents = tuple(Consent(department=department, by="x", date=found.valid_from) for department in departments)
    return replace(found, subscriber=department_id("market"), owner_consents=consents)


def shipped() -> Iterator[Agreement]:
    files = {DatasetId.parse(name) for name in (INSPECTIONS, COMPLAINTS, LICENSES)}
    for one in load_agreements([shipped_agreements()]):
        view = check(one, load_catalogue(shipped_catalogue()))
        if view.driving in files and not view.joins:
            yield one


@cache
def rows(dataset: DatasetId) -> pa.Table:
    """The file's rows in the types of the dataset."""
    schema = arrow_schema(load_catalogue(shipped_catalogue()).datasets[dataset].schema)
    frame = texts(f"{dataset}.csv")
    typed = [
        frame.get_column(field.name).str.to_date(strict=False)
        if pa.types.is_date(field.type)
        else frame.get_column(field.name).cast(pl.Series(pa.array([], field.type)).dtype, strict=False)
        for field in schema
    ]
    return pl.DataFrame(typed).drop_nulls(schema[0].name).to_arrow()


@pytest.mark.parametrize("agreed", [*map(wanted, SELECTS), *shipped()], ids=lambda one: f"{one.subscriber}.{one.id}")
def test_a_select_gives_what_duckdb_gives_for_the_same_words(agreed: Agreement) -> None:
    view = check(agreed, load_catalogue(shipped_catalogue()))
    table = rows(view.driving)
    (result,) = Evaluation([view], {view.agreement: KEY})(one_batch(table))
    with law().cursor() as connection:
        for statement in (*SETTINGS, *own_functions(KEY)):
            connection.execute(statement)
        connection.register("records", table)
        words = agreed.select.replace("CAST(", "TRY_CAST(").replace(str(view.driving), "records")
        expected = connection.sql(words).to_arrow_table()
    assert result.rows.num_rows > 0
    assert {name: plain(result.rows.column(name)) for name in expected.column_names} == {
        name: plain(expected.column(name)) for name in expected.column_names
    }
