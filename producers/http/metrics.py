"""What the ingress counts."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

TAKEN = Counter("civicbus_ingress_events_total", "Events answered with a receipt, repetitions too", ["department"])
REJECTED = Counter("civicbus_ingress_rejected_total", "Requests of which nothing was taken", ["kind"])
SECONDS = Histogram(
    "civicbus_ingress_request_seconds",
    "From the whole request to its answer, the broker's acknowledgement included",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 5, 15),
)
