"""What an evaluation of several views does beside what each SELECT says."""

from __future__ import annotations

import pyarrow as pa
import pytest

from civicbus.errors import CheckFailed
from civicbus.schemas.agreement import KeyMode
from civicbus.schemas.views import View, check
from civicbus.stream_apps.views import expressions
from civicbus.stream_apps.views.evaluate import Evaluation, Result
from support.samples import agreement, catalogue, permits

FRAME = pa.record_batch(
    {
        "permit_no": ["1", "2", "3", "4"],
        "status": ["approved", "closed", None, "approved"],
        "score": pa.array([1, 2**31 - 1, 3, None], pa.int32()),
        "phone": ["13800000001", "", None, "许可"],
    }
)


def view(number: int, select: str, **changes: object) -> View:
    wanted = agreement(
        f"view_{number}", f"{select} {'' if 'FROM' in select else 'FROM construction.permits'}", **changes
    )
    return check(wanted, catalogue(permits()))


def evaluated(*selects: str, frame: pa.RecordBatch = FRAME) -> list[Result]:
    return Evaluation([view(number, select) for number, select in enumerate(selects)], {})(frame)


def keys_of(result: Result) -> list[str]:
    return result.rows.column("permit_no").to_pylist()


def test_each_view_has_its_own_rows_and_columns() -> None:
    approved, scored, everything = evaluated(
        "SELECT permit_no, status FROM construction.permits WHERE status = 'approved'",
        "SELECT permit_no, score * 2 AS twice FROM construction.permits WHERE score < 5",
        "SELECT permit_no, mask(phone, 3, 4) AS phone FROM construction.permits",
    )
    assert approved.rows.to_pylist() == [
        {"permit_no": "1", "status": "approved"},
        {"permit_no": "4", "status": "approved"},
    ]
    assert scored.rows.to_pylist() == [{"permit_no": "1", "twice": 2}, {"permit_no": "3", "twice": 6}]
    assert everything.rows.column("phone").to_pylist() == ["138****0001", "", None, "**"]
    assert everything.passes.tolist() == [True] * 4


def test_a_field_may_be_shown_under_two_names() -> None:
    (result,) = evaluated("SELECT permit_no, status, status AS state FROM construction.permits WHERE status = 'closed'")
    assert result.rows.to_pylist() == [{"permit_no": "2", "status": "closed", "state": "closed"}]


@pytest.mark.parametrize("others", [0, 50])
def test_a_view_sees_its_rows_however_many_views_stand_beside_it(others: int) -> None:
    """Conditions are pruned by the values of a batch only where there are several."""
    selects = [
        f"SELECT permit_no FROM construction.permits WHERE status = 'none{n}' AND score > 0" for n in range(others)
    ]
    wanted = [
        ("status = 'approved'", ["1", "4"]),
        ("status IN ('closed', 'none', NULL) AND score > 3", ["2"]),
        ("status = 'approved' OR score = 3", ["1", "3", "4"]),
        ("status <> 'approved'", ["2"]),
        ("NOT status = 'approved'", ["2"]),
        ("status IS NULL", ["3"]),
        ("status = NULL", []),
        ("score IN (1, 2147483647)", ["1", "2"]),
        ("score = 1 AND status = 'closed'", []),
        ("score = 3000000000", []),
        ("TRUE", ["1", "2", "3", "4"]),
        ("NULL", []),
    ]
    selects += [f"SELECT permit_no FROM construction.permits WHERE {condition}" for condition, _ in wanted]
    results = evaluated(*selects)
    assert [keys_of(result) for result in results] == [[]] * others + [keys for _, keys in wanted]
    assert [len(result.passes) for result in results] == [FRAME.num_rows] * len(results)


def test_no_rows_are_no_rows() -> None:
    (result,) = evaluated(
        "SELECT permit_no, score + 1 AS s FROM construction.permits WHERE score > 1", frame=FRAME.slice(0, 0)
    )
    assert (result.rows.num_rows, len(result.passes)) == (0, 0)


def test_a_view_of_constants_has_a_row_for_each_record() -> None:
    constant = view(0, "SELECT 'x' AS mark, 1 + 1 AS two", key=KeyMode.HASHED)
    (result,) = Evaluation([constant], {})(FRAME)
    assert result.rows.to_pylist() == [{"mark": "x", "two": 2}] * 4


def test_calculations_that_overflow_are_null_and_counted() -> None:
    (result,) = evaluated("SELECT permit_no, score + 1 AS more, 10 // (score - 1) AS part FROM construction.permits")
    assert result.rows.column("more").to_pylist() == [2, None, 4, None]
    assert result.rows.column("part").to_pylist() == [None, 0, 5, None]
    assert result.overflows == 2


def test_two_agreements_hash_apart() -> None:
    views = [view(number, "SELECT permit_no, hash(phone) AS phone") for number in (0, 1)]
    first, second = Evaluation(views, {views[0].agreement: b"one", views[1].agreement: b"two"})(FRAME)
    assert set(first.rows.column("phone").to_pylist()) & set(second.rows.column("phone").to_pylist()) == {None}


def test_conditions_that_hash_are_one_agreements_own() -> None:
    """The same WHERE under another key is another condition."""
    digest = "09c6a1a0ac9f9ac1c9a4b6bd8a9e3d6fd5b4a6a7d6bb2ddd04cc4f6e5a1ac0a1"
    views = [
        view(number, f"SELECT permit_no FROM construction.permits WHERE hash(phone) <> '{digest}'") for number in (0, 1)
    ]
    results = Evaluation(views, {views[0].agreement: b"one", views[1].agreement: b"two"})(FRAME)
    assert [keys_of(result) for result in results] == [["1", "2", "4"]] * 2


def test_a_batch_on_which_polars_fails_is_evaluated_by_duckdb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(expressions.COMPILED, "upper", lambda _, operands: operands[0].str.to_date(strict=True))
    (result,) = evaluated("SELECT permit_no, upper(status) AS status FROM construction.permits WHERE score < 5")
    assert result.rows.to_pylist() == [{"permit_no": "1", "status": "APPROVED"}, {"permit_no": "3", "status": None}]
    assert result.passes.tolist() == [True, False, True, False]


def test_a_key_that_is_missing_is_found_before_any_row_comes() -> None:
    with pytest.raises(KeyError):
        Evaluation([view(0, "SELECT permit_no, hash(phone) AS phone")], {})


def test_what_is_refused_is_refused_before_it_is_evaluated() -> None:
    with pytest.raises(CheckFailed):
        view(0, "SELECT permit_no, phone + 1 AS more")
