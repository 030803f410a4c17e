"""A kafka-python producer for one topic with bounded memory, whose failures are told and never swallowed.

kafka-python keeps any number of unsent records; here ``send`` waits once ``in_flight_bytes`` are on their way,
and no wait is longer than ``DELIVERY_S`` seconds. A delivery that failed is raised by its receipt, and by the
next ``send``, ``flush`` or ``close``, once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from kafka import errors

from civicbus.errors import CivicbusError, Unacceptable, Unavailable
from civicbus.events import Headers
from civicbus.names import Topic
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.authentication import authenticate
from civicbus.transport.clients import Options
from civicbus.transport.python_clients import python_producer
from civicbus.transport.python_faults import fault_of, translated

IN_FLIGHT_BYTES = 32 * 2**20
DELIVERY_S = 60.0
_REQUEST_S = 10.0

# Measured against one broker on the same machine, 300-byte rows: batches of 256 KiB carry twice the records of
# the default 16 KiB; zstd costs less than the checksum of the bytes that it saves; a longer linger only delays.
OPTIONS: Options = {
    "batch_size": 256 * 1024,
    "linger_ms": 5,
    "compression_type": "zstd",
    "max_request_size": 8 * 2**20,
    "delivery_timeout_ms": int(DELIVERY_S * 1000),
    "max_block_ms": 15_000,
    "request_timeout_ms": int(_REQUEST_S * 1000),
    "reconnect_backoff_max_ms": 1_000,
    "allow_auto_create_topics": False,
}
_OVERHEAD_BYTES = 512
_NAMED = 20


class Sent(Protocol):
    """A record that was handed over."""

    @property
    def event_id(self) -> str: ...


class _Metadata(Protocol):
    """What civicbus uses of kafka-python's metadata of one record."""

    partition: int
    offset: int


class _Future(Protocol):
    """What civicbus uses of kafka-python's future of one record."""

    is_done: bool
    exception: errors.KafkaError | None

    def get(self, timeout: float | None = None) -> _Metadata: ...

    def add_both(self, call: Callable[[object], None]) -> object: ...


@dataclass(frozen=True, slots=True)
class Position:
    """Where the broker put a record."""

    partition: int
    offset: int


class Receipt:
    """The coming answer of the broker for one change."""

    __slots__ = ("_future", "event_id", "sequence", "size")

    def __init__(self, event_id: str, sequence: int | None, size: int, future: _Future) -> None:
        self.event_id = event_id
        self.sequence = sequence
        self.size = size
        self._future = future

    @property
    def done(self) -> bool:
        """Whether the broker has acknowledged the change or its delivery has failed."""
        return self._future.is_done

    @property
    def failure(self) -> CivicbusError | None:
        """The fault that the delivery failed with; None while it is on its way and once it is acknowledged."""
        error = self._future.exception
        return None if error is None else fault_of(error)

    def result(self, timeout_s: float | None = None) -> Position:
        """Where the change stands once it is acknowledged; raises the fault that it failed with, or Unavailable."""
        with translated():
            metadata = self._future.get(timeout_s)
        return Position(metadata.partition, metadata.offset)

    def when_done(self, tell: Callable[[], None]) -> None:
        """Have this called once it is done, from kafka-python's thread; at once where it is already."""
        self._future.add_both(lambda _: tell())

    def wait(self, deadline: float) -> bool:
        """Wait until the delivery is done, or until the clock's ``deadline``; returns whether it is."""
        try:
            self._future.get(max(deadline - time.monotonic(), 0.0))
        except errors.KafkaError:
            return self.done
        return True


