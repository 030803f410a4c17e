"""One dropped file from its bytes to its result.

The steps of a job: read its name and its bytes; publish what differs, with the journal between (``journal``);
write the result beside the file; move both to where they stay. A kill between two of them leaves the file in
``working``, and the job is done again: the journal knows what was sent, so nothing is published twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from civicbus.names import DepartmentId
from civicbus.producers.bulk import bulk_publisher_at
from civicbus.producers.folder.corrections import corrections_of
from civicbus.producers.folder.desk import RESULTS, End, Job
from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.producers.folder.filenames import Named, Part, read_name
from civicbus.producers.folder.metrics import FILES, ROWS
from civicbus.producers.folder.place import Language
from civicbus.producers.folder.result import Published, refusal_text, result_text
from civicbus.producers.folder.sheet import Sheet, read_sheet
from civicbus.producers.folder.twins import digest_of, remember, twin_of
from civicbus.producers.journal import Journal, journal_path
from civicbus.producers.judging import judge
from civicbus.producers.table import ROW, Table
from civicbus.producers.table_source import Outcome, RefusedRow, TableSource
from civicbus.schemas.datasets import Catalogue, Dataset
from civicbus.schemas.quality import QualityRules

FILE_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all jobs of a department have in common."""

    home: Path
    department: DepartmentId
    language: Language
    catalogue: Catalogue
    stop: Callable[[], bool]

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """Those of the department; a file names none of somebody else's."""
        return tuple(one for one in self.catalogue.datasets.values() if one.id.department == self.department)


def dataset_named(bench: Bench, job: Job) -> Dataset | None:
    """The dataset that a job is for, None where its file will be refused for its name."""
    try:
        return read_name(job.file.name, bench.datasets).dataset
    except FileRefused:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file that can be published. ``kept_out``: rows that can be sent and that admission will park."""

    named: Named
    sheet: Sheet
    digest: str
    kept_out: tuple[RefusedRow, ...]


def finish_job(bench: Bench, job: Job, *, resumed: bool) -> bool:
    """Do a job; False where it was asked to stop on the way.

    Raises Unavailable, AccessDenied or ConfigurationError where it cannot be done now, for no fault of the file.
    """
    try:
        reading = _read(bench, job)
    except FileRefused as refused:
        _refuse(bench, job, refused)
        return True
    outcome = _publish(bench, reading.sheet.table, reading.named)
    if outcome.waiting:
        return False
    _report(bench, job, reading, outcome, resumed=resumed)
    return True


def _read(bench: Bench, job: Job) -> Reading:
    named = read_name(job.file.name, bench.datasets)
    content = job.content(FILE_BYTES)
    sheet = read_sheet(content, job.file.name, named)
    return Reading(named=named, sheet=sheet, digest=digest_of(content), kept_out=_kept_out(sheet.table, named))


def _publish(bench: Bench, table: Table, named: Named) -> Outcome:
    dataset = named.dataset
    with (
        Journal(journal_path(bench.home, dataset.id), dataset.id) as journal,
        bulk_publisher_at(bench.home, dataset) as publisher,
    ):
        source = TableSource(dataset, publisher.schema_id, journal, publisher, stop=bench.stop)
        return source.publish_table(table, full=named.part is Part.FULL)


def _kept_out(table: Table, named: Named) -> tuple[RefusedRow, ...]:
    """The rows that can be sent and that admission will park; raises FileRefused where a whole dataset would go."""
    judged = judge(table, named.dataset)
    if named.part is Part.FULL and judged.sendable.is_empty() and not judged.held:
        raise FileRefused(Fault.NO_ROWS)
    numbers = judged.sendable[ROW]
    return tuple(
        RefusedRow(row=numbers[one.row], reason=one.reason, field=one.field)
        for one in QualityRules(named.dataset).violations(judged.sendable.select(named.dataset.schema.field_names))
    )


def _refuse(bench: Bench, job: Job, refused: FileRefused) -> None:
    job.write(job.beside(*RESULTS), refusal_text(bench.language, job.arrival, refused).encode("utf-8-sig"))
    job.finish(End.REFUSED)
    FILES.labels(End.REFUSED).inc()


def _report(bench: Bench, job: Job, reading: Reading, outcome: Outcome, *, resumed: bool) -> None:
    dataset, sheet, arrival = reading.named.dataset, reading.sheet, job.arrival
    wrong = (*outcome.refused_rows, *reading.kept_out)
    copy = job.beside(*_copy_names(dataset, job)) if wrong else None
    if copy is not None:
        job.write(copy, corrections_of(bench.language, dataset, sheet, wrong))
    published = Published(
        dataset=dataset,
        part=reading.named.part,
        encoding=sheet.encoding.value,
        separator="" if sheet.is_workbook else sheet.separator,
        outcome=outcome,
        kept_out=reading.kept_out,
        corrections=copy,
        twin=twin_of(bench.home, dataset.id, reading.digest, arrival),
        resumed=resumed,
    )
    job.write(job.beside(*RESULTS), result_text(bench.language, arrival, published).encode("utf-8-sig"))
    remember(bench.home, dataset.id, reading.digest, arrival)
    job.finish(End.DONE)
    _count(dataset, outcome, reading.kept_out)


def _copy_names(dataset: Dataset, job: Job) -> tuple[str, str]:
    name, date = dataset.id.name, f"{job.arrival.time:%Y%m%d}"
    return f"{name}.{Part.CORRECTIONS}.csv", f"{name}_{date}.{Part.CORRECTIONS}.csv"


def _count(dataset: Dataset, outcome: Outcome, kept_out: tuple[RefusedRow, ...]) -> None:
    FILES.labels(End.DONE).inc()
    counts = {
        "upserted": outcome.upserts,
        "deleted": outcome.deletions,
        "unchanged": outcome.unchanged,
        "refused": len(outcome.refused_rows),
        "kept_out": len({row.row for row in kept_out}),
    }
    for name, count in counts.items():
        ROWS.labels(str(dataset.id), name).inc(count)
