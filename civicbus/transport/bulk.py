"""Changes on their way to one topic over librdkafka, for the platform's own processes: a relay, a capture, a folder.

The same promises as ``outgoing`` with less processor time for each record (ADR 0008): memory is bounded,
``send`` waits once ``in_flight_bytes`` are on their way, no wait is longer than ``DELIVERY_S`` seconds, and a
delivery that failed is told by its receipt, and by the next ``send``, ``flush`` or ``close``, once.
"""

from __future__ import annotations

import base64
import threading
import time
from functools import partial
from typing import Self
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from civicbus.errors import CivicbusError, Unacceptable, Unavailable
from civicbus.events import Headers
from civicbus.names import Topic
from civicbus.reasons import Reason
from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.authentication import authenticate
from civicbus.transport.clients import LARGEST_MESSAGE_BYTES, Options, confluent_admin, confluent_producer
from civicbus.transport.faults import fault_of, is_refusal, translated
from civicbus.transport.outgoing import DELIVERY_S, IN_FLIGHT_BYTES, Position, size_of, unacknowledged, undelivered
from civicbus.transport.partitions import identities
from civicbus.transport.promises import Promise

_POLL_S = 0.1
_OPTIONS: Options = {
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "compression.type": "lz4",
    "message.max.bytes": LARGEST_MESSAGE_BYTES,
    "delivery.timeout.ms": int(DELIVERY_S * 1000),
    "retry.backoff.ms": 50,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 512 * 1024,
    "log_level": 2,
}


def _fault_of(error: KafkaError) -> CivicbusError:
    """The fault of a delivery: a record that is too large is so for ever."""
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return Unacceptable(Reason.TOO_LARGE, "the broker takes no record of this size")
    return fault_of(error)


class Delivery(Promise):
    """One change of so many bytes on its way."""

    def __init__(self, event_id: str, sequence: int | None, size: int, settled: threading.Condition) -> None:
        super().__init__(event_id, sequence, settled)
        self.size = size


class BulkOutgoing:
    """Records on their way to one topic. Safe to use from several threads."""

    def __init__(
        self, endpoints: Endpoints, credentials: Credentials, topic: Topic, *, in_flight_bytes: int = IN_FLIGHT_BYTES
    ) -> None:
        """Connect; raises AccessDenied for refused credentials and Unavailable where no broker answers."""
        authenticate(endpoints, credentials)
        self._endpoints, self._credentials, self._topic = endpoints, credentials, topic
        self._limit = in_flight_bytes
        self._sending = threading.Lock()
        self._changed = threading.Condition()  # guards what follows; nobody waits for the broker while holding it
        self._in_flight: dict[Delivery, None] = {}
        self._bytes = 0
        self._failed: list[tuple[Delivery, CivicbusError]] = []
        self._refused: CivicbusError | None = None
        self._is_broken = False
        self._producer = self._connected()
        self._closed = threading.Event()
        self._polling = threading.Thread(target=self._poll, name="deliveries", daemon=True)
        self._polling.start()

    def topic_id(self) -> str:
        """What the broker calls the topic; a topic that was made anew is called otherwise."""
        with translated():
            found = identities(confluent_admin(self._endpoints, self._credentials), [self._topic])
        if self._topic not in found:
            raise Unavailable(f"Kafka: there is no topic {self._topic}")
        return str(UUID(bytes=base64.urlsafe_b64decode(f"{found[self._topic].id}==")))

    def send(
        self, *, key: bytes | None, value: bytes | None, headers: Headers, event_id: str, sequence: int | None
    ) -> Delivery:
        """Hand a record over, waiting while too much is on its way; raises what failed before it."""
        delivery = Delivery(event_id, sequence, size_of(key, value), self._changed)
        with self._sending:
            self._make_room(delivery)
            tell = partial(self._delivered, delivery)
            try:
                self._producer.produce(self._topic, value, key, headers=headers, on_delivery=tell)
            except (KafkaException, BufferError) as fault:
                with self._changed:
                    self._forget(delivery)
                if isinstance(fault, BufferError):
                    raise Unavailable("too many changes wait for the broker") from fault
                raise _fault_of(fault.args[0]) from fault
        return delivery

    def would_wait(self, size: int) -> bool:
        """Whether ``send`` may wait before it takes a record of so many bytes."""
        with self._changed:
            return self._is_full(size_of(None, None) + size)

    def waiting(self) -> int:
        """How many records are on their way."""
        with self._changed:
            return len(self._in_flight)

    def flush(self, timeout_s: float = DELIVERY_S) -> None:
        """Wait until the broker has everything sent so far; raises what failed, or Unavailable when time is out."""
        deadline = time.monotonic() + timeout_s
        # It sends at once what would linger.
        self._producer.flush(timeout_s)
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight, max(deadline - time.monotonic(), 0.0))
            self._raise_failed()
            if self._in_flight:
                raise unacknowledged([*self._in_flight], timeout_s)

    def close(self) -> None:
        """Flush and disconnect; raises what failed or was not acknowledged, which is given up."""
        try:
            self.flush(DELIVERY_S)
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Disconnect at once; what the broker has not acknowledged is given up."""
        self._closed.set()
        self._producer.purge()
        self._producer.poll(0)
        self._polling.join(2 * _POLL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Producer:
        return confluent_producer(self._endpoints, self._credentials, _OPTIONS | {"error_cb": self._note})

    def _note(self, error: KafkaError) -> None:
        """Keep a refusal of our credentials, which librdkafka tries again for ever, and what ends its producer."""
        with self._changed:
            if is_refusal(error):
                self._refused = fault_of(error)
            self._is_broken |= error.fatal()
            self._changed.notify_all()

    def _poll(self) -> None:
        """Serve the answers of the broker; whoever waits for one waits for this."""
        while not self._closed.is_set():
            self._producer.poll(_POLL_S)

    def _delivered(self, delivery: Delivery, error: KafkaError | None, message: Message) -> None:
        answer = _fault_of(error) if error else Position(message.partition() or 0, message.offset() or 0)
        with self._changed:
            self._forget(delivery)
            listeners = delivery.answered(answer)
            if isinstance(answer, CivicbusError):
                self._failed.append((delivery, answer))
            else:
                self._refused = None
        for tell in listeners:
            tell()

    def _make_room(self, delivery: Delivery) -> None:
        """Count a record in once there is room for it; raises what failed before it."""
        with self._changed:
            has_room = self._changed.wait_for(lambda: self._refused or not self._is_full(delivery.size), DELIVERY_S)
            self._raise_failed()
            if not has_room:
                raise Unavailable(f"the broker has acknowledged nothing for {DELIVERY_S:g} s")
            if self._is_broken and not self._in_flight:
                self._producer, self._is_broken = self._connected(), False
            self._in_flight[delivery] = None
            self._bytes += delivery.size

    def _forget(self, delivery: Delivery) -> None:
        del self._in_flight[delivery]
        self._bytes -= delivery.size

    def _is_full(self, size: int) -> bool:
        return bool(self._in_flight) and self._bytes + size > self._limit

    def _raise_failed(self) -> None:
        refused, self._refused = self._refused, None
        failed, self._failed = self._failed, []
        if refused is not None:
            raise refused
        if failed:
            raise undelivered([delivery for delivery, _ in failed], failed[0][1])
