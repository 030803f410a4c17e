"""A Prometheus histogram that takes a whole batch of observations at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

# Close enough together that a percentile read from them is within a quarter of the truth.
SECONDS = (
    *(0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5),
    *(0.64, 0.8, 1.0, 1.28, 2.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class BatchHistogram(Collector):
    """Counts batches into fixed buckets, per combination of label values. Safe to use from several threads."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        buckets: Sequence[float] = SECONDS,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._bounds = np.asarray(buckets, dtype=np.float64)
        self._counts: dict[tuple[str, ...], np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, label_values: tuple[str, ...], values: Sequence[float] | NDArray[np.float64]) -> None:
        """Add one batch of observations."""
        observed = np.asarray(values, dtype=np.float64)
        places = np.searchsorted(self._bounds, observed)
        counts = np.bincount(places, minlength=len(self._bounds) + 1)
        with self._lock:
            self._counts[label_values] = self._counts.get(label_values, np.zeros_like(counts)) + counts
            self._sums[label_values] = self._sums.get(label_values, 0.0) + float(observed.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        bounds = [*(str(bound) for bound in self._bounds), "+Inf"]
        with self._lock:
            for label_values, counts in self._counts.items():
                cumulative = zip(bounds, np.cumsum(counts).tolist(), strict=True)
                family.add_metric(list(label_values), list(cumulative), self._sums[label_values])
        yield family
