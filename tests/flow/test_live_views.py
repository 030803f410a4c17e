"""Joined views while both sides change: killed, and with agreements that come, change and go meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle

import pytest

from civicbus.cli.activation import Revoked, activate, revoke
from civicbus.errors import AccessDenied
from civicbus.events import cause_of
from civicbus.names import Topic
from civicbus.schemas.agreement import Agreement
from civicbus.secrets import OPERATOR, principal_of
from civicbus.transport.assigned import AssignedReader, Record
from civicbus.transport.clients import confluent_producer
from civicbus.transport.partitions import Partition
from support.agreed import check, settled
from support.attempts import Librdkafka
from support.permits_and_enterprises import PARTITIONS, Registers, Stream, joined_agreements
from support.platform import Platform, unique
from support.stages import StageProcess, everything, wait_for

KILLS = 4
MANY = 60_000
STOPS_WITHIN_S = 2.0

pytestmark = pytest.mark.usefixtures("running_admission", "running_views")


@pytest.fixture(scope="module")
def registers(platform: Platform) -> Registers:
    registers = Registers.new(platform)
    for _ in range(2_000):
        registers.change()
    registers.flush()
    return registers


@pytest.fixture(scope="module")
def agreements(platform: Platform, registers: Registers) -> list[Agreement]:
    agreements = joined_agreements(registers)
    activate(platform.endpoints, platform.secrets, agreements)
    return agreements


@pytest.fixture(scope="module")
def crowd(platform: Platform, running_admission: StageProcess, running_views: StageProcess) -> Registers:
    """Many permits of one enterprise, shown to one agreement already."""
    crowd = Registers.new(platform)
    numbers = crowd.agreement("numbers", "SELECT permit_no, version FROM PERMITS")
    activate(platform.endpoints, platform.secrets, [numbers])
    crowd.enterprise(0, name="before")
    for number in range(MANY):
        crowd.permit(number, enterprise="E000", status="approved")
    crowd.flush()
    wait_for("the permits", lambda: end_of(platform, numbers.topic) >= MANY or None, 120)
    return crowd


def end_of(platform: Platform, topic: Topic) -> int:
    """How much a read-committed reader sees of a topic."""
    with AssignedReader(platform.endpoints, platform.secrets.read(OPERATOR), group="platform.operator") as reader:
        return sum(reader.ends([Partition(topic, number) for number in range(PARTITIONS)]).values())


def grown(platform: Platform, topic: Topic, by: int) -> None:
    """Wait until a topic has so many more records."""
    before = end_of(platform, topic)
    wait_for(f"{by} more records on {topic}", lambda: end_of(platform, topic) >= before + by or None, 90)


def test_views_killed_at_random_while_both_sides_change_end_equal_and_say_nothing_twice(
    platform: Platform, registers: Registers, agreements: list[Agreement], running_views: StageProcess
) -> None:
    chance = random.Random(11)
    with Stream(registers, per_second=600) as stream:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 1.5))  # the moment of the kill is what varies
            running_views.kill()
            running_views.start()
    assert stream.sent > 1_000
    check(settled(platform, registers.datasets, agreements))


def test_an_agreement_comes_with_its_whole_view_changes_and_goes_while_others_flow(
    platform: Platform, registers: Registers, agreements: list[Agreement]
) -> None:
    endpoints, secrets = platform.endpoints, platform.secrets
    others = agreements[0].topic
    first = registers.agreement(
        "guest",
        """SELECT p.permit_no, p.version, p.status, e.name FROM PERMITS AS p
           LEFT JOIN ENTERPRISES AS e ON e.credit_code = p.enterprise WHERE p.status = 'approved'""",
    )
    second = replace(
        first, select=first.select.replace("e.name", "e.status AS name").replace("'approved'", "'refused'")
    )
    with Stream(registers, per_second=300):
        activate(endpoints, secrets, [first])
        grown(platform, first.topic, by=100)
        activate(endpoints, secrets, [second])
        grown(platform, first.topic, by=100)
        grown(platform, others, by=100)
    check(settled(platform, registers.datasets, [second, *agreements]))
    assert any(record.value is None for record in everything(platform, first.topic))

    with Stream(registers, per_second=300):
        revoked = revoke(platform.home, endpoints, secrets, first.id)
        end = end_of(platform, first.topic)
        grown(platform, others, by=300)
        assert end_of(platform, first.topic) == end
    assert revoked.stopped_s is not None
    assert revoked.stopped_s < STOPS_WITHIN_S

    activate(endpoints, secrets, [first])
    check(settled(platform, registers.datasets, [first, *agreements]))


def test_a_revocation_takes_the_right_to_read_before_the_output_has_stopped(
    platform: Platform, registers: Registers, running_views: StageProcess
) -> None:
    guest = registers.agreement("guest", "SELECT permit_no, version FROM PERMITS")
    activate(platform.endpoints, platform.secrets, [guest])
    grown(platform, guest.topic, by=1)
    reader = Librdkafka(platform.endpoints, platform.secrets.read(principal_of(registers.subscriber)))
    outcome: list[Revoked] = []

    def go() -> None:
        outcome.append(revoke(platform.home, platform.endpoints, platform.secrets, guest.id))

    def unseen() -> bool | None:
        return guest.topic not in reader.topics() or None

    assert unseen() is None
    revocation = threading.Thread(target=go)
    running_views.pause()
    try:
        revocation.start()
        wait_for("the rights to be gone", unseen)
        assert revocation.is_alive()
    finally:
        running_views.resume()
    revocation.join(30)
    assert outcome[0].stopped_s is not None
    with pytest.raises(AccessDenied):
        reader.read(guest.topic, f"{registers.subscriber}.reader")


@contextmanager
def pending(platform: Platform, topic: Topic) -> Iterator[None]:
    """A transaction that stays open, so that nobody comes to the end of the topic meanwhile."""
    name = {"transactional.id": f"platform.views.{unique('pending')}"}
    producer = confluent_producer(platform.endpoints, platform.secrets.read(OPERATOR), name)
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(PARTITIONS):
        producer.produce(topic, None, b"nobody", number)
    producer.flush(30)
    yield
    producer.abort_transaction(30)


def test_a_revocation_lets_flow_what_still_waits_for_its_inbox_to_be_read_back(
    platform: Platform, registers: Registers, agreements: list[Agreement], running_views: StageProcess
) -> None:
    guest = registers.agreement("guest", "SELECT permit_no, version FROM PERMITS")
    activate(platform.endpoints, platform.secrets, [guest])
    grown(platform, guest.topic, by=1)
    running_views.kill()
    assigned = len(running_views.events("partitions_assigned"))
    with pending(platform, guest.topic):
        running_views.launch()
        wait_for("the partitions", lambda: running_views.events("partitions_assigned")[assigned:] or None, 60)
        revoke(platform.home, platform.endpoints, platform.secrets, guest.id)
        with Stream(registers, per_second=300):
            grown(platform, agreements[0].topic, by=100)
    check(settled(platform, registers.datasets, agreements))


def test_a_joined_record_of_many_rows_is_worked_off_while_other_changes_pass(
    platform: Platform, crowd: Registers
) -> None:
    shown = crowd.agreement(
        "crowd",
        """SELECT p.permit_no, p.version, p.note, e.name FROM PERMITS AS p
           LEFT JOIN ENTERPRISES AS e ON e.credit_code = p.enterprise""",
    )
    backfill = f"civicbus:{shown.id}:activated".encode()
    with worked_off_beside_others(platform, crowd, shown.topic, backfill):
        activate(platform.endpoints, platform.secrets, [shown])
    renamed = f"event-{crowd.enterprises.sequence + 1}".encode()
    with worked_off_beside_others(platform, crowd, shown.topic, renamed):
        crowd.enterprise(0, name="after")
        crowd.enterprises.flush()
    check(settled(platform, crowd.datasets, [shown]))


class Singles(threading.Thread):
    """Changes single permits of the crowd, one after the other, until it is told to end; ``causes`` names them."""

    def __init__(self, crowd: Registers) -> None:
        super().__init__(daemon=True)
        self.crowd = crowd
        self.done = threading.Event()
        self.causes: set[bytes] = set()

    def run(self) -> None:
        for number in cycle(range(0, MANY, MANY // 1_000)):
            if self.done.wait(0.01):
                break
            self.causes.add(f"event-{self.crowd.permits.sequence + 1}".encode())
            self.crowd.permit(number, enterprise="E000", status="approved", note="single")
        self.crowd.flush()


@contextmanager
def worked_off_beside_others(platform: Platform, crowd: Registers, topic: Topic, lot: bytes) -> Iterator[None]:
    """What begins the lot of this cause goes inside; single changes must stand in the inbox amid the lot's rows.

    Of a partition the order of its offsets decides, not the time.
    """
    singles = Singles(crowd)
    singles.start()
    yield
    records: list[Record] = []

    def finished() -> bool | None:
        records[:] = everything(platform, topic)
        keys = {record.key for record in records if cause_of(record.headers) == lot}
        changed = {record.key for record in records if cause_of(record.headers) in singles.causes}
        return len(keys | changed) == MANY or None

    wait_for("the lot to be worked off", finished, 120)
    singles.done.set()
    singles.join()
    ahead = 0
    for number in range(PARTITIONS):
        said = [cause_of(record.headers) for record in records if record.partition == number]
        last = len(said) - 1 - said[::-1].index(lot)
        ahead += len(singles.causes & set(said[said.index(lot) : last]))
    assert ahead > 0
