"""What the views count."""

from __future__ import annotations

from prometheus_client import Counter

FORWARDED = Counter("civicbus_forwarded_total", "Rows and tombstones written to an inbox", ["agreement", "kind"])
PARKED = Counter("civicbus_unforwarded_total", "Records that no view could read or hold", ["dataset", "reason"])
