"""faust-streaming, at least once: one agent that sends on what it is given, as fast as its settings allow.

Its exactly_once is not used, because it does not hold (docs/benchmarks.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiokafka
import faust
from task import ENTERPRISE_CODE, PROJECT, Row, Task, joined

CAUSE = "cause"


class ReadCommitted(aiokafka.AIOKafkaConsumer):
    """faust reads uncommitted where it is not asked for transactions of its own."""

    def __init__(self, *topics: str, **options: Any) -> None:  # noqa: ANN401 - aiokafka's own options
        super().__init__(*topics, **options | {"isolation_level": "read_committed"})


aiokafka.AIOKafkaConsumer = ReadCommitted


def main() -> None:
    task = Task.load()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    enterprises = loop.run_until_complete(_enterprises(task)) if task.workload == "enrich" else {}
    app = _application(task)
    outputs = [app.topic(output.topic, key_type=bytes, value_type=bytes, **RAW) for output in task.outputs]
    encoders = [output.codec().encode for output in task.outputs]
    decode = task.permits.codec().decode

    def routed(row: Row) -> list[tuple[faust.TopicT, bytes]]:
        if task.workload == "project":
            ways = zip(PROJECT, outputs, encoders, strict=True)
            return [(topic, encode(row)) for rule, topic, encode in ways if rule(row)]
        return [(outputs[0], encoders[0](joined(row, enterprises.get(row[ENTERPRISE_CODE]))))]

    _agent(app, app.topic(task.permits.topic, key_type=bytes, value_type=bytes, **RAW), decode, routed)
    faust.Worker(app, loglevel="WARNING", loop=loop).execute_from_commandline()


RAW = {"key_serializer": "raw", "value_serializer": "raw"}


def _application(task: Task) -> faust.App:
    credentials = faust.SASLCredentials(username=task.username, password=task.password, mechanism=task.sasl_mechanism)
    return faust.App(
        task.group,
        broker=f"kafka://{task.bootstrap_servers}",
        broker_credentials=credentials,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_max_poll_records=5_000,
        stream_buffer_maxsize=16_384,
        stream_wait_empty=False,
        producer_linger=0.005,
        producer_max_batch_size=262_144,
        producer_compression_type="lz4",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        datadir=str(task.folder / "faust"),
    )


def _agent(
    app: faust.App,
    permits: faust.TopicT,
    decode: Callable[[bytes], Row],
    routed: Callable[[Row], list[tuple[faust.TopicT, bytes]]],
) -> None:
    @app.agent(permits)
    async def forward(changes: faust.StreamT) -> None:
        events: AsyncIterator[faust.EventT] = changes.events()
        async for event in events:
            headers = {CAUSE: dict(event.headers)[CAUSE]}
            for topic, value in routed(decode(event.value)):
                await topic.send(key=event.key, value=value, headers=headers)


async def _enterprises(task: Task) -> dict[str, Row]:
    """The whole dataset as it stands at the start, in a dict."""
    decode = task.enterprises.codec().decode
    consumer = aiokafka.AIOKafkaConsumer(
        task.enterprises.topic,
        auto_offset_reset="earliest",
        bootstrap_servers=task.bootstrap_servers,
        security_protocol=task.security_protocol,
        sasl_mechanism=task.sasl_mechanism,
        sasl_plain_username=task.username,
        sasl_plain_password=task.password,
    )
    await consumer.start()
    try:
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        enterprises: dict[str, Row] = {}
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for batch in (await consumer.getmany(timeout_ms=1000, max_records=5_000)).values():
                    enterprises |= {message.key.decode(): decode(message.value) for message in batch}
        return enterprises
    finally:
        await consumer.stop()


if __name__ == "__main__":
    main()
