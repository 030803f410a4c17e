"""What a department may try with either Kafka client; every refusal comes back as civicbus's own fault."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import kafka
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import NewTopic
from kafka.protocol.consumer import FetchRequest

from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport import faults, python_faults
from civicbus.transport.clients import confluent_admin, confluent_consumer, confluent_producer
from civicbus.transport.python_clients import python_admin, python_consumer, python_producer
from civicbus.transport.python_faults import raise_for

KEY, VALUE = b"key", b"value"
WITHIN_S = 10.0
QUIET = {"log_level": 0}


class Librdkafka:
    """confluent-kafka."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials) -> None:
        self._who = (endpoints, credentials)

    def write(self, topic: str, *, idempotent: bool = True) -> None:
        errors = []
        options = QUIET | {"enable.idempotence": idempotent, "message.timeout.ms": 2000}
        producer = confluent_producer(*self._who, options)
        producer.produce(topic, VALUE, KEY, partition=0, on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(WITHIN_S) == 0
        _raise_librdkafka(errors[0])

    def write_in_transaction(self, topic: str, transactional_id: str) -> None:
        producer = confluent_producer(*self._who, QUIET | {"transactional.id": transactional_id})
        with faults.translated():
            producer.init_transactions(WITHIN_S)
            producer.begin_transaction()
            producer.produce(topic, VALUE, KEY, partition=0)
            producer.commit_transaction(WITHIN_S)

    def read(self, topic: str, group: str) -> bytes:
        """The first value of partition 0, read as a member of the group."""
        with self._consumer(group) as consumer:
            consumer.subscribe([topic])
            return _first_value(consumer)

    def commit(self, topic: str, group: str) -> None:
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1)])
        admin = confluent_admin(*self._who, QUIET)
        with faults.translated():
            admin.alter_consumer_group_offsets([wanted])[group].result(WITHIN_S)

    def topics(self) -> set[str]:
        return set(confluent_admin(*self._who, QUIET).list_topics(timeout=WITHIN_S).topics)

    def create_topic(self, topic: str) -> None:
        admin = confluent_admin(*self._who, QUIET)
        with faults.translated():
            admin.create_topics([NewTopic(topic, 1)])[topic].result(WITHIN_S)

    def connect(self) -> None:
        with faults.translated():
            confluent_admin(*self._who, QUIET).list_topics(timeout=2)

    @contextmanager
    def _consumer(self, group: str) -> Iterator[Consumer]:
        options = QUIET | {"group.id": group, "auto.offset.reset": "earliest"}
        consumer = confluent_consumer(*self._who, options)
        try:
            yield consumer
        finally:
            consumer.close()


class KafkaPython:
    """kafka-python."""

    def __init__(self, endpoints: Endpoints, credentials: Credentials) -> None:
        self._who = (endpoints, credentials)

    def write(self, topic: str, *, idempotent: bool = True) -> None:
        options = {"enable_idempotence": idempotent, "max_block_ms": 3000}
        with python_faults.translated(), closing(python_producer(*self._who, options)) as producer:
            producer.send(topic, key=KEY, value=VALUE, partition=0).get(WITHIN_S)

    def write_in_transaction(self, topic: str, transactional_id: str) -> None:
        options = {"transactional_id": transactional_id, "max_block_ms": 3000}
        with python_faults.translated(), closing(python_producer(*self._who, options)) as producer:
            producer.init_transactions()
            producer.begin_transaction()
            producer.send(topic, key=KEY, value=VALUE, partition=0)
            producer.commit_transaction()

    def read(self, topic: str, group: str) -> bytes:
        """The first value of partition 0, with the group's offsets."""
        partition = kafka.TopicPartition(topic, 0)
        options = {"group_id": group, "auto_offset_reset": "earliest"}
        with python_faults.translated(), closing(python_consumer(*self._who, options)) as consumer:
            consumer.assign([partition])
            deadline = time.monotonic() + WITHIN_S
            while time.monotonic() < deadline:
                for record in consumer.poll(500).get(partition, ()):
                    return record.value
        raise AssertionError(f"nothing came from {topic}, and no refusal either")

    def commit(self, topic: str, group: str) -> None:
        partition = kafka.TopicPartition(topic, 0)
        with python_faults.translated(), closing(python_consumer(*self._who, {"group_id": group})) as consumer:
            consumer.assign([partition])
            consumer.commit({partition: kafka.OffsetAndMetadata(1, "", -1)})

    def topics(self) -> set[str]:
        with closing(python_admin(*self._who)) as admin:
            return set(admin.list_topics())

    def create_topic(self, topic: str) -> None:
        with python_faults.translated(), closing(python_admin(*self._who)) as admin:
            admin.create_topics({topic: {}})

    def connect(self) -> None:
        with python_faults.translated(), closing(python_admin(*self._who, {"bootstrap_timeout_ms": 2000})):
            pass


def fetch_by_id(endpoints: Endpoints, credentials: Credentials, topic: str, topic_id: object) -> bytes:
    """A bare fetch, by somebody who learned the topic's id elsewhere: no client looks at metadata first."""
    fetch = FetchRequest.FetchTopic
    partition = fetch.FetchPartition(
        partition=0,
        current_leader_epoch=-1,
        fetch_offset=0,
        last_fetched_epoch=-1,
        log_start_offset=-1,
        partition_max_bytes=1_000_000,
    )
    request = FetchRequest(
        max_wait_ms=100,
        min_bytes=0,
        max_bytes=1_000_000,
        isolation_level=0,
        session_id=0,
        session_epoch=-1,
        topics=[fetch(topic=topic, topic_id=topic_id, partitions=[partition])],
        forgotten_topics_data=[],
        rack_id="",
    )
    with closing(python_admin(endpoints, credentials)) as admin:
        response = admin._manager.run(admin._manager.send, request)
    raise_for(response.error_code, None)
    (answer,) = response.responses[0].partitions
    raise_for(answer.error_code, None)
    return bytes(answer.records)


def topic_id_of(endpoints: Endpoints, credentials: Credentials, topic: str) -> object:
    with closing(python_admin(endpoints, credentials)) as admin:
        return admin.describe_topics([topic])[0]["topic_id"]


def _first_value(consumer: Consumer) -> bytes:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None:
            _raise_librdkafka(message.error())
            return message.value()
    raise AssertionError("nothing came, and no refusal either")


def _raise_librdkafka(error) -> None:
    if error is not None:
        raise faults.fault_of(error)