class Outgoing:
    """Records on their way to one topic. Safe to use from several threads."""

    def __init__(
        self, endpoints: Endpoints, credentials: Credentials, topic: Topic, *, in_flight_bytes: int = IN_FLIGHT_BYTES
    ) -> None:
        """Connect; raises AccessDenied for refused credentials and Unavailable where no broker answers."""
        _quieten()
        authenticate(endpoints, credentials)
        with translated():
            self._producer = python_producer(endpoints, credentials, OPTIONS)
        self._topic = topic
        self._limit = in_flight_bytes
        self._sending = threading.Lock()
        self._lock = threading.Lock()  # guards what follows; nobody waits for the broker while holding it
        self._in_flight: deque[Receipt] = deque()
        self._bytes = 0
        self._reached = False

    def topic_id(self) -> str:
        """What the broker calls the topic; a topic that was made anew is called otherwise."""
        with translated():
            self._producer.partitions_for(self._topic)
        return str(self._producer._metadata.topic_id(self._topic))

    def send(
        self, *, key: bytes | None, value: bytes | None, headers: Headers, event_id: str, sequence: int | None
    ) -> Receipt:
        """Hand a record over, waiting while too much is on its way; raises what failed before it."""
        size = size_of(key, value)
        with self._sending:
            self._make_room(size)
            try:
                future = self._producer.send(self._topic, key=key, value=value, headers=headers)
            except errors.KafkaError as error:
                raise fault_of(error) from error
            receipt = Receipt(event_id, sequence, size, future)
            with self._lock:
                self._in_flight.append(receipt)
                self._bytes += size
                self._reached = True
        return receipt

    def would_wait(self, size: int) -> bool:
        """Whether ``send`` may wait before it takes a record of so many bytes: for room, or for the topic's leader."""
        with self._lock:
            return not self._reached or self._bytes + _OVERHEAD_BYTES + size > self._limit

    def waiting(self) -> int:
        """How many records are on their way."""
        with self._lock:
            return sum(not receipt.done for receipt in self._in_flight)

    def flush(self, timeout_s: float = DELIVERY_S) -> None:
        """Wait until the broker has everything sent so far; raises what failed, or Unavailable when time is out."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            waiting = tuple(self._in_flight)
        late = [receipt for receipt in waiting if not receipt.wait(deadline)]
        with self._lock:
            self._conclude()
        if late:
            raise unacknowledged(late, timeout_s)

    def close(self) -> None:
        """Flush and disconnect; raises what failed or was not acknowledged, which is given up."""
        try:
            self.flush(DELIVERY_S)
        finally:
            self._disconnect()

    def give_up(self) -> None:
        """Disconnect at once; what the broker has not acknowledged is given up."""
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _disconnect(self) -> None:
        if self._in_flight:
            # The library's own close waits for records and fails; its thread has to be told to give them up.
            self._producer._sender.force_close()
            self._producer._sender.join(2 * _REQUEST_S)
        self._producer.close(0 if self._in_flight else _REQUEST_S)

    def _make_room(self, size: int) -> None:
        deadline = time.monotonic() + DELIVERY_S
        while oldest := self._in_the_way(size):
            if not oldest.wait(deadline):
                raise Unavailable(f"the broker has acknowledged nothing for {DELIVERY_S:g} s")

    def _in_the_way(self, size: int) -> Receipt | None:
        """The change to wait for before one of this size may be sent."""
        with self._lock:
            self._conclude()
            full = self._in_flight and self._bytes + size > self._limit
            return self._in_flight[0] if full else None

    def _conclude(self) -> None:
        """Forget what is done at the front of the queue; raises what of it failed."""
        failed: list[tuple[Receipt, CivicbusError]] = []
        while self._in_flight and self._in_flight[0].done:
            receipt = self._in_flight.popleft()
            self._bytes -= receipt.size
            failure = receipt.failure
            if failure is not None:
                failed.append((receipt, failure))
        if failed:
            raise undelivered([receipt for receipt, _ in failed], failed[0][1])


def size_of(key: bytes | None, value: bytes | None) -> int:
    """How much of ``in_flight_bytes`` a record takes."""
    return _OVERHEAD_BYTES + len(key or b"") + len(value or b"")


def _quieten() -> None:
    """kafka-python logs rows at debug level, and warns that SCRAM sends a password, which it does not."""
    logging.getLogger("kafka").setLevel(logging.INFO)
    logging.getLogger("kafka.net.sasl.scram").setLevel(logging.ERROR)


def unacknowledged(late: Sequence[Sent], timeout_s: float) -> Unavailable:
    """The fault of a flush whose time is out."""
    return Unavailable(
        f"after {timeout_s:g} s the broker has not acknowledged {_named(late)}", mend="publish them again"
    )


def undelivered(failed: Sequence[Sent], first: CivicbusError) -> CivicbusError:
    """One fault for these receipts: of the kind of the first, naming their events."""
    text = f"not delivered: {_named(failed)}"
    if isinstance(first, Unacceptable):
        return Unacceptable(first.reason, f"{text}: {first.detail}")
    return type(first)(f"{text}: {first.message}", mend=first.mend)


def _named(receipts: Sequence[Sent]) -> str:
    ids = ", ".join(receipt.event_id for receipt in receipts[:_NAMED])
    more = f" and {len(receipts) - _NAMED} more" if len(receipts) > _NAMED else ""
    return f"{len(receipts)} changes (events {ids}{more})"
