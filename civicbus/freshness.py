"""How old a change is where somebody can see it: one histogram for every stage that makes rows visible."""

from __future__ import annotations

from civicbus.histogram import BatchHistogram

END_TO_END = BatchHistogram(
    "civicbus_end_to_end_seconds",
    "From ce_time until the row is visible in the inbox or the table",
    ["stage", "agreement"],
)
