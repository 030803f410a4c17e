"""Takes the changes of a request: all of them, once, or none.

The steps: every record is encoded, so that what is wrong is found before anything is sent; the changes are written
down (``receipts``); those that the broker does not have are sent, in the order in which they were written down;
the broker's answers are waited for and written down. Only then is the request answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from civicbus.errors import CivicbusError, HeldElsewhere, Unacceptable, Unavailable
from civicbus.names import DatasetId
from civicbus.producers.http.events import MOST_FAULTS, Asked, raise_faults, rejection
from civicbus.producers.http.receipts import Conflicting, Encoded, Planned, ReceiptId, Receipts
from civicbus.producers.http.rejections import Fault, Kind, Rejected, fault_of
from civicbus.producers.publisher import Publisher, Receipt
from civicbus.producers.sources import Claim
from civicbus.reasons import Reason
from civicbus.schemas.codec.from_json import RowReader
from civicbus.schemas.datasets import Dataset, SequenceRule
from civicbus.transport.outgoing import Position

log = structlog.get_logger()

ACKNOWLEDGED_WITHIN_S = 10.0
RETRY_AFTER_S = 5.0


@dataclass(slots=True)
class _Outlet:
    """A dataset's publisher, opened under a claim.

    ``late``: changes that a request waited for in vain and that are still on their way.
    """

    dataset: Dataset
    claim: Claim | None
    publisher: Publisher
    read: RowReader
    late: list[Receipt] = field(default_factory=list)


class Intake:
    """Everything that is taken goes through here. Safe to use from several threads."""

    def __init__(
        self,
        receipts: Receipts,
        connect: Callable[[Dataset], Publisher],
        claim: Callable[[DatasetId], Claim | None],
        clock: Callable[[], datetime],
    ) -> None:
        self._receipts = receipts
        self._connect = connect
        self._claim = claim
        self._clock = clock
        self._lock = threading.Lock()  # sequences rise in the order in which changes are sent
        self._outlets: dict[DatasetId, _Outlet] = {}

    def take(self, asked: Sequence[Asked], datasets: Mapping[DatasetId, Dataset]) -> list[ReceiptId]:
        """The receipts, once the broker has every change; raises Rejected where nothing was taken.

        Where it is rejected as unavailable some of it may be there: the same request again finishes it.
        """
        try:
            with self._alone():
                outlets = {name: self._outlet(datasets[name]) for name in dict.fromkeys(one.dataset for one in asked)}
                changes = _encoded(asked, outlets)
                planned = self._planned(changes, outlets)
                sent = [
                    (one.receipt, outlets[one.dataset], outlets[one.dataset].publisher.send(one.change))
                    for one in planned
                    if one.change is not None
                ]
            self._acknowledged(sent)
        except CivicbusError as fault:
            log.warning("not_published", fault=str(fault))
            if not isinstance(fault, Unavailable):
                self._drop({one.dataset for one in asked})
            raise Rejected(
                Kind.UNAVAILABLE, "the bus does not take changes now; send the same again", retry_after_s=RETRY_AFTER_S
            ) from None
        return [one.receipt for one in planned]

    def close(self) -> None:
        """Disconnect. What was not acknowledged was not answered either, and is not waited for."""
        for outlet in self._outlets.values():
            if all(receipt.done for receipt in outlet.late):
                _close(outlet)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=ACKNOWLEDGED_WITHIN_S):
            raise Unavailable("other requests still wait for the broker")
        try:
            yield
        finally:
            self._lock.release()

    def _outlet(self, dataset: Dataset) -> _Outlet:
        """The dataset's publisher, opened where there is none; raises Unavailable while changes of before are late."""
        outlet = self._outlets.get(dataset.id)
        if outlet is None:
            return self._opened(dataset)
        outlet.late = [receipt for receipt in outlet.late if not receipt.done]
        if outlet.late:
            raise Unavailable(f"{len(outlet.late)} changes of {dataset.id} wait for the broker")
        is_as_it_was = outlet.dataset is dataset or outlet.dataset == dataset
        if not is_as_it_was or outlet.claim != self._claim(dataset.id):
            self._drop({dataset.id})
            return self._opened(dataset)
        return outlet

    def _opened(self, dataset: Dataset) -> _Outlet:
        claim = self._claim(dataset.id)
        try:
            publisher = self._connect(dataset)
        except HeldElsewhere as fault:
            raise Rejected(Kind.CLAIMED, fault.message) from None
        self._receipts.belong_to(dataset.id, publisher.topic_id())
        self._outlets[dataset.id] = _Outlet(dataset, claim, publisher, RowReader(dataset.schema))
        return self._outlets[dataset.id]

    def _planned(self, changes: Sequence[Encoded], outlets: Mapping[DatasetId, _Outlet]) -> list[Planned]:
        clocks = {name: _clock_of(outlet) for name, outlet in outlets.items()}
        try:
            return self._receipts.plan(changes, clocks, self._clock())
        except Conflicting as found:
            raise rejection(Kind.CONFLICT, [_conflict(position) for position in found.positions]) from None

    def _acknowledged(self, sent: Sequence[tuple[ReceiptId, _Outlet, Receipt]]) -> None:
        """Wait for the broker, and note where it put the changes; raises Unavailable where it does not answer."""
        deadline = time.monotonic() + ACKNOWLEDGED_WITHIN_S
        late = [(outlet, receipt) for _, outlet, receipt in sent if not receipt.wait(deadline)]
        positions: list[tuple[ReceiptId, Position]] = []
        failed: list[CivicbusError] = []
        for name, _, receipt in sent:
            if receipt.done:
                failure = receipt.failure
                failed += [failure] if failure is not None else []
                positions += [(name, receipt.result())] if failure is None else []
        if positions:
            self._receipts.acknowledge(positions)
        for outlet, receipt in late:
            outlet.late.append(receipt)
        if failed:
            raise failed[0]
        if late:
            raise Unavailable(f"the broker has not acknowledged {len(late)} changes in {ACKNOWLEDGED_WITHIN_S:g} s")

    def _drop(self, datasets: set[DatasetId]) -> None:
        """Forget these publishers, so that the next request opens them with what the secret and the schema are then."""
        for name in datasets:
            outlet = self._outlets.pop(name, None)
            if outlet is not None:
                threading.Thread(target=_close, args=(outlet,), daemon=True).start()


