"""Views while the registry does not answer: changes gather, and are shown once it does, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from civicbus.errors import Unavailable
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.frame import frame
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.views import check
from civicbus.stream_apps.views.inbox import Inbox
from civicbus.stream_apps.views.stage import Rules, Views
from civicbus.transport.partitions import Partition
from support.samples import PERMIT_SCHEMA, PERMITS, agreement, catalogue, permits
from support.simulation import Bus, Entry, Worker

VIEW = check(agreement("all", "SELECT permit_no, status FROM construction.permits"), catalogue(permits()))
RECORDS, INBOX = Partition(PERMITS.records, 0), Partition(VIEW.topic, 0)
WRITER = RowCodec(PERMIT_SCHEMA)


def unchanged(*, to_the_end: bool) -> None:
    """Rules that never change."""
    del to_the_end


@dataclass
class Desk:
    """A views worker with a clock and a registry that a test sets."""

    bus: Bus = field(default_factory=Bus)
    now: datetime = datetime(2026, 6, 1, tzinfo=UTC)
    answers: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        inbox = Inbox(view=VIEW, schema_id=100, codec=ColumnCodec(VIEW.output), secret=b"secret")
        rules = Rules(datasets={PERMITS: permits()}, inboxes=[inbox])
        self.worker = Worker(self.bus, lambda: Views(rules, unchanged, self.schema_of, lambda: self.now), [0])
        self.worker.drain()

    def schema_of(self, schema_id: int) -> AvroSchema:
        del schema_id
        if not self.answers:
            raise Unavailable("registry: no answer")
        return PERMIT_SCHEMA

    def change(self, status: str | None) -> None:
        """One version of the one record; None deletes it."""
        value = None
        if status is not None:
            value = frame(7, WRITER.encode({"permit_no": "a", "status": status, "score": 1, "phone": None}))
        self.bus.log(RECORDS).append(b"a", value, [("cause", (status or "deleted").encode())], 0)
        self.worker.turn()

    def later(self) -> list[Entry]:
        """What the inbox has said once the registry answers again."""
        self.answers = True
        self.now += timedelta(seconds=2)
        self.worker.drain()
        return self.bus.log(INBOX).history


def test_a_record_that_changes_while_the_registry_is_away_is_said_once_and_as_it_stands() -> None:
    desk = Desk()
    desk.answers = False
    for status in ("submitted", "accepted", "approved"):
        desk.change(status)
    assert len(desk.later()) == 1


def test_a_record_that_is_deleted_twice_while_the_registry_is_away_goes_once() -> None:
    desk = Desk()
    desk.change("submitted")
    assert len(desk.later()) == 1
    desk.worker.crash()
    desk.worker.drain()
    desk.answers = False
    desk.bus.log(RECORDS).append(b"b", frame(8, b"\\x00"), [("cause", b"unknown")], 0)
    desk.worker.turn()
    for _ in range(2):
        desk.change(None)
    assert [entry.value for entry in desk.later() if entry.key == b"a"][1:] == [None]
