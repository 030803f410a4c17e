"""The live table of a demo: what each agreement has published, admitted, refused, forwarded and delivered."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from civicbus.cli.demo.summary import milliseconds
from civicbus.cli.demo.watching import Watch
from civicbus.schemas.views import View

LOOK_EVERY_S = 1.0


class Screen:
    """A context in which a thread looks at the platform every second and shows what it sees."""

    def __init__(self, console: Console, watch: Watch, views: Sequence[View]) -> None:
        self._watch = watch
        self._views = views
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self._began_s = time.monotonic()
        self.first_row_s: float | None = None
        """When the first row was seen in a table, on the monotonic clock."""

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._live.__exit__(kind, error, trace)

    def look(self) -> None:
        """Look now."""
        with self._lock:
            self._watch.look()
            if self.first_row_s is None and self._watch.count("civicbus_delivered_total"):
                self.first_row_s = time.monotonic()
        self._live.update(self._table())

    def _run(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            self.look()

    def _table(self) -> Table:
        watch = self._watch
        table = Table(title=f"{time.monotonic() - self._began_s:.0f} s")
        for heading in ("department", "agreement", "from", "published", "admitted", "refused", "in inbox", "in table"):
            table.add_column(heading)
        table.add_column("inbox p50 / p99")
        table.add_column("table p50 / p99")
        for view in self._views:
            dataset, agreement = str(view.driving), view.agreement
            counts = (
                watch.count("civicbus_changes_total", dataset=dataset),
                watch.count("civicbus_admitted_total", dataset=dataset),
                watch.count("civicbus_refused_total", dataset=dataset),
                watch.count("civicbus_forwarded_total", agreement=agreement),
                watch.count("civicbus_delivered_total", agreement=agreement),
            )
            ages = [self._ages(stage, agreement) for stage in ("inbox", "table")]
            table.add_row(view.subscriber, agreement, dataset, *(f"{count:,}" for count in counts), *ages)
        return table

    def _ages(self, stage: str, agreement: str) -> str:
        p50, p99 = self._watch.percentiles(stage, agreement=agreement)
        return f"{milliseconds(p50)} / {milliseconds(p99)}"
