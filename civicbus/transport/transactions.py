"""Kafka transactions under one name, each within a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from confluent_kafka import Producer, TopicPartition

from civicbus.errors import Unavailable
from civicbus.events import Headers
from civicbus.transport.metrics import spent
from civicbus.transport.partitions import Partition

TRANSACTION_TIMEOUT_S = 10.0
"""After so long the broker aborts a transaction, so nothing of it is worth waiting for."""

# confluent-kafka's type of a group's metadata is opaque and unnamed; it is passed on as it came.
GroupMetadata = object


# One record to write: where to, key, value, headers, time in milliseconds. A value of None is a deletion.
Output = tuple[Partition, bytes, bytes | None, Headers, int]


class _Asked(NamedTuple):
    settled: Future[None]
    outputs: Sequence[Output]
    offsets: list[TopicPartition]
    group: Callable[[], GroupMetadata]


class Pending:
    """A transaction that was asked for."""

    def __init__(self, settled: Future[None], timeout_s: float) -> None:
        self._settled = settled
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s

    @property
    def done(self) -> bool:
        """Whether :meth:`settle` would not wait."""
        return self._settled.done()

    def settle(self) -> None:
        """Return when it is committed.

        Raises KafkaException where it was aborted, and Unavailable where nobody can tell any more; after either
        its :class:`Transactions` is of no further use.
        """
        try:
            self._settled.result(max(0.0, self._deadline_s - time.monotonic()))
        except TimeoutError as late:
            raise Unavailable(f"Kafka: no transaction was settled in {self._timeout_s:.0f} s") from late


class Transactions:
    """Outputs and input offsets, committed together, one transaction after the other.

    librdkafka's ``send_offsets_to_transaction`` can wait for ever for a group coordinator that went away in the
    middle (librdkafka issue 5456), and no call of its ends it. So transactions run on a thread of their own: one
    that is not settled in time raises Unavailable, and the thread is left to its fate. The next instance of the
    name fences whatever it may still send.
    """

    def __init__(self, producer: Producer, timeout_s: float = TRANSACTION_TIMEOUT_S) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        Thread(target=self._serve, name="transactions", daemon=True).start()

    def begin(self) -> None:
        """Fence an older instance of the name, whose open transaction is aborted."""
        self._producer.init_transactions(30)

    def ask(
        self, outputs: Sequence[Output], offsets: list[TopicPartition], group: Callable[[], GroupMetadata]
    ) -> Pending:
        """Write ``outputs`` and the group's ``offsets`` in one transaction; the caller settles it before the next.

        ``group`` is called, on the transactions' thread, when the outputs are written: what it gave earlier would be
        of a generation that a rebalance may have ended meanwhile.
        """
        settled: Future[None] = Future()
        self._asked.put(_Asked(settled, outputs, offsets, group))
        return Pending(settled, self._timeout_s)

    def close(self) -> None:
        """Let the thread end once it has done what was asked."""
        self._asked.put(None)

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._transact(asked)
            except Exception as failed:  # noqa: BLE001 - raised by commit
                asked.settled.set_exception(failed)
                return
            asked.settled.set_result(None)

    def _transact(self, asked: _Asked) -> None:
        with spent("produce"):
            self._producer.begin_transaction()
            self._produce(asked.outputs)
        with spent("commit"):
            self._producer.send_offsets_to_transaction(asked.offsets, asked.group())
            self._producer.commit_transaction()

    def _produce(self, outputs: Sequence[Output]) -> None:
        produce = self._producer.produce
        for to, key, value, headers, timestamp_ms in outputs:
            while True:
                try:
                    produce(to.topic, value, key, to.number, None, None, timestamp_ms, headers)
                    break
                except BufferError:
                    self._producer.poll(0.05)
        self._producer.poll(0)
