"""What a department's table process counts, beside what every loop counts (civicbus.transport.metrics)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

DELIVERED = Counter("civicbus_delivered_total", "Rows and deletions brought into the table", ["agreement", "kind"])
UNDELIVERED = Counter("civicbus_undelivered_total", "Rows that the table could not take", ["agreement", "reason"])
INBOXES = Gauge("civicbus_inboxes", "Inboxes of the department by what they do now", ["state"])
