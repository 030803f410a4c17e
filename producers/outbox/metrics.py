"""What a department's relay counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

PUBLISHED = Counter("civicbus_outbox_published_total", "Rows of the outbox that the broker has", ["dataset", "kind"])
REFUSED = Counter("civicbus_outbox_refused_total", "Rows of the outbox that are no record", ["dataset", "reason"])
WAITING = Gauge("civicbus_outbox_waiting_rows", "Rows of the outbox that wait", ["dataset"])
OLDEST = Gauge("civicbus_outbox_oldest_seconds", "How long the oldest waiting row of the outbox waits", ["dataset"])
