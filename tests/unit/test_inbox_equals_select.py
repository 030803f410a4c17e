"""Random histories through admission and views: afterwards every inbox is its SELECT, and nothing came twice."""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import duckdb
import polars as pl
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from civicbus.events import ChangeEvent, deleted, upserted
from civicbus.names import Stage as TopicStage
from civicbus.reasons import Reason
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import frame, unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.views import check
from civicbus.stream_apps.admission.stage import Admission
from civicbus.stream_apps.views import inbox
from civicbus.stream_apps.views.inbox import Inbox
from civicbus.stream_apps.views.stage import Rules, Views
from civicbus.transport.partitions import Partition
from civicbus.transport.placing import places
from support.samples import PERMIT_SCHEMA, PERMITS, agreement, catalogue, permits
from support.simulation import Bus, Death, Entry, Log, Worker

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
PERMIT_ID = 7
PARTITIONS = 2
SELECTS = {
    "approved": "SELECT p.permit_no, p.status, p.score FROM construction.permits AS p WHERE p.status = 'approved'",
    "masked": "SELECT p.permit_no, mask(p.phone, 1, 1) AS phone FROM construction.permits p WHERE score IS NOT NULL",
    "everything": "SELECT p.permit_no, p.status, p.score, p.phone FROM construction.permits AS p",
}
DUCKDB_MASK = (
    "CREATE MACRO mask(x, a, b) AS CASE WHEN length(x) <= a + b THEN repeat('*', length(x)) "
    "ELSE left(x, a) || repeat('*', length(x) - a - b) || right(x, b) END"
)
EXAMPLES = int(os.environ.get("CIVICBUS_TEST_EXAMPLES", "120"))
SEED = int(os.environ.get("CIVICBUS_TEST_SEED", "0"))

VIEWS = [check(agreement(name, select), catalogue(permits())) for name, select in SELECTS.items()]
SCHEMA_IDS = {view.agreement: 100 + number for number, view in enumerate(VIEWS)}
SCHEMAS = {PERMIT_ID: PERMIT_SCHEMA} | {SCHEMA_IDS[view.agreement]: view.output for view in VIEWS}
WRITER = RowCodec(PERMIT_SCHEMA)


def schema_of(schema_id: int) -> AvroSchema:
    return SCHEMAS[schema_id]


def unchanged(*, to_the_end: bool) -> None:
    """Rules that never change."""
    del to_the_end


def make_admission() -> Admission:
    return Admission([permits()], unchanged, schema_of, lambda: NOW)


def make_views() -> Views:
    inboxes = [
        Inbox(view=view, schema_id=SCHEMA_IDS[view.agreement], codec=ColumnCodec(view.output), secret=b"secret")
        for view in VIEWS
    ]
    return Views(Rules(datasets={PERMITS: permits()}, inboxes=inboxes), unchanged, schema_of, lambda: NOW)


@dataclass(frozen=True)
class Publish:
    key: str
    sequence: int
    status: str | None
    score: int | None
    deletion: bool


@dataclass(frozen=True)
class Turn:
    stage: str
    limit: int
    lose_commit: bool


@dataclass(frozen=True)
class Crash:
    stage: str


@dataclass(frozen=True)
class Compact:
    stage: TopicStage


STAGES = st.sampled_from(["admission", "views"])
PUBLISHES = st.builds(
    Publish,
    key=st.sampled_from("abd"),
    sequence=st.integers(1, 40),
    status=st.sampled_from(["approved", "refused", None]),
    score=st.sampled_from([1, 0, None]),
    deletion=st.sampled_from([False, False, True]),
)
OTHERS = st.one_of(
    st.builds(Turn, stage=STAGES, limit=st.integers(1, 4), lose_commit=st.sampled_from([False, False, True])),
    st.builds(Crash, stage=STAGES),
    st.builds(Compact, stage=st.sampled_from([TopicStage.RECORDS, TopicStage.INBOX])),
)


def rising(pairs: list[tuple[Publish, Publish | Turn | Crash | Compact]]) -> list[Publish | Turn | Crash | Compact]:
    """Most sequences rise with time, as a source's do; those that hypothesis keeps small are late or repeated."""
    history: list[Publish | Turn | Crash | Compact] = []
    for number, (publish, other) in enumerate(pairs):
        sequence = number + 1 if publish.sequence > 10 else publish.sequence
        history += [replace(publish, sequence=sequence), other]
    return history


HISTORIES = st.lists(st.tuples(PUBLISHES, st.one_of(OTHERS, PUBLISHES)), min_size=5, max_size=40).map(rising)


