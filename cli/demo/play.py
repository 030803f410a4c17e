"""One run of the demo: start, load, live, settle, prove, stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from civicbus.cli.activation import activate, keep_tables
from civicbus.cli.applying import apply_catalogue
from civicbus.cli.context import Context
from civicbus.cli.demo.city import GENERATED, Life, Row, city
from civicbus.cli.demo.life import live_on
from civicbus.cli.demo.proof import prove, unread
from civicbus.cli.demo.screen import Screen
from civicbus.cli.demo.summary import Summary
from civicbus.cli.demo.watching import Watch
from civicbus.cli.platform import Narrator
from civicbus.errors import ConfigurationError, Unavailable
from civicbus.infra.platform import RunningPlatform, start_platform
from civicbus.infra.provision import provision_department
from civicbus.names import DatasetId
from civicbus.producers.journal import Journal, journal_path
from civicbus.producers.judging import judge
from civicbus.producers.publisher import Publisher
from civicbus.producers.registered import registered_schema
from civicbus.producers.table import Table, from_frame, read_csv
from civicbus.producers.table_source import Outcome, TableSource
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.datasets import Catalogue, Dataset
from civicbus.schemas.registry import Registry
from civicbus.schemas.views import View, check
from civicbus.secrets import principal_of

SETTLE_WITHIN_S = 180.0
LOAD_WITHIN_S = 600.0
STILL_FOR_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A dataset's first table, and where it comes from."""

    dataset: Dataset
    table: Table
    label: str


def city_sources(catalogue: Catalogue) -> list[Source]:
    """The generated city."""
    return [
        Source(dataset=catalogue.datasets[name], table=from_frame(frame, catalogue.datasets[name]), label=GENERATED)
        for name, frame in city(catalogue.datasets).items()
    ]


