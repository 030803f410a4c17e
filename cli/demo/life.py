"""The steady flow of a demo: generated changes at a rate, published as each department would publish them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from civicbus.cli.demo.city import Life, Row
from civicbus.errors import Unavailable
from civicbus.names import DatasetId
from civicbus.producers.publisher import Publisher

# Five departments publish from this one process; shorter ticks would be its own cost, on the processors of the bus.
TICK_S = 0.05
WAIT_S = 1.0


def live_on(
    life: Life, publishers: Mapping[DatasetId, Publisher], *, seconds: float, rate: float, stop: threading.Event
) -> int:
    """Publish ``rate`` changes a second for so many seconds, or until ``stop``; returns how many were sent.

    Where the broker cannot keep up, the publishers' back-pressure makes the flow slower; where it does not answer,
    the flow waits for it.
    """
    began_s = time.monotonic()
    sent = 0
    while not stop.is_set() and (elapsed_s := time.monotonic() - began_s) < seconds:
        due = int(elapsed_s * rate) - sent
        for _ in range(min(due, int(rate) + 1)):
            name, row = life.change()
            sent += _sent(publishers[name], row, stop)
        stop.wait(TICK_S)
    for publisher in publishers.values():
        publisher.flush()
    return sent


def _sent(publisher: Publisher, row: Row, stop: threading.Event) -> int:
    """1 once the publisher has taken the row, 0 where the demo ends first."""
    while not stop.is_set():
        try:
            publisher.upsert(row)
        except Unavailable:
            stop.wait(WAIT_S)
        else:
            return 1
    return 0
