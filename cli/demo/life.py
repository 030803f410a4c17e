"""The steady flow of a demo: generated changes at a rate, published as each department would publish them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from civicbus.cli.demo.city import Life
from civicbus.names import DatasetId
from civicbus.producers.publisher import Publisher

TICK_S = 0.01


def live_on(
    life: Life, publishers: Mapping[DatasetId, Publisher], *, seconds: float, rate: float, stop: threading.Event
) -> int:
    """Publish ``rate`` changes a second for so many seconds, or until ``stop``; returns how many were sent.

    Where the broker cannot keep up, the publishers' back-pressure makes the flow slower, never lossy.
    """
    began_s = time.monotonic()
    sent = 0
    while not stop.is_set() and (elapsed_s := time.monotonic() - began_s) < seconds:
        due = int(elapsed_s * rate) - sent
        for _ in range(min(due, int(rate) + 1)):
            name, row = life.change()
            publishers[name].upsert(row)
            sent += 1
        stop.wait(TICK_S)
    for publisher in publishers.values():
        publisher.flush()
    return sent
