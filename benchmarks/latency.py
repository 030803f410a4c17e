"""From the producer's call to a read-committed reader of the inboxes, at a pace that no engine has to hurry for.

Ours goes the whole way: changes → admission → records → views → inboxes. For comparison both ours and a peer go
one hop, from records to their outputs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from shutil import rmtree

import numpy as np
from confluent_kafka import OFFSET_END, TopicPartition

from benchmarks.engines import Engine, Started, commands_of, started, write_task
from benchmarks.peers.task import PROJECT
from benchmarks.platform import Bench, own_outputs
from benchmarks.results import Latency
from benchmarks.rows import PERMITS, Change, Rows, cause_of, permit
from benchmarks.workloads import THREE, Workload, inputs_of
from civicbus.errors import Unavailable
from civicbus.events import CAUSE, ChangeEvent, Headers, upserted
from civicbus.names import Topic, source_of

CHANGES_A_SECOND = 1_000
FLOWS_WITHIN_S = 90.0
ARRIVES_WITHIN_S = 20.0
PROBES = 180
WHOLE_WAY = "changes to inbox, through admission and views"
ONE_HOP = "records to output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long changes are sent, and for how long before that arrivals are not counted."""

    measured_s: int
    warm_s: int

    @property
    def changes(self) -> int:
        return (self.measured_s + self.warm_s) * CHANGES_A_SECOND

    @property
    def first_measured(self) -> int:
        return self.warm_s * CHANGES_A_SECOND


@dataclass(slots=True)
class Arrivals:
    """When each message of the outputs was seen, by the number of its cause; filled by a thread of its own."""

    numbers: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def take(self, headers: Headers) -> None:
        cause = next((value for name, value in headers if name == CAUSE), None)
        self.at_s.append(time.monotonic())
        self.numbers.append(int(cause[-10:]) if isinstance(cause, bytes) else -1)


def measure(bench: Bench, engine: Engine, rows: Rows, pace: Pace, round_: int, *, whole_way: bool) -> Latency:
    """One engine, once, over so many seconds."""
    folder = bench.home / "bench"
    rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rmtree(bench.cache, ignore_errors=True)
    bench.empty(inputs_of(Workload.PROJECT))
    inboxes = [output.stream for output in bench.have(THREE)]
    outputs = inboxes if engine.ours else own_outputs(bench, engine.name, inboxes)
    group = f"bench.latency.{time.time_ns()}"
    task = write_task(bench, engine, workload=Workload.PROJECT, group=group, outputs=outputs, folder=folder)
    with ExitStack() as stack:
        processes = [stack.enter_context(started(engine.name, commands_of(bench, engine, task), folder))]
        if whole_way:
            admission = (*engine.command[:-1], "civicbus.stream_apps.admission", "--home", str(bench.home))
            processes.append(stack.enter_context(started("admission", [admission], folder)))
        send = sender(bench, rows, whole_way=whole_way)
        arrivals = listen(bench, [Topic(output.topic) for output in outputs], stack)
        wait_until_flowing(send, arrivals, processes, range(pace.changes, pace.changes + PROBES))
        sent_s = _send_evenly(send, pace, processes)
        expected = _expected(rows, range(pace.first_measured, pace.changes))
        _wait_for_the_last(arrivals, pace, expected)
    delays_ms = _delays_ms(sent_s, arrivals, pace)
    return Latency(
        engine=engine.name,
        title=engine.title,
        way=WHOLE_WAY if whole_way else ONE_HOP,
        round=round_,
        changes=expected,
        arrivals=len(delays_ms),
        p50_ms=float(np.percentile(delays_ms, 50)),
        p99_ms=float(np.percentile(delays_ms, 99)),
        worst_ms=float(delays_ms.max()),
    )


def sender(bench: Bench, rows: Rows, *, whole_way: bool) -> Callable[[int], None]:
    """What sends the change of a number, as a department does or as admission would."""
    producer = bench.bus.producer({"linger.ms": 1})
    topic = PERMITS.changes if whole_way else PERMITS.records
    headers = _event_headers if whole_way else (lambda change: change.headers())

    def send(number: int) -> None:
        change = Change(rows.keys[number], rows.values[number], number)
        producer.produce(topic, change.value, change.key, headers=headers(change))
        producer.poll(0)

    return send


def _event_headers(change: Change) -> Headers:
    return ChangeEvent(
        id=cause_of(change.number).decode(),
        source=source_of(PERMITS.department),
        type=upserted(PERMITS),
        time=datetime.now(UTC),
        sequence=time.time_ns(),
    ).headers()


def listen(bench: Bench, topics: Sequence[Topic], stack: ExitStack) -> Arrivals:
    """Take the times of what comes from now on, until the stack closes."""
    arrivals = Arrivals()
    consumer = bench.bus.reader()
    consumer.assign([TopicPartition(*partition, OFFSET_END) for partition in bench.bus.partitions(topics)])

    def follow() -> None:
        while not arrivals.stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                arrivals.take(message.headers() or [])  # type: ignore[arg-type]
        consumer.close()

    thread = threading.Thread(target=follow, name="arrivals", daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(arrivals.stop.set)
    return arrivals


def wait_until_flowing(
    send: Callable[[int], None], arrivals: Arrivals, processes: Sequence[Started], probes: range
) -> int:
    """Send one probe after the other until one arrives; gives its number."""
    wanted = set(probes)
    for number in probes:
        send(number)
        until_s = time.monotonic() + FLOWS_WITHIN_S / len(probes)
        while time.monotonic() < until_s:
            for process in processes:
                process.must_run()
            arrived = wanted.intersection(arrivals.numbers)
            if arrived:
                return min(arrived)
            time.sleep(0.01)
    raise Unavailable(f"nothing arrived within {FLOWS_WITHIN_S:.0f} s")


def _send_evenly(send: Callable[[int], None], pace: Pace, processes: Sequence[Started]) -> np.ndarray:
    """Each change at its own moment; gives when each was sent."""
    sent_s = np.zeros(pace.changes)
    began_s = time.monotonic()
    for number in range(pace.changes):
        wait_s = began_s + number / CHANGES_A_SECOND - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        sent_s[number] = time.monotonic()
        send(number)
        if number % CHANGES_A_SECOND == 0:
            for process in processes:
                process.must_run()
    return sent_s


def _wait_for_the_last(arrivals: Arrivals, pace: Pace, expected: int) -> None:
    deadline = time.monotonic() + ARRIVES_WITHIN_S
    while time.monotonic() < deadline:
        numbers = np.array(arrivals.numbers)
        if np.count_nonzero((numbers >= pace.first_measured) & (numbers < pace.changes)) >= expected:
            return
        time.sleep(0.2)


def _delays_ms(sent_s: np.ndarray, arrivals: Arrivals, pace: Pace) -> np.ndarray:
    numbers, at_s = np.array(arrivals.numbers), np.array(arrivals.at_s)
    counted = (numbers >= pace.first_measured) & (numbers < pace.changes)
    return (at_s[counted] - sent_s[numbers[counted]]) * 1000


def _expected(rows: Rows, numbers: range) -> int:
    """How many messages the rules make of these rows."""
    return sum(rule(permit(number, rows.enterprises)) for number in numbers for rule in PROJECT)
