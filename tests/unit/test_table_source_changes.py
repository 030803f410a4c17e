"""A table becomes exactly the changes since it was last published, whenever the process is killed on the way."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civicbus.errors import ConfigurationError, Unavailable
from civicbus.events import SEQUENCE_LIMIT
from civicbus.producers.journal import Journal
from civicbus.producers.table_source import BLOCK_CHANGES, TableSource
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Quality, SequenceRule, Source
from support.publishing import POINTS, SCHEMA_ID, DyingJournal, MemoryTopic, dying_at, run
from support.samples import permits

DATASET = permits()
COLUMNS = DATASET.schema.field_names
Row = tuple[str | None, str | None, str | None, str | None]


def frame(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def row(number: str | None, status: str | None = "new", score: str | None = "1") -> Row:
    return number, status, score, None


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "permits.sqlite"


rows = st.builds(
    row,
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.sampled_from(["new", "approved", "审批", None]),
    st.sampled_from(["1", "2", "not a number", None]),
)
keyless = st.builds(row, st.sampled_from(["", None]), st.sampled_from(["new", "", None]), st.just(None))
tables = st.tuples(st.lists(rows, max_size=8), st.lists(keyless, max_size=1)).map(
    lambda both: frame(*both[0], *both[1])
)
kills = st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 4))


def sendable(table: pl.DataFrame) -> dict[str, dict[str, object]]:
    """The last row of each key that can be sent; the model that the source is held against."""
    return {
        number: {"permit_no": number, "status": status, "score": None if score is None else int(score), "phone": None}
        for number, status, score, _ in table.rows()
        if number and score != "not a number"
    }


def named(table: pl.DataFrame) -> set[str]:
    return {number for number in table["permit_no"] if number}


def untold(table: pl.DataFrame) -> bool:
    """Whether a row holds something and does not say of which record: any may be it, so none is gone."""
    return any(not number and any(cells) for number, *cells in table.rows())


def expected(before: dict[str, dict[str, object]], table: pl.DataFrame, full: bool) -> dict[str, dict[str, object]]:
    kept = {key: row for key, row in before.items() if not full or untold(table) or key in named(table)}
    return kept | sendable(table)


@settings(deadline=None, max_examples=60)
@given(old=tables, new=tables, full=st.booleans())
def test_the_published_changes_turn_the_old_rows_into_the_new_ones_and_are_the_fewest(old, new, full):
    with tempfile.TemporaryDirectory() as folder:
        journal, topic = Path(folder) / "j", MemoryTopic()
        run(journal, DATASET, topic, old)
        before, sent = topic.rows(DATASET), len(topic.changes)
        outcome = run(journal, DATASET, topic, new, full=full)
        after = expected(before, new, full)
        changes = [change for change in topic.changes[sent:] if change.refusal is None]
        assert topic.rows(DATASET) == after
        assert len(changes) == sum(before.get(key) != after.get(key) for key in before.keys() | after.keys())
        assert outcome.upserts + outcome.deletions == len(changes)
        assert outcome.unchanged == len(sendable(new)) - outcome.upserts


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(tables, st.booleans(), kills), min_size=1, max_size=6))
def test_runs_that_are_killed_anywhere_lose_nothing_and_send_nothing_twice(runs):
    with tempfile.TemporaryDirectory() as folder:
        journal, topic = Path(folder) / "j", MemoryTopic()
        model: dict[str, dict[str, object]] = {}
        for table, full, kill in runs:
            reach = dying_at(*kill) if kill else (lambda _: None)
            run(journal, DATASET, topic, table, full=full, reach=reach)
            outcome = run(journal, DATASET, topic, table, full=full)
            model = expected(model, table, full)
            assert outcome.waiting == 0
            assert topic.rows(DATASET) == model
        for change in topic.changes:
            assert change in topic.distinct, "one event id has two contents"


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_each_step_is_finished_by_the_next_one(journal, point):
    topic = MemoryTopic()
    run(journal, DATASET, topic, frame(row("a"), row("b"), row("gone")))
    new = frame(row("a", "approved"), row("b"), row("c"), row("d", score="not a number"))
    assert run(journal, DATASET, topic, new, reach=dying_at(point, 1)) is None
    outcome = run(journal, DATASET, topic, new)
    assert topic.rows(DATASET) == sendable(new)
    assert len(topic.distinct) == 3 + 4
    assert outcome.resent == (4 if point in {"after plan", "send", "flush", "before settle"} else 0)


def test_what_a_killed_run_had_planned_is_sent_before_a_newer_table_is_compared(journal):
    topic = MemoryTopic()
    run(journal, DATASET, topic, frame(row("a", "first")), reach=dying_at("before settle", 1))
    outcome = run(journal, DATASET, topic, frame(row("a", "second")))
    assert (outcome.resent, outcome.upserts) == (1, 1)
    assert topic.rows(DATASET)["a"]["status"] == "second"


def test_an_unchanged_table_sends_nothing(journal):
    topic = MemoryTopic()
    table = frame(*(row(str(number)) for number in range(100)))
    run(journal, DATASET, topic, table)
    outcome = run(journal, DATASET, topic, table)
    assert len(topic.changes) == 100
    assert (outcome.upserts, outcome.deletions, outcome.unchanged) == (0, 0, 100)


def test_changes_of_more_than_one_block_are_all_sent_in_order(journal):
    topic = MemoryTopic()
    count = 2 * BLOCK_CHANGES + 1
    table = frame(*(row(f"{number:06}") for number in range(count)))
    assert run(journal, DATASET, topic, table, reach=dying_at("flush", 2)) is None
    outcome = run(journal, DATASET, topic, table)
    assert (outcome.resent, outcome.unchanged) == (count - BLOCK_CHANGES, count)
    assert [change.key for change in topic.distinct] == [f"{number:06}".encode() for number in range(count)]


def test_a_row_that_cannot_be_sent_is_reported_once_with_its_reason_and_its_field(journal):
    topic = MemoryTopic()
    table = frame(row("a"), row("b", score="many"), row(None, "no key"), row("b", score="many"))
    for _ in range(2):
        outcome = run(journal, DATASET, topic, table)
        assert outcome.refused == {Reason.UNREADABLE_ROW: 2, Reason.KEY_MISSING: 1}
    assert [(one.row, one.reason, one.field) for one in outcome.refused_rows] == [
        (3, Reason.UNREADABLE_ROW, "score"),
        (4, Reason.KEY_MISSING, "permit_no"),
        (5, Reason.UNREADABLE_ROW, "score"),
    ]
    reports = [change for change in topic.changes if change.refusal is not None]
    assert [report.value for report in reports] == [
        b'{"permit_no":"b","status":"new","score":"many","phone":null}',
        b'{"permit_no":null,"status":"no key","score":"1","phone":null}',
    ]
    assert dict(reports[0].headers())["civicbus_unsendable"] == b"unreadable_row"
    assert dict(reports[0].headers())["civicbus_field"] == b"score"
    assert {report.key for report in reports} == {None}


def test_a_row_that_was_mended_and_spoilt_again_is_reported_again(journal):
    topic = MemoryTopic()
    spoilt, mended = frame(row("a", score="many")), frame(row("a"))
    for table in (spoilt, mended, spoilt):
        run(journal, DATASET, topic, table)
    assert sum(change.refusal is not None for change in topic.changes) == 2


def test_a_record_whose_row_cannot_be_sent_any_more_stays_as_it_was(journal):
    topic = MemoryTopic()
    run(journal, DATASET, topic, frame(row("a", "approved"), row("b")))
    outcome = run(journal, DATASET, topic, frame(row("a", score="many"), row("b")))
    assert (outcome.deletions, topic.rows(DATASET)["a"]["status"]) == (0, "approved")


@pytest.mark.parametrize("line", ["b,new,1,a comma, too many", "b,new", ",new,1,", '"",new,,'])
def test_nothing_is_deleted_by_a_file_of_which_a_row_does_not_say_what_record_it_is(journal, tmp_path, line):
    topic, file = MemoryTopic(), tmp_path / "permits.csv"
    run(journal, DATASET, topic, frame(row("a"), row("b"), row("gone")))
    with Journal(journal, DATASET.id) as opened:
        source = TableSource(DATASET, SCHEMA_ID, opened, topic)
        file.write_text(f"permit_no,status,score,phone\na,approved,1,\n{line}\n")
        outcome = source.publish_csv(file)
        assert (outcome.upserts, outcome.deletions, outcome.withheld, outcome.untold) == (1, 0, 2, 1)
        assert topic.rows(DATASET).keys() == {"a", "b", "gone"}
        file.write_text("permit_no,status,score,phone\na,approved,1,\nb,new,1,\n,,,\n,\n")
        outcome = source.publish_csv(file)
    assert (outcome.deletions, outcome.withheld, outcome.untold) == (1, 0, 0)
    assert topic.rows(DATASET).keys() == {"a", "b"}


def test_a_required_field_that_is_empty_refuses_its_row(journal):
    dataset = permits(quality=Quality(required=True))
    outcome = run(journal, dataset, MemoryTopic(), frame(row("a", None), row("b", ""), row("c")))
    assert (outcome.upserts, outcome.refused) == (1, {Reason.QUALITY_REQUIRED: 2})


def test_a_row_larger_than_the_catalogue_allows_is_refused_and_its_record_stays(journal):
    dataset = replace(DATASET, max_bytes=1024)
    topic = MemoryTopic()
    run(journal, dataset, topic, frame(row("a"), row("b")))
    outcome = run(journal, dataset, topic, frame(row("a", "x" * 2000), row("b")))
    assert (outcome.refused, outcome.deletions) == ({Reason.TOO_LARGE: 1}, 0)


def test_the_last_row_of_a_repeated_key_wins_and_the_rows_are_named(journal):
    topic = MemoryTopic()
    outcome = run(journal, DATASET, topic, frame(row("a", "1"), row("b"), row("a", "2"), row("a", "3")))
    assert outcome.repeated == ((2, 4, 5),)
    assert topic.rows(DATASET)["a"]["status"] == "3"


def test_rows_with_an_order_are_taken_in_it_ties_in_file_order_and_are_no_repetition(journal):
    dataset = replace(DATASET, source=Source(file="permits.csv", order_by=("score",)))
    topic = MemoryTopic()
    rows = frame(row("a", "late", "9"), row("a", "tie", "9"), row("a", "none", None), row("a", "early", "1"))
    outcome = run(journal, dataset, topic, rows)
    assert (outcome.repeated, topic.rows(dataset)["a"]["status"]) == ((), "tie")


def test_sequences_rise_even_when_the_clock_is_set_back(journal, monkeypatch):
    topic = MemoryTopic()
    run(journal, DATASET, topic, frame(row("a", "1"), row("b")))
    monkeypatch.setattr("support.publishing.time_ns", lambda: 5)
    run(journal, DATASET, topic, frame(row("a", "2"), row("b")))
    assert topic.rows(DATASET)["a"]["status"] == "2"


def test_sequences_of_the_last_epoch_are_kept_as_they_are(journal, monkeypatch):
    topic = MemoryTopic()
    monkeypatch.setattr("support.publishing.time_ns", lambda: SEQUENCE_LIMIT - 100)
    run(journal, DATASET, topic, frame(row("a", "1"), row("b")), reach=dying_at("after plan", 1))
    outcome = run(journal, DATASET, topic, frame(row("a", "2"), row("b")))
    assert (outcome.resent, outcome.upserts) == (2, 1)
    assert [change.event.sequence for change in topic.changes] == [SEQUENCE_LIMIT - 100 + n for n in range(3)]


def test_a_dataset_without_sequences_sends_none(journal):
    topic = MemoryTopic()
    run(journal, permits(sequence=SequenceRule.UNUSED), topic, frame(row("a")))
    (change,) = topic.changes
    assert "ce_sequence" not in dict(change.headers())


def test_a_new_schema_publishes_every_row_again(journal):
    topic = MemoryTopic()
    run(journal, DATASET, topic, frame(row("a")))
    wider = AvroSchema.parse(DATASET.schema.text.replace('"name":"phone"', '"name":"telephone","aliases":["phone"]'))
    fields = tuple(replace(one, name=name) for one, name in zip(DATASET.fields, wider.field_names, strict=True))
    dataset = replace(DATASET, fields=fields, schemas=(*DATASET.schemas, wider))
    assert run(journal, dataset, topic, frame(row("a")).rename({"phone": "telephone"})).upserts == 1


def test_a_topic_that_was_made_anew_gets_every_row_and_nothing_of_the_old_one(journal):
    table = frame(row("a"), row("b"), row("", "no key"))
    run(journal, DATASET, MemoryTopic(), table, reach=dying_at("flush", 1))
    topic = MemoryTopic(id="second")
    outcome = run(journal, DATASET, topic, table)
    assert (outcome.anew, outcome.resent, outcome.upserts, len(topic.changes)) == (True, 0, 2, 3)
    again = run(journal, DATASET, topic, table)
    assert (again.anew, again.unchanged, len(topic.changes)) == (False, 2, 3)


def test_a_second_run_on_the_same_journal_is_told_so(journal):
    with (
        Journal(journal, DATASET.id),
        pytest.raises(ConfigurationError, match=r"another run publishes construction\.permits"),
    ):
        Journal(journal, DATASET.id)


def test_a_journal_of_another_dataset_is_refused(journal):
    Journal(journal, DATASET.id).close()
    with pytest.raises(ConfigurationError, match=r"is a journal of dataset construction\.permits"):
        Journal(journal, replace(DATASET.id, name="others"))


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("permit_no\n" * 1000)
    with pytest.raises(ConfigurationError, match="no journal"):
        Journal(file, DATASET.id)
    assert file.read_text() == "permit_no\n" * 1000


def test_only_its_owner_can_read_a_journal(journal):
    with Journal(journal, DATASET.id):
        assert {path.stat().st_mode & 0o077 for path in journal.parent.iterdir()} == {0}


def test_a_delivery_that_fails_leaves_the_changes_to_the_next_run(journal):
    class Away(MemoryTopic):
        def flush(self) -> None:
            raise Unavailable("the broker is away")

    with Journal(journal, DATASET.id) as opened, pytest.raises(Unavailable):
        TableSource(DATASET, SCHEMA_ID, opened, Away()).publish(frame(row("a")))
    topic = MemoryTopic()
    assert run(journal, DATASET, topic, frame(row("a"))).resent == 1
    assert topic.rows(DATASET).keys() == {"a"}


def test_a_run_that_is_asked_to_stop_ends_after_a_block_and_says_what_waits(journal):
    topic = MemoryTopic()
    table = frame(*(row(str(number)) for number in range(2 * BLOCK_CHANGES)))
    with Journal(journal, DATASET.id) as opened:
        source = TableSource(DATASET, SCHEMA_ID, opened, topic, stop=lambda: bool(topic.changes))
        outcome = source.publish(table)
    assert (len(topic.changes), outcome.waiting) == (BLOCK_CHANGES, BLOCK_CHANGES)
    again = run(journal, DATASET, topic, table)
    assert (again.resent, again.waiting, len(topic.distinct)) == (BLOCK_CHANGES, 0, 2 * BLOCK_CHANGES)


def test_progress_counts_what_is_acknowledged(journal):
    heard = []
    with Journal(journal, DATASET.id) as opened:
        source = TableSource(DATASET, SCHEMA_ID, opened, MemoryTopic(), progress=heard.append)
        source.publish(frame(*(row(str(number)) for number in range(BLOCK_CHANGES + 1))))
    assert [(one.acknowledged, one.changes) for one in heard] == [
        (BLOCK_CHANGES, BLOCK_CHANGES + 1),
        (BLOCK_CHANGES + 1, BLOCK_CHANGES + 1),
    ]


def test_a_full_disk_is_named_and_the_journal_stays_true(journal):
    topic = MemoryTopic()
    run(journal, DATASET, topic, frame(row("a")))
    with DyingJournal(journal, DATASET.id) as opened:
        (pages,) = opened._database.execute("PRAGMA page_count").fetchone()
        opened._database.execute(f"PRAGMA max_page_count = {pages}")
        table = frame(*(row(str(number), "x" * 1000) for number in range(1000)))
        with pytest.raises(Unavailable, match="cannot be written"):
            TableSource(DATASET, SCHEMA_ID, opened, topic).publish(table)
        assert opened.waiting() == 0
    assert run(journal, DATASET, topic, frame(row("a"))).unchanged == 1
