"""What every stage's loop counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

BATCH_RECORDS = Histogram(
    "civicbus_batch_records", "Records in one batch", buckets=(1, 10, 50, 100, 500, 1000, 2500, 5000, 10000)
)
COMMIT_SECONDS = Histogram(
    "civicbus_commit_seconds",
    "From begin to the end of a Kafka transaction",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 5, 10),
)
LAST_COMMIT = Gauge("civicbus_last_commit_timestamp_seconds", "When the last transaction committed", ["process"])
LAG_RECORDS = Gauge("civicbus_lag_records", "Records between the position and the end", ["topic", "partition"])
LOOP_SECONDS = Counter("civicbus_loop_seconds_total", "Processor time that a part of the loop took", ["part"])


@contextmanager
def spent(part: str) -> Iterator[None]:
    """Add the processor time that this thread takes for the block to a part's."""
    began_s = time.thread_time()
    try:
        yield
    finally:
        LOOP_SECONDS.labels(part).inc(time.thread_time() - began_s)
