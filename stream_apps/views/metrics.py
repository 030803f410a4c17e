"""What the views count."""

from __future__ import annotations

from prometheus_client import Counter

from civicbus.histogram import BatchHistogram

FORWARDED = Counter("civicbus_forwarded_total", "Rows and tombstones written to an inbox", ["agreement", "kind"])
PARKED = Counter("civicbus_unforwarded_total", "Records that no view could read or hold", ["dataset", "reason"])
END_TO_END = BatchHistogram(
    "civicbus_end_to_end_seconds",
    "From ce_time until the row is visible in the inbox or the table",
    ["stage", "agreement"],
)
