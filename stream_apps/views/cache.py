"""What the views held, on the local disk: rows, joined rows, what each inbox has, and how far all of it was read.

A cache, never evidence (DESIGN §5 rule 5): behind is fine, for a start from it reads on from there on either side;
lost, of another engine, of other topics or too old, it is as if there were none. It is written whole and off the hot
path: the state is copied between two transactions, a thread writes it beside the last one and puts it in its place.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import structlog
from numpy.typing import NDArray

from civicbus.errors import CivicbusError
from civicbus.names import AgreementId, DatasetId, Topic
from civicbus.stream_apps.views.metrics import CHECKPOINT_SECONDS
from civicbus.stream_apps.views.rows import RowsCopy
from civicbus.stream_apps.views.values import Mapped
from civicbus.transport.partitions import Partition
from civicbus.transport.stage import Positions

log = structlog.get_logger()

# Another number: everything that was cached is evaluated again.
ENGINE = 2
EVERY_S = 5.0
# Where there is much to do, it waits: it would take its share from what it is to save.
AT_LEAST_EVERY_S = 30.0
# A checkpoint may take this share of one processor.
SHARE = 0.05
HORIZON = timedelta(days=15)
_CHUNK = 20_000
_MANIFEST = "manifest.json"
# A worker that was replaced may still be writing when the next one of the process reads.
_ONE_AT_A_TIME = threading.Lock()


class TopicFacts(Protocol):
    """What the broker says of topics: the id of each that is there, and where partitions end."""

    def ids(self, topics: Iterable[Topic]) -> Mapping[Topic, str]: ...

    def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]: ...


@dataclass(slots=True, kw_only=True)
class Copy:
    """All that is written at one moment. ``views``: what each agreement in force was; ``joined``: keys and values."""

    positions: Positions
    views: Mapping[AgreementId, str]
    rows: dict[Partition, RowsCopy] = field(default_factory=dict)
    joined: dict[DatasetId, tuple[list[bytes], list[bytes | None]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """A checkpoint that holds: the rows of each partition, and of joined datasets keys and values by their slots.

    Its files are mapped from the disk. ``on_disk``: there is too little memory for the values of the rows.
    """

    rows: Mapping[Partition, Mapped]
    joined: Mapping[DatasetId, pa.Table]
    positions: Positions
    views: Mapping[AgreementId, str]
    on_disk: bool


class Cache:
    """One worker's checkpoints below a folder. Values of rows of more than ``memory_bytes`` are to stand in them."""

    def __init__(self, folder: Path, facts: TopicFacts, memory_bytes: int) -> None:
        self._folder = folder
        self._facts = facts
        self._memory_bytes = memory_bytes
        self._written: Mapping[Partition, tuple[RowsCopy, Mapped]] = {}
        self._writing: threading.Thread | None = None
        self._not_before_s = time.monotonic() + EVERY_S

    def load(self) -> Cached | None:
        """The last checkpoint, where it holds."""
        with _ONE_AT_A_TIME:
            return self._load()

    def _load(self) -> Cached | None:
        manifest = self._folder / "current" / _MANIFEST
        if not manifest.exists():
            return None
        try:
            document = json.loads(manifest.read_bytes())
            why = self._unfit(document)
            positions = _positions(document)
            rows = _mapped(manifest.parent, positions.inputs)
            joined = {
                name: _read(manifest.parent / _joined_file(name)) for name in map(DatasetId.parse, document["joined"])
            }
        except (ValueError, KeyError, OSError):
            why = "it cannot be read"
        if why:
            log.info("cache_not_used", why=why)
            return None
        views = {AgreementId(name): view for name, view in document["views"].items()}
        return Cached(rows=rows, joined=joined, positions=positions, views=views, on_disk=self._is_much(rows))

    def _unfit(self, document: Mapping[str, Any]) -> str:
        """Why a checkpoint does not hold; empty where it does."""
        if document["engine"] != ENGINE:
            return "another engine wrote it"
        if datetime.now(UTC) - datetime.fromisoformat(document["written"]) > HORIZON:
            return "it is too old"
        known = {Topic(topic): str(name) for topic, name in document["topics"].items()}
        if self._facts.ids(known) != known:
            return "its topics are others"
        positions = _positions(document)
        reached = {**positions.inputs, **positions.outputs, **positions.followed}
        ends = self._facts.ends(reached)
        return "its topics are shorter" if any(ends[place] < at for place, at in reached.items()) else ""

    def is_due(self, *, busy: bool, memory_bytes: int) -> bool:
        """Whether it is time for another checkpoint, and none is being written.

        ``busy``: there is much to do. ``memory_bytes``: what the values take; more than enough of it waits for nothing.
        """
        writing = self._writing is not None and self._writing.is_alive()
        waits = busy and memory_bytes <= self._memory_bytes
        return not writing and time.monotonic() >= self._not_before_s + waits * AT_LEAST_EVERY_S

    def written(self) -> Mapping[Partition, tuple[RowsCopy, Mapped]]:
        """Once for each checkpoint whose files the values of its rows are to stand in: each copy and its file."""
        written, self._written = self._written, {}
        return written

    def _is_much(self, rows: Mapping[Partition, Mapped]) -> bool:
        return sum(mapped.value_bytes for mapped in rows.values()) > self._memory_bytes

    def write(self, copy: Copy) -> None:
        """Write a copy of the state, on a thread of its own."""
        self._written = {}
        self._writing = threading.Thread(target=self._write_in_turn, args=(copy,), name="checkpoint", daemon=True)
        self._writing.start()

    def _write_in_turn(self, copy: Copy) -> None:
        began_s = time.monotonic()
        try:
            with _ONE_AT_A_TIME:
                self._write(copy)
        except (OSError, pa.ArrowException, CivicbusError) as fault:
            # Without a cache a restart takes longer, and nothing else is lost.
            log.warning("checkpoint_failed", fault=type(fault).__name__)
        took_s = time.monotonic() - began_s
        CHECKPOINT_SECONDS.set(took_s)
        self._not_before_s = time.monotonic() + max(EVERY_S, took_s / SHARE)

    def _write(self, copy: Copy) -> None:
        """Everything into a new folder, the manifest last; then the folder takes the place of the other."""
        draft, current, old = (self._folder / name for name in ("draft", "current", "old"))
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, mode=0o700)
        for partition, rows in copy.rows.items():
            names = ["key", "value", "cause", *rows.columns]
            columns = [rows.keys, rows.values, rows.causes, *rows.columns.values()]
            _store(draft / _rows_file(partition), names, columns)
        for dataset, (keys, values) in copy.joined.items():
            _store(draft / _joined_file(dataset), ["key", "value"], [keys, values])
        positions = copy.positions
        topics = {place.topic for part in (positions.inputs, positions.outputs, positions.followed) for place in part}
        document = {
            "engine": ENGINE,
            "written": datetime.now(UTC).isoformat(),
            "topics": self._facts.ids(topics),
            "inputs": _listed(positions.inputs),
            "outputs": _listed(positions.outputs),
            "followed": _listed(positions.followed),
            "views": copy.views,
            "joined": [str(name) for name in copy.joined],
        }
        (draft / _MANIFEST).write_text(json.dumps(document))
        shutil.rmtree(old, ignore_errors=True)
        if current.exists():
            current.rename(old)
        draft.rename(current)
        shutil.rmtree(old, ignore_errors=True)
        mapped = _mapped(current, copy.rows)
        if self._is_much(mapped):
            self._written = {place: (rows, mapped[place]) for place, rows in copy.rows.items()}


