"""Admission's own stage in memory: what it decides on changes, with nothing sent anywhere.

Promise: the decision is the one that the running process would make on the same changes in the same order, since the
same code makes it; only the schemas' ids are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from civicbus.errors import Unacceptable
from civicbus.events import Headers
from civicbus.names import DatasetId
from civicbus.quarantine import Parked, parse
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Dataset
from civicbus.stream_apps.admission.stage import Admission
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import ANY_PARTITION, Batch
from civicbus.transport.transactions import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One change as it would stand on its topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What became of some changes: records, in order, and what was parked. Neither: it was a duplicate."""

    records: tuple[Output, ...]
    parked: tuple[Parked, ...]


class Trial:
    """A bus of these datasets on which nothing stands yet. Of each dataset there is one partition."""

    def __init__(self, datasets: Iterable[Dataset], clock: Callable[[], datetime]) -> None:
        self._datasets = {dataset.id: replace(dataset, partitions=1) for dataset in datasets}
        schemas = [schema for dataset in self._datasets.values() for schema in dataset.schemas]
        self._schemas: Mapping[int, AvroSchema] = dict(enumerate(schemas, 1))
        self._stage = Admission(self._datasets.values(), _never, self._schema, clock)
        self._ends = dict.fromkeys(self._datasets, 0)
        self._clock = clock
        for dataset in self._datasets:
            self._stage.open(Partition(dataset.changes, 0))

    def schema_id(self, dataset: DatasetId) -> int:
        """The id under which values of the dataset's current schema are framed here."""
        wanted = self._datasets[dataset].schema
        return next(number for number, schema in self._schemas.items() if schema is wanted)

    def decide(self, dataset: DatasetId, changes: Sequence[Tried]) -> Decided:
        """Let the changes follow what was decided before; offsets in what is parked count from the first of all."""
        first = self._ends[dataset]
        self._ends[dataset] += len(changes)
        batch = Batch(
            partition=Partition(dataset.changes, 0),
            keys=[change.key for change in changes],
            values=[change.value for change in changes],
            headers=[_as_read(change.headers) for change in changes],
            timestamps_ms=[int(self._clock().timestamp() * 1000)] * len(changes),
            offsets=list(range(first, first + len(changes))),
        )
        outputs = self._stage.process([batch]).outputs
        return Decided(
            records=tuple(output for output in outputs if output[0].number != ANY_PARTITION),
            parked=tuple(parse(value, headers) for to, _, value, headers, _ in outputs if to.number == ANY_PARTITION),
        )

    def _schema(self, schema_id: int) -> AvroSchema:
        try:
            return self._schemas[schema_id]
        except KeyError:
            raise Unacceptable(Reason.SCHEMA_UNKNOWN, f"there is no schema {schema_id}") from None


def _never(*, to_the_end: bool) -> None:
    """The rules of a trial stay."""


def _as_read(headers: Headers) -> Headers:
    """Headers as a consumer gives them: bytes."""
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in headers]