def file_sources(folder: Path, catalogue: Catalogue, console: Console) -> list[Source]:
    """The datasets that the folder's files feed; a file that feeds none is named, with a hint."""
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise ConfigurationError(f"{folder} has no CSV file", mend="name a folder of files named DEPT.DATASET.csv")
    sources = []
    for path in paths:
        fed = [dataset for dataset in catalogue.datasets.values() if dataset.file == path.name]
        if not fed:
            console.print(
                f"[yellow]skipped[/] {path.name}: no catalogue entry reads it; "
                f"`civicbus catalogue infer {path}` drafts one where its rows have a key"
            )
        sources += [Source(dataset=dataset, table=read_csv(path, dataset), label=path.name) for dataset in fed]
    return sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What a run needs: where, what, for whom, how long and how fast, and what may end it early."""

    here: Context
    console: Console
    catalogue: Catalogue
    agreements: Sequence[Agreement]
    seconds: float
    rate: float
    stop: threading.Event

    def run(self, sources: Sequence[Source]) -> Summary:
        """Everything; whatever happens, nothing of it runs afterwards."""
        began_s = time.monotonic()
        summary = Summary(home=self.here.home)
        agreements = self._about({source.dataset.id for source in sources})
        narrator = Narrator(self.here.home, self.console)
        with narrator:
            platform = start_platform(self.here.settings, listen=narrator)
        try:
            self._prepare(sources, [agreement for agreement, _ in agreements])
            summary.started_s = time.monotonic() - began_s
            self._go_on(platform, sources, [view for _, view in agreements], summary, began_s)
            self._prove(platform, sources, [agreement for agreement, _ in agreements], summary)
        finally:
            self.console.print("stopping")
            platform.stop()
        summary.disk_bytes = sum(path.stat().st_size for path in self.here.home.rglob("*") if path.is_file())
        return summary

    def _about(self, datasets: set[DatasetId]) -> list[tuple[Agreement, View]]:
        """The agreements over these datasets, with their views."""
        checked = [(agreement, check(agreement, self.catalogue)) for agreement in self.agreements]
        return [(agreement, view) for agreement, view in checked if view.datasets <= datasets]

    def _prepare(self, sources: Sequence[Source], agreements: Sequence[Agreement]) -> None:
        """Departments, datasets and agreements; all of it may be there already."""
        endpoints, secrets = self.here.endpoints, self.here.secrets
        datasets = {source.dataset.id: source.dataset for source in sources}
        parties = {name.department for name in datasets} | {agreement.subscriber for agreement in agreements}
        self.console.print(f"{len(parties)} departments, {len(datasets)} datasets, {len(agreements)} agreements")
        provision_department(endpoints, secrets, *sorted(parties))
        departments = {name: self.catalogue.departments[name] for name in sorted(parties)}
        apply_catalogue(endpoints, secrets, Catalogue(departments=departments, datasets=datasets))
        activate(endpoints, secrets, agreements)
        keep_tables(self.here.home, endpoints, secrets)

    def _go_on(
        self,
        platform: RunningPlatform,
        sources: Sequence[Source],
        views: Sequence[View],
        summary: Summary,
        began_s: float,
    ) -> None:
        """Load the tables, then let life go on."""
        watch = Watch(self.here.home)
        with (
            ExitStack() as publishing,
            Registry(self.here.endpoints.registry_url) as registry,
            Screen(self.console, watch, views) as screen,
        ):
            ids = {source.dataset.id: registered_schema(registry, source.dataset) for source in sources}
            publishers = {
                source.dataset.id: publishing.enter_context(self._publisher(source.dataset, ids[source.dataset.id]))
                for source in sources
            }
            for source in sources:
                name = source.dataset.id
                summary.loaded[name] = self._load(source, ids[name], publishers[name], platform)
            self._settle(platform, sources, screen, watch)
            if self.rate > 0 and not self.stop.is_set():
                watch.mark()
                life = Life(_rows(sources), {source.dataset.id: source.dataset for source in sources})
                summary.changes = live_on(life, publishers, seconds=self.seconds, rate=self.rate, stop=self.stop)
                screen.look()
                summary.freshness_s = {stage: watch.percentiles(stage) for stage in ("inbox", "table")}
                self._settle(platform, sources, screen, watch)
        if screen.first_row_s is not None:
            summary.first_row_s = screen.first_row_s - began_s
        summary.admitted = watch.count("civicbus_admitted_total")
        summary.refused = watch.by_label("civicbus_refused_total", "reason")

    def _publisher(self, dataset: Dataset, schema_id: int) -> Publisher:
        credentials = self.here.secrets.read(principal_of(dataset.id.department))
        return Publisher(self.here.endpoints, credentials, dataset, schema_id)

    def _load(self, source: Source, schema_id: int, publisher: Publisher, platform: RunningPlatform) -> Outcome:
        """Publish what differs from what was published before."""
        self.console.print(f"publishing {source.dataset.id}: {source.table.frame.height:,} rows, {source.label}")

        def stop() -> bool:
            return self.stop.is_set() or not _alive(platform)

        deadline_s = time.monotonic() + LOAD_WITHIN_S
        with Journal(journal_path(self.here.home, source.dataset.id), source.dataset.id) as journal:
            table = TableSource(source.dataset, schema_id, journal, publisher, stop=stop)
            while True:
                try:
                    return table.publish_table(source.table)
                except Unavailable as fault:
                    if time.monotonic() > deadline_s or stop():
                        raise
                    self.console.print(f"waiting: {fault}")
                    self.stop.wait(STILL_FOR_S)

    def _settle(self, platform: RunningPlatform, sources: Sequence[Source], screen: Screen, watch: Watch) -> None:
        """Return when admission has decided on every change and nothing moves any more, or too much time went."""
        names = [source.dataset.id for source in sources]
        deadline_s = time.monotonic() + SETTLE_WITHIN_S
        still_since_s, before = time.monotonic(), -1
        while time.monotonic() < deadline_s and _alive(platform):
            screen.look()
            moved = watch.count("civicbus_forwarded_total") + watch.count("civicbus_delivered_total")
            if moved != before:
                still_since_s, before = time.monotonic(), moved
            still = time.monotonic() - still_since_s > STILL_FOR_S
            with suppress(Unavailable):
                if still and unread(self.here.endpoints, self.here.secrets, names) == 0:
                    return
            time.sleep(0.3)

    def _prove(
        self,
        platform: RunningPlatform,
        sources: Sequence[Source],
        agreements: Sequence[Agreement],
        summary: Summary,
    ) -> None:
        """Prove every table; where one still differs, a little later again, until too much time went."""
        endpoints, secrets = self.here.endpoints, self.here.secrets
        deadline_s = time.monotonic() + SETTLE_WITHIN_S
        tell: Callable[[str], None] = self.console.print
        while True:
            if not _alive(platform):
                raise Unavailable("the platform ended", mend=f"read {self.here.home}/logs/supervisor.log")
            summary.memory_bytes = _memory(platform)
            try:
                summary.unread = unread(endpoints, secrets, [source.dataset.id for source in sources])
                summary.proofs = prove(endpoints, secrets, self.catalogue, agreements, tell)
            except Unavailable as fault:
                tell(f"waiting: {fault}")
            if summary.holds or time.monotonic() > deadline_s:
                return
            time.sleep(STILL_FOR_S)


def _rows(sources: Sequence[Source]) -> Mapping[DatasetId, list[Row]]:
    """The rows that can be sent, as Python values."""
    tables: dict[DatasetId, list[Row]] = {}
    for source in sources:
        frame = judge(source.table, source.dataset).sendable.select(source.dataset.schema.field_names)
        tables[source.dataset.id] = frame.unique(source.dataset.key, keep="last").to_dicts()
    return tables


def _alive(platform: RunningPlatform) -> bool:
    return platform.process.poll() is None


def _memory(platform: RunningPlatform) -> int:
    """The proportional set size of everything that runs: supervisor, parts, processes, and this command."""
    processes = [psutil.Process(), psutil.Process(platform.process.pid)]
    processes += processes[1].children(recursive=True)
    total = 0
    for process in processes:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(memory, "pss", memory.rss)
    return total
