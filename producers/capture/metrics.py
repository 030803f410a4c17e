"""What a capture process shows on its /metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CHANGES = Counter(
    "civicbus_capture_changes", "Changes made of captured tables: upserts, deletions, unsendable.", ("dataset", "kind")
)
UNREADABLE = Counter("civicbus_capture_unreadable", "Captured events that are none of Debezium's.", ("dataset",))
SLOT_LAG = Gauge(
    "civicbus_capture_slot_lag_bytes", "What the department's database keeps of its log for a capture.", ("dataset",)
)
RUNNING = Gauge("civicbus_capture_running", "Whether a dataset's table is captured now.", ("dataset",))
SNAPSHOTS = Counter("civicbus_capture_snapshots", "Snapshots that were begun.", ("dataset",))
