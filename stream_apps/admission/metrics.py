"""What admission counts."""

from __future__ import annotations

from prometheus_client import Counter

CHANGES = Counter("civicbus_changes_total", "Changes read", ["dataset"])
ADMITTED = Counter("civicbus_admitted_total", "Changes admitted", ["dataset"])
DUPLICATES = Counter("civicbus_duplicates_total", "Changes dropped: same sequence, same bytes", ["dataset"])
REFUSED = Counter("civicbus_refused_total", "Changes parked", ["dataset", "reason"])
