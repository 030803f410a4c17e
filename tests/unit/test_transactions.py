"""A transaction is settled, aborted or late; the caller hears which, and never waits for ever."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from civicbus.errors import Unavailable
from civicbus.names import Topic
from civicbus.transport.partitions import Partition
from civicbus.transport.transactions import Output, Transactions

OFFSETS = [TopicPartition("records.market.enterprises", 0, 7)]


class Broker:
    """librdkafka's transactional producer, as far as it can be waited for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.coordinator_is_there = threading.Event()
        self.abort: KafkaException | None = None

    def begin_transaction(self) -> None:
        self.calls.append("begin")

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, *_: object) -> None:
        assert (key, value) == (b"key", b"value")
        self.calls.append(f"produce {topic}/{partition}")

    def poll(self, timeout_s: float) -> None:
        del timeout_s

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], group: object) -> None:
        self.coordinator_is_there.wait()
        self.calls.append(f"offsets of {group}: {[each.offset for each in offsets]}")

    def commit_transaction(self) -> None:
        if self.abort is not None:
            raise self.abort
        self.calls.append("commit")


def output(number: int) -> Output:
    return Partition(Topic("inbox.market.large_sites"), number), b"key", b"value", [], 1


def test_outputs_and_offsets_are_committed_together_and_in_order() -> None:
    broker = Broker()
    broker.coordinator_is_there.set()
    transactions = Transactions(broker)
    transactions.ask([output(0), output(1)], OFFSETS, lambda: "the group").settle()
    transactions.ask([], OFFSETS, lambda: "the group").settle()
    assert broker.calls == [
        "begin",
        "produce inbox.market.large_sites/0",
        "produce inbox.market.large_sites/1",
        "offsets of the group: [7]",
        "commit",
        "begin",
        "offsets of the group: [7]",
        "commit",
    ]


def test_an_abort_is_raised_as_it_is() -> None:
    broker = Broker()
    broker.coordinator_is_there.set()
    broker.abort = KafkaException(KafkaError(KafkaError._FENCED))
    with pytest.raises(KafkaException) as raised:
        Transactions(broker).ask([output(0)], OFFSETS, lambda: "the group").settle()
    assert raised.value is broker.abort


def test_a_fault_of_our_own_is_told_at_once_as_what_it_is() -> None:
    with pytest.raises(ValueError, match="too many values to unpack"):
        Transactions(Broker()).ask(["no output"], OFFSETS, lambda: "the group").settle()  # type: ignore[list-item]


def test_a_coordinator_that_does_not_come_back_is_not_waited_for_for_ever() -> None:
    broker = Broker()
    with pytest.raises(Unavailable, match="no transaction was settled"):
        Transactions(broker, timeout_s=0.05).ask([output(0)], OFFSETS, lambda: "the group").settle()
    broker.coordinator_is_there.set()  # lets the thread end