class City:
    """The bus with both stages, and the actions that a history is made of."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.workers = {
            "admission": Worker(self.bus, make_admission, range(PARTITIONS)),
            "views": Worker(self.bus, make_views, range(PARTITIONS)),
        }

    def act(self, action: Publish | Turn | Crash | Compact) -> None:
        match action:
            case Publish():
                self.publish(action)
            case Turn():
                worker = self.workers[action.stage]
                worker.turn(action.limit, death=Death.BEFORE if action.lose_commit else None)
                if worker.down:
                    worker.crash()
            case Crash():
                self.workers[action.stage].crash()
            case Compact():
                for partition, log in self.bus.logs.items():
                    if partition.topic.startswith(action.stage):
                        log.compact()

    def publish(self, change: Publish) -> None:
        row = {"permit_no": change.key, "status": change.status, "score": change.score, "phone": "13912345678"}
        event = ChangeEvent(
            id=f"{change.key}-{change.sequence}",
            source="urn:civicbus:construction",
            type=deleted(PERMITS) if change.deletion else upserted(PERMITS),
            time=NOW,
            sequence=change.sequence,
        )
        value = None if change.deletion else frame(PERMIT_ID, WRITER.encode(row))
        number = int(places([change.key.encode()], PARTITIONS)[0])
        self.bus.log(Partition(PERMITS.changes, number)).append(change.key.encode(), value, event.headers(), 0)

    def drain(self) -> None:
        for worker in self.workers.values():
            worker.drain()

    def logs(self, topic: str) -> list[Log]:
        return [log for partition, log in self.bus.logs.items() if partition.topic == topic]

    def state(self, topic: str) -> dict[bytes, bytes]:
        return {key: value for log in self.logs(topic) for key, value in log.state().items()}


def repeats(log: Log) -> list[Entry]:
    """Entries that say of their key what the entry before said already."""
    last: dict[bytes | None, bytes | None] = {}
    found = []
    for entry in log.history:
        if entry.key in last and last[entry.key] == entry.value:
            found.append(entry)
        last[entry.key] = entry.value
    return found


def rows(state: dict[bytes, bytes], schema: AvroSchema) -> list[tuple[object, ...]]:
    codec = RowCodec(schema)
    decoded = [codec.decode(unframe(value)[1]) for value in state.values()]
    return sorted((tuple(row.values()) for row in decoded), key=str)


def selected(records: dict[bytes, bytes], select: str) -> list[tuple[object, ...]]:
    codec = RowCodec(PERMIT_SCHEMA)
    table = pl.DataFrame(
        [codec.decode(unframe(value)[1]) for value in records.values()],
        schema={"permit_no": pl.String, "status": pl.String, "score": pl.Int32, "phone": pl.String},
    )
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA construction")
        connection.execute(DUCKDB_MASK)
        connection.register("permits_frame", table.to_arrow())
        connection.execute("CREATE TABLE construction.permits AS SELECT * FROM permits_frame")
        return sorted(connection.execute(select).fetchall(), key=str)


def check_promises(city: City) -> None:
    records = city.state(PERMITS.records)
    for view in VIEWS:
        assert rows(city.state(view.topic), view.output) == selected(records, SELECTS[view.agreement])
        assert not any(repeats(log) for log in city.logs(view.topic))
    for log in city.logs(PERMITS.records):
        sequences: dict[bytes | None, int] = {}
        for entry in log.history:
            sequence = int(dict(entry.headers)["sequence"] or 0)
            assert sequence > sequences.get(entry.key, 0)
            sequences[entry.key] = sequence


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_whatever_crashes_when_every_inbox_ends_as_its_select_and_says_nothing_twice(actions) -> None:
    city = City()
    for action in actions:
        city.act(action)
    city.drain()
    check_promises(city)


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.builds(
            Publish,
            key=st.just("a"),
            sequence=st.integers(1, 5),
            status=st.sampled_from(["x", "y"]),
            score=st.none(),
            deletion=st.booleans(),
        ),
        max_size=12,
    )
)
def test_the_record_is_the_first_change_of_the_highest_sequence_and_others_are_parked_or_dropped(changes) -> None:
    city = City()
    for change in changes:
        city.act(change)
    city.drain()
    highest, admitted, parked = 0, 0, []
    current: Publish | None = None
    for change in changes:
        if change.sequence > highest:
            highest, current, admitted = change.sequence, change, admitted + 1
        elif change.sequence < highest:
            parked.append(Reason.SEQUENCE_STALE)
        elif current is not None and not same_bytes(change, current):
            parked.append(Reason.SEQUENCE_CONFLICT)
    assert sum(len(log.history) for log in city.logs(PERMITS.records)) == admitted
    reasons = [dict(entry.headers)["reason"].decode() for log in city.logs(PERMITS.quarantine) for entry in log.history]
    assert reasons == [reason.value for reason in parked]


def same_bytes(one: Publish, other: Publish) -> bool:
    return one.deletion == other.deletion and (one.deletion or one.status == other.status)


def test_a_row_that_leaves_the_where_leaves_the_inbox() -> None:
    city = City()
    city.publish(Publish("a", 1, "approved", 1, deletion=False))
    city.drain()
    assert len(city.state(VIEWS[0].topic)) == 1
    city.publish(Publish("a", 2, "refused", 1, deletion=False))
    city.drain()
    assert city.state(VIEWS[0].topic) == {}
    last = [entry for log in city.logs(VIEWS[0].topic) for entry in log.history][-1]
    assert (last.key, last.value, dict(last.headers)["cause"]) == (b"a", None, b"a-2")


def test_a_row_whose_record_went_without_a_trace_is_swept_when_the_partition_opens() -> None:
    city = City()
    city.publish(Publish("a", 1, "approved", 1, deletion=False))
    city.publish(Publish("c", 1, "approved", 1, deletion=False))
    city.drain()
    for log in city.logs(PERMITS.records):
        log.entries = [entry for entry in log.entries if entry.key != b"a"]
    city.workers["views"].crash()
    city.drain()
    assert list(city.state(VIEWS[0].topic)) == [b"c"]
    check_promises(city)


def test_a_row_that_no_inbox_can_hold_is_parked_and_its_earlier_version_leaves(monkeypatch) -> None:
    monkeypatch.setattr(inbox, "LARGEST_ROW_BYTES", 40)
    city = City()
    city.publish(Publish("a", 1, "approved", 1, deletion=False))
    city.drain()
    assert list(city.state(VIEWS[0].topic)) == [b"a"]
    city.publish(Publish("a", 2, "approved" * 10, 1, deletion=False))
    city.publish(Publish("c", 3, "approved", 1, deletion=False))
    city.drain()
    assert sorted(city.state(VIEWS[2].topic)) == [b"c"]
    reasons = [dict(entry.headers)["reason"] for log in city.logs(PERMITS.quarantine) for entry in log.history]
    assert reasons == [Reason.TOO_LARGE.value.encode()]
