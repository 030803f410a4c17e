"""Watches a running platform through what its processes show Prometheus.

A process that was restarted counts from zero again; ``Watch`` adds up increases, as Prometheus' ``increase`` does,
so that its figures only rise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from civicbus.observe import Observed, observed

Series = tuple[str, frozenset[tuple[str, str]]]
_TIMEOUT_S = 1.0
# What the demo shows, by the beginnings of lines: parsing all the rest would cost the publishers their processor.
_WATCHED = tuple(
    f"{comment}civicbus_{name}"
    for comment in ("", "# TYPE ")
    for name in ("changes_t", "admitted_t", "refused_t", "forwarded_t", "delivered_t", "end_to_end_seconds")
)


@dataclass(slots=True)
class Watch:
    """What the processes of one home have counted since this watch began."""

    home: Path
    totals: dict[Series, float] = field(default_factory=dict)
    _seen: dict[tuple[str, int], dict[Series, float]] = field(default_factory=dict)
    _marks: dict[Series, float] = field(default_factory=dict)
    # One client for good: each one made reads a store of certificates, which takes a processor longer than the answer.
    _client: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=_TIMEOUT_S, headers={"Accept": "text/plain"})
    )

    def look(self) -> None:
        """Read every process that answers; one that does not keeps its last figures.

        The totals are replaced, not changed: another thread may be reading them.
        """
        totals = dict(self.totals)
        for process in observed(self.home):
            shown = _read(self._client, process)
            before = self._seen.get((process.process, process.pid), {})
            for series, value in shown.items():
                totals[series] = totals.get(series, 0.0) + max(0.0, value - before.get(series, 0.0))
            if shown:
                self._seen[process.process, process.pid] = shown
        self.totals = totals

    def mark(self) -> None:
        """Percentiles are taken of what is counted from now on."""
        self._marks = dict(self.totals)

    def count(self, name: str, **labels: str) -> int:
        """The sum over every series of this name that has these labels."""
        return int(sum(value for series, value in self.totals.items() if _matches(series, name, labels)))

    def by_label(self, name: str, label: str) -> dict[str, int]:
        """The sums of the series of this name, by the value of one label; zeros are left out."""
        sums: dict[str, int] = {}
        for (found, labels), value in self.totals.items():
            if found == name and value:
                key = dict(labels)[label]
                sums[key] = sums.get(key, 0) + int(value)
        return sums

    def percentiles(self, stage: str, **labels: str) -> tuple[float | None, float | None]:
        """The median and the 99th percentile of freshness, in seconds, since the mark."""
        name = "civicbus_end_to_end_seconds"
        return self.percentile(0.5, name, stage=stage, **labels), self.percentile(0.99, name, stage=stage, **labels)

    def percentile(self, share: float, name: str, **labels: str) -> float | None:
        """Since the mark, from a histogram's buckets; None where nothing was observed."""
        buckets: dict[float, float] = {}
        for series, value in self.totals.items():
            if _matches(series, f"{name}_bucket", labels):
                bound = float(dict(series[1])["le"])
                buckets[bound] = buckets.get(bound, 0.0) + value - self._marks.get(series, 0.0)
        return quantile(share, buckets)


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which ``share`` of the observations lie, linear within a bucket, as PromQL has it."""
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = share * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf") or buckets[bound] == below:
                return lower
            return lower + (bound - lower) * (rank - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower


def _matches(series: Series, name: str, labels: Mapping[str, str]) -> bool:
    return series[0] == name and frozenset(labels.items()) <= series[1]


def _read(client: httpx.Client, process: Observed) -> dict[Series, float]:
    try:
        text = client.get(f"{process.url}/metrics").text
    except httpx.TransportError:
        return {}
    ours = [line for line in text.splitlines() if line.startswith(_WATCHED)]
    return dict(_counted("\n".join(ours) + "\n"))


def _counted(text: str) -> Iterable[tuple[Series, float]]:
    """Counters and the buckets of histograms; gauges do not add up."""
    for family in text_string_to_metric_families(text):
        if family.type in {"counter", "histogram"}:
            for sample in family.samples:
                yield (sample.name, frozenset(sample.labels.items())), sample.value
