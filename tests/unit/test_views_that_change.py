"""Agreements, schemas and workers change while the views flow: what random histories found, or what was feared."""

from __future__ import annotations

import pytest

from civicbus.names import DatasetId
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.stream_apps.views import joined as joined_views
from support.city import Action, Agree, City, HandOver, Publish, Registry, Turn, Upgrade
from support.promises import check_promises
from support.selects import ENTERPRISES, PERMITS, Joined, Wish, dataset

ENTERPRISE = Joined(0, ("enterprise",), ENTERPRISES, left=True)
PLAIN = Wish(PERMITS, (), "", hashed=False)
WITH_ENTERPRISE = Wish(PERMITS, (ENTERPRISE,), "", hashed=False)


def publish(
    dataset: DatasetId, record: int, text: str | None = "u", *, deletion: bool = False, schema: int = 0
) -> Publish:
    return Publish(dataset, record, (1, 1, 1, 1, 1, 1), text, deletion=deletion, schema=schema)


def turn(worker: str = "first") -> Turn:
    return Turn(worker, 100, 100, 100)


def city(wish: Wish, *actions: Action) -> City:
    """A city in which the first worker has all partitions, and has done what there was to do."""
    made = City(agreements={"one": wish})
    act(made, HandOver((0, 1)), *actions)
    made.drain()
    return made


def act(city: City, *actions: Action) -> None:
    for action in actions:
        city.act(action)


def test_a_record_that_changes_twice_while_the_registry_is_silent_is_said_once() -> None:
    known = city(PLAIN, publish(PERMITS, 0), Upgrade())
    act(
        known,
        Registry(answers=False),
        publish(PERMITS, 0, schema=1),
        turn(),
        publish(PERMITS, 0, "w", schema=1),
        turn(),
    )
    act(known, publish(PERMITS, 0, "u", schema=1), turn(), Registry(answers=True))
    known.drain()
    check_promises(known)


def test_a_record_that_is_deleted_twice_while_the_registry_is_silent_is_gone_once() -> None:
    known = city(PLAIN, publish(PERMITS, 0), publish(PERMITS, 2), Upgrade())
    act(known, Registry(answers=False), publish(PERMITS, 2, schema=1), turn())
    act(known, publish(PERMITS, 0, deletion=True), turn(), publish(PERMITS, 0, deletion=True), turn())
    act(known, Registry(answers=True))
    known.drain()
    check_promises(known)


def test_rows_of_a_partition_that_moved_wait_where_joined_records_cannot_be_read_yet() -> None:
    """Else they would be as the new worker knows them, and older than the old worker wrote them."""
    known = city(WITH_ENTERPRISE, publish(PERMITS, 0), publish(PERMITS, 1), publish(ENTERPRISES, 0), Upgrade())
    act(known, HandOver((0,)), publish(ENTERPRISES, 0, "w", schema=1), turn("second"), turn("second"))
    act(known, Registry(answers=False), HandOver((0, 1)), turn(), turn(), turn(), Registry(answers=True))
    known.drain()
    check_promises(known)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_an_inbox_whose_keys_become_hashed_or_plain_keeps_no_row_under_an_old_key(before: bool, after: bool) -> None:
    known = city(Wish(PERMITS, (), "", before), publish(PERMITS, 0), publish(PERMITS, 1))
    act(known, publish(PERMITS, 0, deletion=True), Agree("one", Wish(PERMITS, (), "", after)))
    known.drain()
    check_promises(known)


@pytest.mark.parametrize("other", [PERMITS, ENTERPRISES])
def test_an_agreement_that_is_driven_by_another_dataset_keeps_no_row_of_the_first(other: DatasetId) -> None:
    first = ENTERPRISES if other is PERMITS else PERMITS
    known = city(Wish(first, (), "", hashed=False), publish(PERMITS, 0), publish(ENTERPRISES, 0))
    act(known, Agree("one", Wish(other, (), "", hashed=False)))
    known.drain()
    check_promises(known)


def test_a_row_without_a_record_leaves_the_inbox_with_the_time_of_its_leaving() -> None:
    known = city(PLAIN, publish(PERMITS, 0), publish(PERMITS, 1))
    for log in known.logs(PERMITS.records):
        log.entries = [entry for entry in log.entries if entry.key != b"a"]
    known.workers["first"].crash()
    known.drain()
    leaving = [entry for topic in known.topics for log in known.logs(topic) for entry in log.history if not entry.value]
    assert [(entry.key, entry.timestamp_ms > 0) for entry in leaving] == [(b"a", True)]


def test_a_joined_dataset_may_lose_a_field_that_no_view_reads_any_more() -> None:
    with_remark, without = dataset(ENTERPRISES, 2), dataset(ENTERPRISES, 1)
    joined = joined_views.Joined(with_remark, no_codec)
    joined.serve(with_remark, {"credit_code", "remark"}, no_codec)
    joined.serve(without, {"credit_code", "text"}, no_codec)
    assert joined.gather(joined.slots([b"x"])).schema.names == ["credit_code", "text"]


def no_codec(schema_id: int) -> ColumnCodec:
    raise AssertionError(f"there is no row of schema {schema_id}")
