"""What became of a change that was published: admission's progress says whether it has decided, quarantine how.

A change is decided once admission has committed its offset; the same transaction parked it if it was refused. So
a change that is decided and does not stand in quarantine, read to its end after that, was admitted: it stands in
the records, or stood there before, or a later version of its record does. No record is read for it: how far
admission is may be seen by the ingress, and the quarantine is read as the department that owns it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum

import structlog

from civicbus.errors import AccessDenied, Unacceptable, Unavailable
from civicbus.names import DatasetId, DepartmentId
from civicbus.producers.changes import Refusal
from civicbus.producers.http.receipts import ReceiptId, Receipts, Shown, receipt_of
from civicbus.quarantine import Parked, parse
from civicbus.transport.assigned import AssignedReader, Record
from civicbus.transport.outgoing import Position
from civicbus.transport.partitions import Partition

log = structlog.get_logger()

_READ_S = 0.5
_READ_WITHIN_S = 5.0
_DECIDERS = "platform.admission"


class Fate(StrEnum):
    """The three answers of a receipt."""

    WAITING = "waiting"
    ADMITTED = "admitted"
    REFUSED = "refused"


class Fates:
    """Looks a receipt's fate up when somebody asks, and writes down what it finds. Safe to use from several threads."""

    def __init__(
        self,
        receipts: Receipts,
        progress: Callable[[str], AssignedReader],
        quarantine: Callable[[DepartmentId, str], AssignedReader],
    ) -> None:
        """Both make a reader for a group: one with the ingress's own rights, one with a department's."""
        self._receipts = receipts
        self._open_progress = progress
        self._open_quarantine = quarantine
        self._lock = threading.Lock()
        self._progress: AssignedReader | None = None
        self._quarantines: dict[DepartmentId, AssignedReader] = {}

    def fate_of(self, shown: Shown) -> tuple[Fate, Refusal | None]:
        """The fate, and why it was refused; waiting while the broker does not say."""
        if shown.refusal is not None:
            return Fate.REFUSED, shown.refusal
        if shown.admitted:
            return Fate.ADMITTED, None
        if shown.position is None:
            return Fate.WAITING, None
        with self._lock:
            try:
                return self._look_up(shown, shown.position)
            except (Unavailable, AccessDenied) as fault:
                log.warning("fate_unknown", dataset=str(shown.dataset), fault=str(fault))
                self._reopen()
                return Fate.WAITING, None

    def close(self) -> None:
        with self._lock:
            self._reopen()

    def _look_up(self, shown: Shown, at: Position) -> tuple[Fate, Refusal | None]:
        if self._decided(Partition(shown.dataset.changes, at.partition)) <= at.offset:
            return Fate.WAITING, None
        self._read_quarantine(shown.dataset)
        now = self._receipts.show(shown.receipt)
        if now is not None and now.refusal is not None:
            return Fate.REFUSED, now.refusal
        self._receipts.admit(shown.receipt)
        return Fate.ADMITTED, None

    def _decided(self, changes: Partition) -> int:
        """The offset of the first change of a partition that admission has not decided on."""
        if self._progress is None:
            self._progress = self._open_progress(_DECIDERS)
        return self._progress.committed([changes])[changes]

    def _read_quarantine(self, dataset: DatasetId) -> None:
        """Note every refusal up to where the quarantine ends now.

        What another worker has open there hides what stands behind it: until that is settled nobody can say.
        """
        reader = self._quarantine_reader(dataset.department)
        topic = dataset.quarantine
        identity = reader.describe([topic]).get(topic)
        if identity is None:
            raise Unavailable(f"there is no topic {topic}")
        partitions = [Partition(topic, number) for number in range(identity.partitions)]
        ends, first = reader.written_ends(partitions), reader.first_offsets(partitions)
        known = self._receipts.read_to(dataset)
        begin = {each: max(known.get(each.number, 0), first[each]) for each in partitions}
        unread = {each: at for each, at in begin.items() if at < ends[each]}
        if unread:
            self._take_in(reader, dataset, unread, ends)

    def _take_in(
        self, reader: AssignedReader, dataset: DatasetId, unread: dict[Partition, int], ends: dict[Partition, int]
    ) -> None:
        reader.start(unread)
        left, deadline = dict(unread), time.monotonic() + _READ_WITHIN_S
        try:
            while left:
                reading = reader.read(_READ_S)
                if reading.faults or reading.lost or time.monotonic() > deadline:
                    raise Unavailable(f"{dataset.quarantine} cannot be read now")
                records = reading.records.get(dataset.quarantine, [])
                read_to = {record.partition: record.offset + 1 for record in records}
                read_to |= {each.number: end for each, end in reading.ends.items() if each.topic == dataset.quarantine}
                self._receipts.refuse(dataset, _refused(dataset.department, records), read_to)
                left = {each: at for each, at in left.items() if read_to.get(each.number, at) < ends[each]}
        finally:
            reader.stop(unread)

    def _quarantine_reader(self, department: DepartmentId) -> AssignedReader:
        if department not in self._quarantines:
            self._quarantines[department] = self._open_quarantine(department, f"{department}.ingress")
        return self._quarantines[department]

    def _reopen(self) -> None:
        """Close every reader; the next question opens them with the secrets of then."""
        readers = [*self._quarantines.values(), *([self._progress] if self._progress is not None else [])]
        self._quarantines, self._progress = {}, None
        for reader in readers:
            reader.close()


def _refused(department: DepartmentId, records: list[Record]) -> Iterator[tuple[ReceiptId, Position, Refusal]]:
    for record in records:
        # What stands there and is not to be read is nothing that the ingress sent.
        with suppress(Unacceptable):
            parked = parse(None, record.headers)
            event = _event(parked)
            if event is not None:
                why = Refusal(reason=parked.reason, field=parked.field)
                yield receipt_of(department, *event), Position(parked.partition, parked.offset), why


def _event(parked: Parked) -> tuple[str, str] | None:
    """The source and the id of the event that was parked."""
    headers = dict(parked.original_headers)
    source, event_id = headers.get("ce_source"), headers.get("ce_id")
    if source is None or event_id is None:
        return None
    return source.decode("utf-8", "replace"), event_id.decode("utf-8", "replace")
