"""The benchmarks count what they say they count: rows, plans, what should come out, and when an engine is done."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from benchmarks.bus import Found, digest_of
from benchmarks.measuring import Cpu, Reached, Seen, watch
from benchmarks.peers.task import PROJECT, Codec
from benchmarks.platform import catalogue
from benchmarks.rows import PERMIT_SCHEMA, Rows, permit
from benchmarks.workloads import THREE, Oracle, Plan, Workload, plan, selecting_nothing
from civicbus.errors import Unavailable
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.views import check
from civicbus.stream_apps.views.evaluate import Evaluation

ROWS = Rows.make(400, 40, 7)


def batch() -> pa.RecordBatch:
    return ColumnCodec(PERMIT_SCHEMA).decode_framed(ROWS.values).batch


def test_a_permit_has_15_fields_and_about_300_bytes_and_is_the_same_each_time() -> None:
    assert len(PERMIT_SCHEMA.field_names) == 15
    assert 280 < sum(map(len, ROWS.values)) / len(ROWS.values) < 320
    assert Rows.make(400, 40, 7) == ROWS


def test_the_sql_that_ours_runs_and_the_rules_that_python_peers_run_pass_the_same_rows() -> None:
    results = Evaluation([check(agreement, catalogue()) for agreement in THREE], {})(batch())
    rows = [permit(number, 40) for number in range(400)]
    for rule, result in zip(PROJECT, results, strict=True):
        assert result.passes.tolist() == [rule(row) for row in rows]
        assert 0.4 < result.passes.mean() < 0.6


def test_agreements_that_select_nothing_are_in_order_and_pass_no_row() -> None:
    agreements = selecting_nothing(50)
    results = Evaluation([check(agreement, catalogue()) for agreement in agreements], {})(batch())
    assert len({agreement.select for agreement in agreements}) == 50
    assert not any(result.passes.any() for result in results)


def test_in_both_sides_every_permit_is_either_there_before_or_measured() -> None:
    halves = plan(Workload.BOTH_SIDES, 400, 0, 40)
    assert sorted([*halves.warm, *halves.measured]) == list(range(400))
    assert {number % 40 for number in halves.warm} == set(halves.changing)
    assert halves.rows == 400


def oracle() -> tuple[Oracle, Plan, list[Found]]:
    """What should come of 300 rows after 100, and outputs that are exactly that."""
    views = [check(agreement, catalogue()) for agreement in THREE]
    encoders = [Codec(view.output.text, 9).encode for view in views]
    done = plan(Workload.PROJECT, 300, 100, 40)
    found = []
    for rule, encode in zip(PROJECT, encoders, strict=True):
        rows = [row for number in range(400) if rule(row := permit(number, 40))]
        digest = sum(digest_of(row["permit_no"].encode(), encode(row)) for row in rows) % 2**64
        found.append(Found(messages=len(rows), keys=len(rows), digest=digest, strange_headers=0))
    return Oracle(Workload.PROJECT, 400, 40, encoders), done, found


def test_an_output_is_right_when_every_row_is_there_and_wrong_when_one_is_not() -> None:
    judge, done, found = oracle()
    expected = judge.expected(done)
    assert [should.fault_of(each) for should, each in zip(expected, found, strict=True)] == [None] * 3
    right = found[0]
    for wrong in (
        Found(messages=right.messages, keys=right.keys - 1, digest=right.digest, strange_headers=0),
        Found(messages=right.messages, keys=right.keys, digest=right.digest + 1, strange_headers=0),
        Found(messages=right.messages - 1, keys=right.keys, digest=right.digest, strange_headers=0),
        Found(messages=right.messages, keys=right.keys, digest=right.digest, strange_headers=1),
    ):
        assert expected[0].fault_of(wrong) is not None


def test_before_anything_is_measured_only_the_warm_rows_are_expected() -> None:
    judge, done, _ = oracle()
    warm = judge.expected(replace(done, measured=range(0)))
    assert [each.keys for each in warm] == [sum(rule(permit(n, 40)) for n in range(300, 400)) for rule in PROJECT]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


def watched(looks: dict[float, Seen], settle_s: float = 1.0) -> Reached:
    """What is seen changes at these moments."""
    clock = Clock()

    def look() -> Seen:
        return looks[max(at for at in looks if at <= clock.now_s)]

    def cpu() -> Cpu:
        return Cpu(engine_s=clock.now_s / 2, broker_s=0.0)

    return watch(look, cpu, settle_s=settle_s, within_s=60, clock=lambda: clock.now_s, pause=clock.pause)


def test_an_engine_is_done_at_the_last_thing_that_became_visible() -> None:
    last = {0.0: Seen(passed=False, state=0), 3.0: Seen(passed=True, state=5), 3.5: Seen(passed=True, state=6)}
    reached = watched(last)
    assert reached.at_s == pytest.approx(3.5, abs=0.05)
    assert reached.cpu.engine_s == pytest.approx(1.75, abs=0.05)


def test_a_pause_of_an_engine_that_has_not_passed_its_input_is_no_end() -> None:
    reached = watched({0.0: Seen(passed=False, state=0), 9.0: Seen(passed=True, state=1)})
    assert reached.at_s == pytest.approx(9.0, abs=0.05)


def test_an_engine_that_never_ends_is_told() -> None:
    with pytest.raises(Unavailable, match="not done within 60 s"):
        watched({0.0: Seen(passed=False, state=0)})