def _close(outlet: _Outlet) -> None:
    # What was not delivered was answered so already.
    with suppress(CivicbusError):
        outlet.publisher.close()


def _encoded(asked: Sequence[Asked], outlets: Mapping[DatasetId, _Outlet]) -> list[Encoded]:
    """Every change with its bytes; raises Rejected with the fault of every event that has one."""
    encoded: list[Encoded] = []
    faults: list[Fault] = []
    for position, one in enumerate(asked):
        try:
            encoded.append(_encode(one, outlets[one.dataset]))
        except Unacceptable as refused:
            faults.append(fault_of(refused, position))
            if len(faults) == MOST_FAULTS:
                break
    raise_faults(Kind.UNPROCESSABLE, faults)
    return encoded


def _encode(asked: Asked, outlet: _Outlet) -> Encoded:
    if asked.sequence is not None and outlet.dataset.sequence is SequenceRule.UNUSED:
        raise Unacceptable(Reason.SEQUENCE_UNUSED, "this dataset has no sequence", field="sequence")
    row = outlet.read(asked.data)
    if asked.deletion:
        return Encoded(asked=asked, key=outlet.publisher.encoded_key(row), value=None)
    key, value = outlet.publisher.encoded(row)
    return Encoded(asked=asked, key=key, value=value)


def _clock_of(outlet: _Outlet) -> int | None:
    return outlet.publisher.sequence_now() if outlet.dataset.sequence is SequenceRule.REQUIRED else None


def _conflict(position: int) -> Fault:
    return Fault(
        rule="event_id",
        detail="this id was used before, for another change",
        mend="Give every change an id of its own; repeat an event only as it was.",
        position=position,
        field="id",
    )
