"""quixstreams, exactly once: streaming data frames whose rows fastavro reads and writes."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, TopicPartition
from quixstreams import Application
from quixstreams.dataframe import StreamingDataFrame
from quixstreams.kafka.configuration import ConnectionConfig
from task import COMMIT_EVERY_S, ENTERPRISE_CODE, PROJECT, Row, Stream, Task, joined, only_cause

BYTES = {"key_deserializer": "bytes", "value_deserializer": "bytes"}
TO_BYTES = {"key_serializer": "bytes", "value_serializer": "bytes"}


def main() -> None:
    task = Task.load()
    app = _application(task)
    rows = app.dataframe(app.topic(task.permits.topic, **BYTES)).apply(task.permits.codec().decode)
    rows = rows.set_headers(lambda _value, _key, _timestamp, headers: only_cause(headers))
    if task.workload == "project":
        for rule, output in zip(PROJECT, task.outputs, strict=True):
            _write(app, rows.filter(rule), output)
    else:
        enterprises = _enterprises(task)
        enriched = rows.apply(lambda row: joined(row, enterprises.get(row[ENTERPRISE_CODE])))
        _write(app, enriched, task.outputs[0])
    app.run()


def _application(task: Task) -> Application:
    return Application(
        ConnectionConfig(
            bootstrap_servers=task.bootstrap_servers,
            security_protocol=task.security_protocol.lower(),
            sasl_mechanism=task.sasl_mechanism,
            sasl_username=task.username,
            sasl_password=task.password,
        ),
        consumer_group=task.group,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_EVERY_S,
        processing_guarantee="exactly-once",
        state_dir=task.folder / "state",
        auto_create_topics=False,
        use_changelog_topics=False,
        consumer_extra_config={"queued.max.messages.kbytes": 65_536, "fetch.wait.max.ms": 100},
        producer_extra_config={"linger.ms": 5, "batch.size": 1_000_000, "compression.type": "lz4"},
        loglevel="WARNING",
    )


def _write(app: Application, rows: StreamingDataFrame, output: Stream) -> None:
    rows.apply(output.codec().encode).to_topic(app.topic(output.topic, **TO_BYTES))


def _enterprises(task: Task) -> dict[str, Row]:
    """The whole dataset as it stands at the start, in a dict."""
    decode = task.enterprises.codec().decode
    options: dict[str, Any] = {"group.id": f"{task.group}.table", "enable.partition.eof": True}
    consumer = Consumer(task.librdkafka() | options)
    partitions = consumer.list_topics(task.enterprises.topic, 30).topics[task.enterprises.topic].partitions
    consumer.assign([TopicPartition(task.enterprises.topic, number, 0) for number in partitions])
    enterprises: dict[str, Row] = {}
    ended = 0
    while ended < len(partitions):
        for message in consumer.consume(5_000, 1.0):
            if message.error() is None:
                enterprises[message.key().decode()] = decode(message.value())
            else:
                ended += 1
    consumer.close()
    return enterprises


if __name__ == "__main__":
    main()
