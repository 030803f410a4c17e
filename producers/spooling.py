"""Changes go into a spool before they go to the broker, and a thread brings them there whenever it answers.

The steps of a change: ``send`` writes it down and returns; the thread sends it, waits for the broker's answer, and
removes it. Killed in between, the next process that opens the spool sends it again as it is, so that admission
drops what it has already.
Promise: what ``send`` has returned for reaches the topic, in order, before anything newer, if the spool is ever
opened again where the broker answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakValueDictionary

from civicbus.errors import CivicbusError, Unacceptable, Unavailable
from civicbus.events import Headers
from civicbus.producers.outlet import Outlet, Receipt
from civicbus.producers.spool import Spool, Spooled, headers_text
from civicbus.transport.outgoing import DELIVERY_S
from civicbus.transport.promises import Promise

SPOOL_BYTES = 256 * 2**20
_BLOCK_CHANGES = 2_000
_LOOK_S = 1.0
_AGAIN_S = 1.0

_Entry = tuple[int, Spooled]


class Spooling:
    """The outlet of a publisher that has a spool. Safe to use from several threads; it closes the spool."""

    def __init__(self, spool: Spool, connect: Callable[[], Outlet], *, limit_bytes: int = SPOOL_BYTES) -> None:
        """``connect`` reaches the broker, or raises Unavailable; it is called from another thread, again and again."""
        self._spool = spool
        self._connect = connect
        self._limit = limit_bytes
        self._news = threading.Condition()  # guards the spool and what follows; nobody waits for the broker holding it
        self._receipts: WeakValueDictionary[int, Promise] = WeakValueDictionary()
        self._away: CivicbusError | None = None
        self._failed: CivicbusError | None = None
        self._closing = False
        self._topic_id: str | None = None
        self._thread = threading.Thread(target=self._work, name=f"spool {spool.path.name}", daemon=True)
        self._thread.start()

    def send(
        self, *, key: bytes | None, value: bytes | None, headers: Headers, event_id: str, sequence: int | None
    ) -> Receipt:
        """Write a change down; raises Unavailable where the spool is full, and once what failed for good before."""
        texts = headers_text(headers)
        change = Spooled(event_id=event_id, sequence=sequence, key=key, value=value, headers=texts)
        receipt = Promise(event_id, sequence)
        with self._news:
            if self._closing:
                raise Unavailable("the publisher is closed", mend="open another one with the spool")
            self._raise_failed()
            self._make_room(change.size)
            self._receipts[self._spool.append(change)] = receipt
            self._news.notify_all()
        return receipt

    def would_wait(self, size: int) -> bool:  # noqa: ARG002 - every change is written to the disk first
        """Always."""
        return True

    def waiting(self) -> int:
        return self._spool.count

    def flush(self, timeout_s: float = DELIVERY_S) -> None:
        """Wait until the broker has everything; raises what failed for good, or Unavailable when time is out."""
        with self._news:
            self._news.wait_for(lambda: self._spool.count == 0 or self._failed is not None, timeout_s)
            self._raise_failed()
            if self._spool.count:
                raise self._waits(f"after {timeout_s:g} s ")

    def close(self) -> None:
        """Bring to the broker what it takes now, and leave the rest in the spool; raises what failed for good."""
        with self._news:
            self._news.wait_for(lambda: self._spool.count == 0 or not self._flows() or self._closing, DELIVERY_S)
        self.give_up()
        with self._news:
            self._raise_failed()

    def give_up(self) -> None:
        """Close at once; everything stays in the spool."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join(DELIVERY_S)
        with self._news:
            self._spool.close()

    def topic_id(self) -> str:
        """What the broker calls the topic; raises Unavailable while it is away."""
        with self._news:
            self._news.wait_for(lambda: self._topic_id is not None or self._failed is not None, _LOOK_S)
            self._raise_failed()
            if self._topic_id is None:
                raise Unavailable("the broker was not reached yet")
            return self._topic_id

    def _flows(self) -> bool:
        return self._away is None and self._failed is None

    def _make_room(self, size: int) -> None:
        """Wait while the spool is full and the broker takes changes from it."""

        def there_is() -> bool:
            return self._spool.count == 0 or self._spool.bytes + size <= self._limit

        self._news.wait_for(lambda: there_is() or not self._flows(), DELIVERY_S)
        self._raise_failed()
        if not there_is():
            raise self._waits("the spool is full: ")

    def _waits(self, why: str) -> Unavailable:
        reason = f": {self._away.message}" if self._away is not None else ""
        return Unavailable(
            f"{why}{self._spool.count} changes ({self._spool.bytes} of {self._limit} bytes)"
            f" wait in {self._spool.path}{reason}",
            mend="they are sent when the broker answers (`civicbus doctor`); a larger spool takes more until then",
        )

    def _raise_failed(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _work(self) -> None:
        """Reach the broker and bring it what stands in the spool, until the spool is closed."""
        while not self._closing:
            try:
                with self._connected() as outlet:
                    self._bring(outlet)
            except Unavailable as fault:
                self._note(away=fault)
            except CivicbusError as fault:
                self._note(away=fault, failed=fault)
            with self._news:
                self._news.wait_for(lambda: self._closing, _AGAIN_S)

    @contextmanager
    def _connected(self) -> Iterator[Outlet]:
        outlet = self._connect()
        try:
            self._topic_id = outlet.topic_id()
            self._note(away=None)
            yield outlet
        finally:
            outlet.give_up()

    def _bring(self, outlet: Outlet) -> None:
        while block := self._next():
            sent = [(entry, _sent(outlet, entry[1])) for entry in block]
            if not self._answered(outlet, [receipt for _, receipt in sent]):
                return
            self._settle(sent)

    def _next(self) -> list[_Entry]:
        """The changes to be sent next, once there are any; none where the spool is to be closed."""
        with self._news:
            self._news.wait_for(lambda: self._closing or self._spool.count > 0)
            return [] if self._closing else self._spool.first(_BLOCK_CHANGES)

    def _answered(self, outlet: Outlet, receipts: Sequence[Receipt]) -> bool:
        """Wait until every one of them is done; False where the spool is to be closed before."""
        while not all(receipt.done for receipt in receipts):
            try:
                outlet.flush(_LOOK_S)
            except CivicbusError as fault:  # the receipts say which of them failed
                self._note(away=fault)
            if self._closing:
                return False
        return True

    def _settle(self, sent: Sequence[tuple[_Entry, Receipt]]) -> None:
        """Forget what the broker has and what it never takes; the rest is sent again. Raises a refusal of rights."""
        faults = [receipt.failure for _, receipt in sent]
        over = [pair for pair, fault in zip(sent, faults, strict=True) if fault is None or _for_good(fault)]
        with self._news:
            self._spool.settle([entry for entry, _ in over])
            self._failed = next((fault for fault in faults if fault is not None and _for_good(fault)), self._failed)
            if over:
                self._away = None
            self._news.notify_all()
            told = [(self._receipts.pop(entry[0], None), receipt) for entry, receipt in over]
        for promise, receipt in told:
            if promise is not None:
                promise.settle(receipt.failure or receipt.result(0))
        left = next((fault for fault in faults if fault is not None and not _for_good(fault)), None)
        if left is not None and not isinstance(left, Unavailable):
            raise left

    def _note(self, *, away: CivicbusError | None, failed: CivicbusError | None = None) -> None:
        with self._news:
            self._away = away
            self._failed = failed or self._failed
            self._news.notify_all()


def _sent(outlet: Outlet, change: Spooled) -> Receipt:
    return outlet.send(
        key=change.key,
        value=change.value,
        headers=change.kafka_headers(),
        event_id=change.event_id,
        sequence=change.sequence,
    )


def _for_good(fault: CivicbusError) -> bool:
    """Whether a change that failed so will never be taken."""
    return isinstance(fault, Unacceptable)
