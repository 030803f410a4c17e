"""One event id, one change: whatever was killed between writing it down and the broker's answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId, DepartmentId
from civicbus.producers.changes import Refusal
from civicbus.producers.http.events import Asked
from civicbus.producers.http.receipts import REMEMBERED, Conflicting, Encoded, Planned, Receipts, receipt_of
from civicbus.reasons import Reason
from civicbus.transport.outgoing import Position

PARKS = DepartmentId("parks")
TREES = DatasetId(PARKS, "trees")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ASKED = Asked(event_id="1", source="urn:civicbus:parks", dataset=TREES, deletion=False, data={"tree_no": "T1"})
REFUSAL = Refusal(reason=Reason.QUALITY_PATTERN, field="tree_no")


def encoded(**changed: object) -> Encoded:
    return Encoded(asked=replace(ASKED, **changed), key=b"T1", value=b"bytes")


def plan(receipts: Receipts, *changes: Encoded, now: datetime = NOW) -> list[Planned]:
    return receipts.plan(changes, {TREES: int(now.timestamp() * 1e6) * 1000}, now)


def test_what_was_planned_is_sent_again_as_it_was_and_what_is_acknowledged_never(tmp_path: Path) -> None:
    with Receipts(tmp_path) as receipts:
        (first,) = plan(receipts, encoded())
    with Receipts(tmp_path) as receipts:
        assert plan(receipts, encoded(), now=NOW + timedelta(hours=1)) == [first]
        receipts.acknowledge([(first.receipt, Position(2, 7))])
    with Receipts(tmp_path) as receipts:
        assert [(one.receipt, one.change) for one in plan(receipts, encoded())] == [(first.receipt, None)]
        shown = receipts.show(first.receipt)
    assert shown is not None
    assert (shown.position, shown.dataset, shown.event_id) == (Position(2, 7), TREES, "1")


def test_a_conflict_is_told_and_nothing_of_its_request_is_planned(tmp_path: Path) -> None:
    with Receipts(tmp_path) as receipts:
        plan(receipts, encoded())
        with pytest.raises(Conflicting) as found:
            plan(receipts, encoded(event_id="2"), encoded(data={"tree_no": "T2"}))
        assert found.value.positions == (1,)
        assert receipts.show(receipt_of(PARKS, ASKED.source, "2")) is None


def test_sequences_rise_across_restarts_and_a_clock_that_was_set_back(tmp_path: Path) -> None:
    sequences: list[int | None] = []
    for number in range(3):
        with Receipts(tmp_path) as receipts:
            changes = [encoded(event_id=f"{number}-{each}") for each in range(3)]
            for one in plan(receipts, *changes, now=NOW - timedelta(days=number)):
                assert one.change is not None
                sequences.append(one.change.event.sequence)
    assert sequences == sorted(set(sequences))


def test_a_sequence_and_a_time_that_were_given_are_kept(tmp_path: Path) -> None:
    with Receipts(tmp_path) as receipts:
        changes = [encoded(sequence=2**64 - 1, time=NOW - timedelta(days=9)), encoded(event_id="2")]
        given, own = (one.change for one in plan(receipts, *changes))
    with Receipts(tmp_path) as receipts:
        (again,) = plan(receipts, changes[0])
    assert given is not None
    assert own is not None
    assert (given.event.sequence, given.event.time) == (2**64 - 1, NOW - timedelta(days=9))
    assert again.change == given
    assert own.event.sequence is not None
    assert own.event.sequence < 2**62


def test_a_refusal_belongs_to_the_place_where_the_change_stands(tmp_path: Path) -> None:
    """An event that was sent twice may have been parked at one place and admitted at the other."""
    with Receipts(tmp_path) as receipts:
        (planned,) = plan(receipts, encoded())
        refused = [(planned.receipt, Position(0, 5), REFUSAL), (receipt_of(PARKS, "x", "y"), Position(0, 6), REFUSAL)]
        receipts.refuse(TREES, refused, {0: 7})
        receipts.acknowledge([(planned.receipt, Position(0, 9))])
        shown = receipts.show(planned.receipt)
        assert shown is not None
        assert shown.refusal is None
        receipts.refuse(TREES, [(planned.receipt, Position(0, 9), REFUSAL)], {0: 8})
        shown = receipts.show(planned.receipt)
        assert shown is not None
        assert shown.refusal == REFUSAL
        assert receipts.read_to(TREES) == {0: 8}


def test_what_is_older_than_stated_is_forgotten(tmp_path: Path) -> None:
    with Receipts(tmp_path) as receipts:
        plan(receipts, encoded())
        plan(receipts, encoded(event_id="2"), now=NOW + timedelta(days=1))
        assert receipts.forget(NOW + REMEMBERED + timedelta(seconds=1)) == 1
        assert receipts.show(receipt_of(PARKS, ASKED.source, "1")) is None
        assert receipts.show(receipt_of(PARKS, ASKED.source, "2")) is not None


def test_what_stood_on_a_topic_that_was_made_anew_is_published_again(tmp_path: Path) -> None:
    with Receipts(tmp_path) as receipts:
        for topic, sent in (("first", True), ("first", False), ("second", True)):
            receipts.belong_to(TREES, topic)
            (planned,) = plan(receipts, encoded())
            assert (planned.change is not None) is sent
            receipts.acknowledge([(planned.receipt, Position(0, 3))])
            receipts.refuse(TREES, [], {0: 9} if topic == "first" else {})
        assert receipts.read_to(TREES) == {}


def test_a_second_ingress_is_told_so(tmp_path: Path) -> None:
    with Receipts(tmp_path), pytest.raises(ConfigurationError, match="other ingress"):
        Receipts(tmp_path)


def test_nobody_else_reads_the_file(tmp_path: Path) -> None:
    with Receipts(tmp_path / "ingress"):
        assert (tmp_path / "ingress" / "receipts.sqlite").stat().st_mode & 0o077 == 0
        assert (tmp_path / "ingress").stat().st_mode & 0o077 == 0


def test_no_row_is_kept_once_the_broker_has_it(tmp_path: Path) -> None:
    with Receipts(tmp_path) as receipts:
        (planned,) = plan(receipts, replace(encoded(), value=b"personal data"))
        receipts.acknowledge([(planned.receipt, Position(0, 0))])
        left = receipts._database.execute("SELECT key, value FROM receipts").fetchall()
    assert left == [(None, None)]
