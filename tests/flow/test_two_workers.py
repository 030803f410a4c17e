"""Two workers of a stage on one broker: killed, stopped beyond their session and continued, under load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Self

import pytest
from kafka.admin import KafkaAdminClient, TransactionState

from civicbus.cli.activation import activate, revoke
from civicbus.schemas.agreement import Agreement
from civicbus.secrets import OPERATOR
from civicbus.transport.python_clients import python_admin
from support.agreed import check, settled
from support.permits_and_enterprises import Registers, Stream, joined_agreements
from support.platform import Platform
from support.stages import StageProcess, admission, views, wait_for

ROUNDS = 3
OUT_WITHIN_S = 150.0
BACK_WITHIN_S = 150.0
# Within this the broker has done what a worker asked of it before it was stopped: a commit, too.
ASKED_BEFORE_S = 2.0


@dataclass(frozen=True, slots=True)
class Group:
    """A stage's group and its two members, as the broker sees them."""

    admin: KafkaAdminClient
    name: str
    workers: tuple[StageProcess, StageProcess]

    def instance(self, worker: int) -> str:
        return f"{self.name}.{worker}"

    def members(self) -> set[str]:
        return {member["group_instance_id"] for member in self._described()["members"]}

    def at_rest(self) -> bool:
        """Whether both members are in, all their partitions flow, and no rebalance is on its way."""
        in_place = self._described()["group_state"] == "Stable" and len(self.members()) == len(self.workers)
        return in_place and all(worker.ready() for worker in self.workers)

    def transaction(self, worker: int) -> TransactionState:
        name = self.instance(worker)
        state: TransactionState = self.admin.describe_transactions([name])[name].state
        return state

    def _described(self) -> dict[str, Any]:
        return self.admin.describe_groups([self.name])[self.name]


@pytest.fixture(scope="module")
def registers(platform: Platform) -> Registers:
    return Registers.new(platform)


@pytest.fixture(scope="module")
def viewing(platform: Platform, running_admission: StageProcess, running_views: StageProcess) -> Iterator[Group]:
    second = views(platform.home, 1)
    second.start()
    with closing(python_admin(platform.endpoints, platform.secrets.read(OPERATOR))) as admin:
        yield Group(admin, "platform.views", (running_views, second))
    second.stop()


@pytest.fixture(scope="module")
def agreements(platform: Platform, registers: Registers, viewing: Group) -> list[Agreement]:
    agreements = joined_agreements(registers)
    activate(platform.endpoints, platform.secrets, agreements)
    return agreements


class Lawyer(threading.Thread):
    """Activates, changes, revokes and activates an agreement again until the block ends; at the end it stands."""

    def __init__(self, platform: Platform, agreement: Agreement) -> None:
        super().__init__(daemon=True)
        self.platform = platform
        self.agreement = agreement
        self.done = threading.Event()
        self.revocations = 0

    def run(self) -> None:
        endpoints, secrets = self.platform.endpoints, self.platform.secrets
        changed = replace(self.agreement, select=self.agreement.select.replace("'approved'", "'refused'"))
        chance = random.Random(5)
        while not self.done.wait(chance.uniform(0.2, 1.5)):
            activate(endpoints, secrets, [self.agreement])
            self.done.wait(chance.uniform(0.2, 1.5))
            activate(endpoints, secrets, [changed])
            self.done.wait(chance.uniform(0.2, 1.5))
            revoke(self.platform.home, endpoints, secrets, self.agreement.id)
            self.revocations += 1
        activate(endpoints, secrets, [self.agreement])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self.done.set()
        self.join(60)


def stopped_in_a_transaction(group: Group, first: int) -> int:
    """Stop a worker where it has begun a transaction and not committed it; the first one, if it has work to do."""
    turns = cycle((first, 1 - first))

    def caught() -> int | None:
        if not group.at_rest():
            return None
        worker = next(turns)
        group.workers[worker].pause()
        if group.transaction(worker) is TransactionState.ONGOING:
            time.sleep(ASKED_BEFORE_S)
            if group.transaction(worker) is TransactionState.ONGOING:
                return worker
        group.workers[worker].resume()
        return None

    return wait_for("a worker to be stopped in a transaction", caught, BACK_WITHIN_S)


def given_up(group: Group, worker: int) -> None:
    """Wait until the group does without a stopped worker and the broker has aborted the transaction it stands in."""
    instance = group.instance(worker)
    wait_for("the group to do without the worker", lambda: instance not in group.members() or None, OUT_WITHIN_S)
    aborted = TransactionState.COMPLETE_ABORT
    wait_for("its transaction to be aborted", lambda: group.transaction(worker) is aborted or None, OUT_WITHIN_S)


def refused(zombie: StageProcess, replaced_before: int) -> None:
    """Wait until the zombie's commit was refused, and a new worker stands in its place."""
    wait_for(
        "the zombie to be refused", lambda: zombie.events("worker_replaced")[replaced_before:] or None, BACK_WITHIN_S
    )
    wait_for("the zombie to be back", lambda: zombie.ready() or None, BACK_WITHIN_S)


def test_two_workers_one_killed_one_stopped_end_equal_and_the_zombie_is_refused(
    platform: Platform, registers: Registers, viewing: Group, agreements: list[Agreement]
) -> None:
    guest = registers.agreement(
        "guest",
        """SELECT p.permit_no, p.version, e.credit_code AS enterprise_code, e.version AS enterprise_version, e.status
           FROM PERMITS AS p INNER JOIN ENTERPRISES AS e ON e.credit_code = p.enterprise
           WHERE p.status = 'approved'""",
    )
    chance = random.Random(3)
    with Lawyer(platform, guest) as lawyer, Stream(registers, per_second=600):
        for turn in range(ROUNDS):
            stopped = stopped_in_a_transaction(viewing, first=turn % 2)
            zombie, other = viewing.workers[stopped], viewing.workers[1 - stopped]
            replaced = len(zombie.events("worker_replaced"))
            time.sleep(chance.uniform(0.0, 2.0))  # the moment of the kill is what varies
            other.kill()
            other.start()
            given_up(viewing, stopped)
            zombie.resume()
            refused(zombie, replaced)
    assert lawyer.revocations > 0
    check(settled(platform, registers.datasets, [*agreements, guest]))


def test_two_admission_workers_one_killed_admit_every_change_once(
    platform: Platform,
    running_admission: StageProcess,
    viewing: Group,
    registers: Registers,
    agreements: list[Agreement],
) -> None:
    second = admission(platform.home, 1)
    second.start()
    try:
        chance = random.Random(9)
        with Stream(registers, per_second=600):
            for victim in (second, running_admission, second):
                time.sleep(chance.uniform(0.3, 1.5))  # the moment of the kill is what varies
                victim.kill()
                victim.start()
        check(settled(platform, registers.datasets, agreements))
    finally:
        second.stop()
