"""The ceiling: the same bytes from one topic to another in transactions, with nothing looked at."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Message
from task import Task, only_cause
from transactional import Output, run


def main() -> None:
    task = Task.load()
    to = task.outputs[0].topic

    def forward(message: Message) -> Iterator[Output]:
        yield to, message.key(), message.value(), message.partition(), only_cause(message.headers())

    run(task, [task.permits.topic], forward)


if __name__ == "__main__":
    main()
