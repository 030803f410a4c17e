"""What the views count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge

FORWARDED = Counter("civicbus_forwarded_total", "Rows and tombstones written to an inbox", ["agreement", "kind"])
PARKED = Counter("civicbus_unforwarded_total", "Records that no view could read or hold", ["dataset", "reason"])
OVERFLOWS = Counter("civicbus_overflows_total", "Calculations that are NULL because they overflowed", ["agreement"])
UNREADABLE = Counter("civicbus_unreadable_joined_total", "Joined records that could not be read", ["dataset"])
SPENT = Counter("civicbus_views_seconds_total", "Time that a part of the engine took", ["part"])
CHECKPOINT_SECONDS = Gauge("civicbus_views_checkpoint_seconds", "How long the last checkpoint took to write")
ROWS = Gauge("civicbus_views_rows", "Rows held", ["dataset"])


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Add the time that the block takes to a part's."""
    began_s = time.perf_counter()
    try:
        yield
    finally:
        SPENT.labels(part).inc(time.perf_counter() - began_s)
