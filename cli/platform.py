"""Commands: the platform's start, state, stop and examination."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from civicbus.cli.context import Context
from civicbus.infra.doctor import Finding, Verdict, examine
from civicbus.infra.lock import holder
from civicbus.infra.platform import start_platform, stop_platform
from civicbus.infra.processes import Event, Notice, State
from civicbus.infra.report import prometheus_folder
from civicbus.infra.run import Order, run_platform
from civicbus.infra.status import PlatformView, platform_view
from civicbus.infra.supervisor import PLATFORM
from civicbus.infra.wipe import wipe
from civicbus.settings import Endpoints, logs_folder

INTERRUPTED = 130
ILL = 1
NOT_RUNNING = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_STYLE = {State.READY: "green", State.STARTING: "yellow", State.WAITING: "dim", State.STOPPED: "dim"}
_VERDICT_STYLE = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
_EVENT_STYLE = {Event.READY: "green", Event.DIED: "red", Event.KILLED: "red", Event.NOT_ANSWERING: "yellow"}


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(up)
    app.command()(status)
    app.command()(down)
    app.command()(doctor)


def up(
    context: typer.Context,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything runs, and leave it running.")
    ] = False,
    parts_only: Annotated[
        bool, typer.Option("--parts-only", help="Broker, registry and database, without civicbus's own processes.")
    ] = False,
) -> None:
    """Start the platform and keep it running; Ctrl-C stops it in order."""
    here: Context = context.obj
    narrator = Narrator(here.home)
    with narrator:
        if detach:
            start_platform(here.settings, apps=not parts_only, detached=True, listen=narrator)
        elif not run_platform(Order(settings=here.settings, apps=not parts_only), narrator):
            raise typer.Exit(INTERRUPTED)


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every process. Exit status: 0 all ready, 1 not all, 3 no platform runs."""
    here: Context = context.obj
    view = platform_view(here.home)
    if as_json:
        typer.echo(json.dumps(_document(here.home, view), ensure_ascii=False, indent=2, default=str))
    elif view is None:
        typer.echo(f"no platform runs on {here.home}; start one with `civicbus up`")
    else:
        Console().print(_status_table(here.home, view))
    if view is None:
        raise typer.Exit(NOT_RUNNING)
    if not view.healthy:
        raise typer.Exit(ILL)


def down(
    context: typer.Context,
    remove: Annotated[bool, typer.Option("--wipe", help="Then remove all data, secrets and logs of the home.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """Stop the platform; nothing of it runs when this returns."""
    here: Context = context.obj
    if remove and not yes:
        typer.confirm(f"Remove all data, secrets and logs in {here.home}?", abort=True)
    began, pid = time.monotonic(), holder(here.home)
    if stop_platform(here.home):
        typer.echo(f"stopped the platform on {here.home} (pid {pid}) in {time.monotonic() - began:.1f} s")
    else:
        typer.echo(f"no platform runs on {here.home}")
    if remove:
        left = wipe(here.home)
        typer.echo(f"removed what the platform kept in {here.home}")
        for path in left:
            typer.echo(f"left alone, since civicbus did not make it: {path}")


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Examine machine and home; each finding says how to mend it. Exit status 1 if one keeps it from running."""
    here: Context = context.obj
    findings = []
    for finding in examine(here.settings):
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise typer.Exit(ILL)


class Narrator:
    """Tells on a console what happens to the platform; in a terminal, downloads have one line that changes."""

    def __init__(self, home: Path, console: Console | None = None) -> None:
        self._home = home
        self._console = console or Console(highlight=False)
        self._began = time.monotonic()
        self._progress: dict[str, str] = {}
        self._line = self._console.status("") if self._console.is_terminal else None

    def __enter__(self) -> None:
        self._console.print(f"home {self._home}, logs {logs_folder(self._home)}", soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        self._clear_line()

    def __call__(self, notice: Notice) -> None:
        # A terminal that is gone is no reason to stop the platform, or to stop it out of order.
        with suppress(OSError):
            self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        if notice.event is Event.PROGRESS and self._line is not None:
            self._progress[notice.process] = notice.detail
            self._line.update("; ".join(f"{part}: {text}" for part, text in self._progress.items()))
            self._line.start()
            return
        if self._progress.pop(notice.process.removesuffix(" files"), None) and not self._progress:
            self._clear_line()
        self._console.print(self._sentence(notice), soft_wrap=True)
        if notice.process == PLATFORM and notice.event is Event.READY:
            self._clear_line()
            self._console.print(_endpoints_table(self._home))

    def _sentence(self, notice: Notice) -> Text:
        text = Text(f"{time.monotonic() - self._began:7.1f} s  {notice.process:<16} ")
        text.append(notice.event, style=_EVENT_STYLE.get(notice.event, ""))
        if notice.seconds is not None:
            text.append(f" after {notice.seconds:.1f} s")
        if notice.detail:
            text.append(f": {notice.detail}")
        return text

    def _clear_line(self) -> None:
        if self._line is not None:
            self._line.stop()


def _endpoints_table(home: Path) -> Table:
    endpoints = Endpoints.load(home)
    table = Table("part", Column("where", overflow="fold"), title="The platform runs", title_justify="left")
    table.add_row(
        "broker", f"{endpoints.bootstrap_servers} ({endpoints.security_protocol}, {endpoints.sasl_mechanism})"
    )
    table.add_row("registry", endpoints.registry_url)
    table.add_row("database", f"{endpoints.database_host}:{endpoints.database_port}")
    table.add_row("secrets", str(home / "secrets"))
    table.add_row("logs", str(logs_folder(home)))
    table.add_row("Prometheus", f"--config.file={prometheus_folder(home) / 'prometheus.yml'}")
    return table


def _status_table(home: Path, view: PlatformView) -> Table:
    title = f"{view.phase} for {_duration(view.running_s)}, pid {view.supervisor}, logs {logs_folder(home)}"
    columns = ("process", "state", "pid", "for", "restarts", "port", Column("detail", overflow="fold"))
    table = Table(*columns, title=title, title_justify="left")
    for process in view.processes:
        table.add_row(
            process.name,
            Text(process.state, style=_STYLE.get(process.state, "red")),
            str(process.pid or ""),
            _duration(process.since_s),
            str(process.restarts),
            str(process.port or ""),
            process.detail,
        )
    return table


def _document(home: Path, view: PlatformView | None) -> dict[str, object]:
    if view is None:
        return {"home": home, "running": False}
    return {"home": home, "running": True} | asdict(view)


def _print_finding(finding: Finding) -> None:
    text = Text(f"{finding.verdict:<5}", style=_VERDICT_STYLE[finding.verdict])
    text.append(f"{finding.check}: {finding.detail}", style="default")
    if finding.mend:
        text.append(f" — {finding.mend}", style="default")
    Console(highlight=False).print(text, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
