"""The floor: a plain confluent-kafka loop with fastavro, one row at a time, in transactions. State is a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from confluent_kafka import Message
from task import ENTERPRISE_CODE, PROJECT, Row, Task, joined, only_cause
from transactional import Output, Transform, run, whole


def main() -> None:
    task = Task.load()
    {"project": _project, "enrich": _enrich, "both-sides": _both_sides}[task.workload](task)


def _project(task: Task) -> None:
    decode = task.permits.codec().decode
    outputs = [(rule, to.topic, to.codec().encode) for rule, to in zip(PROJECT, task.outputs, strict=True)]

    def project(message: Message) -> Iterator[Output]:
        row, headers = decode(message.value()), only_cause(message.headers())
        for rule, topic, encode in outputs:
            if rule(row):
                yield topic, message.key(), encode(row), message.partition(), headers

    run(task, [task.permits.topic], project)


def _enrich(task: Task) -> None:
    decode, encode = task.permits.codec().decode, task.outputs[0].codec().encode
    enterprises, follow = _enterprises(task)
    to = task.outputs[0].topic

    def enrich(message: Message) -> Iterator[Output]:
        row = decode(message.value())
        value = encode(joined(row, enterprises.get(row[ENTERPRISE_CODE])))
        yield to, message.key(), value, message.partition(), only_cause(message.headers())

    run(task, [task.permits.topic], enrich, follow)


def _enterprises(task: Task) -> tuple[dict[str, Row], Callable[[], None]]:
    """The whole dataset in a dict, and what keeps it current."""
    decode = task.enterprises.codec().decode
    consumer, standing = whole(task, task.enterprises.topic)
    enterprises = {message.key().decode(): decode(message.value()) for message in standing}

    def follow() -> None:
        for message in consumer.consume(1000, 0):
            if message.error() is None:
                enterprises[message.key().decode()] = decode(message.value())

    return enterprises, follow


def _both_sides(task: Task) -> None:
    both = _BothSides(task)
    run(task, [task.permits.topic, task.enterprises.topic], both.transform)


class _BothSides:
    """Permits as they came, and which of them name an enterprise."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._decode, self._encode = task.permits.codec().decode, task.outputs[0].codec().encode
        self._decode_enterprise = task.enterprises.codec().decode
        self._enterprises: dict[str, Row] = {}
        self._permits: dict[bytes, tuple[bytes, int]] = {}
        self._naming: dict[str, set[bytes]] = {}
        self._named: dict[bytes, str] = {}

    @property
    def transform(self) -> Transform:
        return lambda m: self._permit(m) if m.topic() == self._task.permits.topic else self._enterprise(m)

    def _permit(self, message: Message) -> Iterator[Output]:
        key, value, partition = message.key(), message.value(), message.partition()
        row = self._decode(value)
        code = row[ENTERPRISE_CODE]
        before = self._named.get(key)
        if before is not None and before != code:
            self._naming[before].discard(key)
        self._named[key] = code
        self._naming.setdefault(code, set()).add(key)
        self._permits[key] = value, partition
        yield self._output(key, row, partition, message)

    def _enterprise(self, message: Message) -> Iterator[Output]:
        code = message.key().decode()
        self._enterprises[code] = self._decode_enterprise(message.value())
        for key in self._naming.get(code, ()):
            value, partition = self._permits[key]
            yield self._output(key, self._decode(value), partition, message)

    def _output(self, key: bytes, row: Row, partition: int, cause: Message) -> Output:
        value = self._encode(joined(row, self._enterprises.get(row[ENTERPRISE_CODE])))
        return self._task.outputs[0].topic, key, value, partition, only_cause(cause.headers())


if __name__ == "__main__":
    main()
