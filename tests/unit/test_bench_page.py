"""What a run has found stands on the page as it is: the good, the bad, and what was not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.latency import WHOLE_WAY
from benchmarks.page import as_json, text
from benchmarks.results import Latency, Restart, Run, Throughput
from benchmarks.targets import Figure, best_threads, figures, pairs
from benchmarks.workloads import Workload


def measured(engine: str, round_: int, rate: float, cpu_s: float, *, fault: str | None = None) -> Throughput:
    return Throughput(
        workload=Workload.PROJECT,
        engine=engine,
        title=engine.title(),
        promise="exactly once",
        round=round_,
        rows=1_000_000,
        seconds=1_000_000 / rate,
        cpu_s=cpu_s,
        broker_cpu_s=3.0,
        fault=fault,
        parts_s={"decode": 1.0, "commit": 2.0} if engine == "civicbus" else {},
    )


def a_run(*throughput: Throughput) -> Run:
    return Run(
        began="2025-01-01T00:00+00:00",
        machine="2 processors",
        versions={"fastavro": "1"},
        quick=False,
        rows=1_000_000,
        rounds=3,
        minutes=1.0,
        skipped={"kafka-streams": "no mvn is found"},
        failed={"enrich": "two\nlines."},
        throughput=throughput,
        latency=(
            Latency(
                engine="civicbus",
                title="civicbus",
                way=WHOLE_WAY,
                round=0,
                changes=10,
                arrivals=10,
                p50_ms=50.0,
                p99_ms=300.0,
                worst_ms=400.0,
            ),
        ),
        restart=(Restart(round=0, rows=10, anonymous_mb=500.0, with_cache_s=4.0, without_cache_s=20.0),),
    )


THREE_ROUNDS = (
    *(measured("civicbus", number, rate, 6.0) for number, rate in enumerate((100_000, 110_000, 50_000))),
    *(measured("kafka-streams-1", number, rate, 30.0) for number, rate in enumerate((50_000, 50_000, 25_000))),
    *(measured("kafka-streams-2", number, rate, 30.0) for number, rate in enumerate((40_000, 90_000, 20_000))),
)


def figure(run: Run, beginning: str) -> Figure:
    return next(each for each in figures(run) if each.wanted.startswith(beginning))


def test_ours_is_compared_with_the_thread_count_that_serves_kafka_streams_best() -> None:
    assert best_threads(THREE_ROUNDS) == "kafka-streams-1"


def test_a_ratio_is_made_within_a_round_and_the_median_counts() -> None:
    found = figure(a_run(*THREE_ROUNDS), "project: throughput at least 1.8 times that of Kafka Streams' streams")
    assert found.measured == pytest.approx((2.0, 2.2, 2.0))
    assert found.value == 2.0
    assert found.holds


def test_a_run_with_wrong_outputs_counts_for_no_ratio() -> None:
    wrong = replace(THREE_ROUNDS[0], fault="one row is missing")
    run = a_run(wrong, *THREE_ROUNDS[1:])
    assert [ours.round for ours, _ in pairs(run.throughput, "kafka-streams-1")] == [1, 2]
    assert "WRONG: one row is missing" in text(run)


def test_what_does_not_hold_and_what_was_not_measured_is_said() -> None:
    run = a_run(*THREE_ROUNDS)
    assert figure(run, "latency: half").holds is True
    assert figure(run, "latency: 99").holds is False
    assert figure(run, "enrich: throughput").holds is None
    page = text(run)
    assert "| latency: 99 of 100 changes within 250 ms | 300.00 ms | no |" in page
    assert (
        "| enrich: throughput at least 2.0 times that of Kafka Streams' tables, which do the same |  | not measured |"
        in page
    )


def test_skipped_peers_and_failed_runs_are_named() -> None:
    page = text(a_run(*THREE_ROUNDS))
    assert "- Skipped: kafka-streams: no mvn is found." in page
    assert "- Failed: enrich: two lines." in page


def test_a_latency_that_lost_a_message_counts_for_nothing() -> None:
    run = a_run(*THREE_ROUNDS)
    lossy = replace(run, latency=(replace(run.latency[0], arrivals=9),))
    assert figure(lossy, "latency: half").holds is None


def test_a_quick_run_says_that_it_means_nothing() -> None:
    assert "its figures mean nothing" in text(replace(a_run(*THREE_ROUNDS), quick=True))


def test_the_file_holds_everything_that_was_measured() -> None:
    assert '"engine": "kafka-streams-2"' in as_json(a_run(*THREE_ROUNDS))