def _mapped(folder: Path, partitions: Iterable[Partition]) -> dict[Partition, Mapped]:
    return {place: Mapped(folder / _rows_file(place)) for place in partitions}


def _rows_file(partition: Partition) -> str:
    return f"{partition.topic}.{partition.number}.arrow"


def _joined_file(dataset: DatasetId) -> str:
    return f"joined.{dataset}.arrow"


def _store(path: Path, names: Sequence[str], columns: Sequence[Any]) -> None:
    """Write columns in chunks, so that no other thread waits long."""
    count = len(columns[0])
    writer: pa.RecordBatchFileWriter | None = None
    try:
        for start in range(0, max(count, 1), _CHUNK):
            arrays = [_array(column[start : start + _CHUNK]) for column in columns]
            batch = pa.RecordBatch.from_arrays(arrays, names=list(names))
            writer = writer or pa.ipc.new_file(str(path), batch.schema)
            writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()


def _array(values: list[bytes | None] | NDArray[Any]) -> pa.Array:
    array: pa.Array = pa.array(values, pa.large_binary()) if isinstance(values, list) else pa.array(values)
    return array


def _read(path: Path) -> pa.Table:
    table: pa.Table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return table


def _listed(places: Mapping[Partition, int]) -> list[tuple[str, int, int]]:
    return [(place.topic, place.number, offset) for place, offset in places.items()]


def _partitions(listed: Iterable[tuple[str, int, int]]) -> dict[Partition, int]:
    return {Partition(Topic(topic), number): offset for topic, number, offset in listed}


def _positions(document: Mapping[str, Any]) -> Positions:
    return Positions(
        inputs=_partitions(document["inputs"]),
        outputs=_partitions(document["outputs"]),
        followed=_partitions(document["followed"]),
    )
