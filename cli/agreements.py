"""Commands: agreements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from civicbus.cli.activation import activate, found, keep_tables, published, revoke
from civicbus.cli.context import Context
from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.names import AgreementId
from civicbus.schemas.agreement import Agreement, agreement_files, load_agreement, load_agreements
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Catalogue
from civicbus.schemas.sql import manual
from civicbus.schemas.views import View, check, examine

app = typer.Typer(no_args_is_help=True, help="Agreements: who receives which view, why and until when.")

Files = Annotated[list[Path], typer.Argument(exists=True, help="Agreements' files, or folders of them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="agreements")


@app.command("check")
def check_files(
    files: Files,
    catalogue: Annotated[
        Path | None, typer.Option(help="A catalogue's folder; default: the one that comes with civicbus.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check agreements; every finding has its place and what to write instead. Exits with 1 where there is one."""
    known = load_catalogue(catalogue or shipped_catalogue())
    reports = [_report(path, known) for path in agreement_files(files)]
    if not reports:
        raise ConfigurationError("there are no agreements there", mend="name .yaml files, or a folder that has some")
    if as_json:
        typer.echo(json.dumps(reports, ensure_ascii=False, indent=2))
    else:
        for line in (line for report in reports for line in _lines(report)):
            typer.echo(line)
    if any(report["findings"] for report in reports):
        raise typer.Exit(1)


@app.command("list")
def list_agreements(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the agreements that the platform runs on."""
    here: Context = context.obj
    state = published(here.endpoints, here.secrets)
    agreements = sorted(state.agreements.values(), key=lambda agreement: (agreement.subscriber, agreement.id))
    if as_json:
        typer.echo(json.dumps([_document(agreement) for agreement in agreements], ensure_ascii=False, indent=2))
    else:
        Console().print(_table(agreements, state.catalogue))


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="An agreement's id.")],
    as_json: AsJson = False,
) -> None:
    """Show an agreement: its terms, its SELECT, and which source field goes where."""
    here: Context = context.obj
    state = published(here.endpoints, here.secrets)
    agreement = found(state.agreements, name)
    view = check(agreement, state.catalogue)
    if as_json:
        shown = _document(agreement) | {"schema": json.loads(view.output.text), "lineage": _lineage(view)}
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        for line in _shown(agreement, view):
            typer.echo(line)


@app.command("apply")
def apply_files(context: typer.Context, files: Files) -> None:
    """Check agreements, make their inboxes readable for their subscribers, and let them flow."""
    here: Context = context.obj
    done = activate(here.endpoints, here.secrets, load_agreements(files))
    keep_tables(here.home, here.endpoints, here.secrets)
    for name in done.new:
        typer.echo(f"{name}: flows")
    for name in done.changed:
        typer.echo(f"{name}: flows as changed")
    typer.echo(f"{len(done.unchanged)} agreements unchanged")


@app.command("revoke")
def revoke_agreement(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="ID", help="An agreement's id.")]
) -> None:
    """Take the subscriber's right to read away, then stop the output; the inbox is kept for audit."""
    here: Context = context.obj
    done = revoke(here.home, here.endpoints, here.secrets, AgreementId(name))
    keep_tables(here.home, here.endpoints, here.secrets)
    stopped = (
        "no views process answers here: its output stops when one takes this in"
        if done.stopped_s is None
        else f"its output stopped {done.stopped_s:.2f} s later"
    )
    typer.echo(f"{name}: {done.agreement.subscriber} may no longer read {done.agreement.topic}; {stopped}")


@app.command()
def language() -> None:
    """Explain the view language: what a SELECT may hold, its types, its operators and its functions."""
    typer.echo(manual.text())


def _report(path: Path, catalogue: Catalogue) -> dict[str, object]:
    """One file's check; the place of a finding is None where it is not in the SELECT."""
    try:
        agreement = load_agreement(path)
    except CheckFailed as fault:
        return {"file": str(path), "findings": [{"text": text} for text in fault.findings]}
    result = examine(agreement, catalogue, on=datetime.now(UTC).date())
    report: dict[str, object] = {"file": str(path), "agreement": agreement.id, "subscriber": agreement.subscriber}
    if isinstance(result, View):
        return report | {"findings": [], "schema": json.loads(result.output.text), "lineage": _lineage(result)}
    findings = [
        {
            "text": f"{path}: {finding}",
            "line": finding.place and finding.place.line,
            "column": finding.place and finding.place.column,
            "fault": finding.fault,
            "mend": finding.mend,
        }
        for finding in result
    ]
    return report | {"findings": findings}


def _lines(report: dict[str, object]) -> Iterator[str]:
    findings = report["findings"]
    assert isinstance(findings, list)  # noqa: S101 - _report says so
    if not findings:
        yield f"{report['file']}: {report['agreement']} passes"
    yield from (str(finding["text"]) for finding in findings)


def _lineage(view: View) -> list[dict[str, str]]:
    return [
        {"dataset": str(link.dataset), "field": link.field, "use": link.use, "column": link.column}
        for link in view.lineage
    ]


def _document(agreement: Agreement) -> dict[str, object]:
    document: dict[str, object] = json.loads(agreement.to_json())
    return document | {"topic": agreement.topic}


def _table(agreements: list[Agreement], catalogue: Catalogue) -> Table:
    headings = (Column("agreement\n  inbox", no_wrap=True), "共享目的\npurpose", Column("valid\nstate", no_wrap=True))
    table = Table(*headings, box=None, pad_edge=False)
    for agreement in agreements:
        purpose = f"{agreement.purpose.zh}\n{agreement.purpose.en}"
        table.add_row(f"{agreement.id}\n  {agreement.topic}", purpose, _state(agreement, catalogue))
    return table


def _state(agreement: Agreement, catalogue: Catalogue) -> str:
    validity = f"{agreement.valid_from} … {agreement.valid_until}"
    if not isinstance(examine(agreement, catalogue), View):
        return f"{validity}\ndoes not pass its check"
    return f"{validity}\n{'in force' if agreement.in_force(datetime.now(UTC).date()) else 'not in force'}"


def _shown(agreement: Agreement, view: View) -> Iterator[str]:
    yield f"{agreement.id}: {agreement.purpose.en} ({agreement.purpose.zh})"
    yield f"subscriber    {agreement.subscriber}"
    yield f"legal basis   {agreement.legal_basis}"
    for consent in agreement.owner_consents:
        yield f"consent       {consent.department}, by {consent.by}, {consent.date}"
    yield f"valid         {agreement.valid_from} to {agreement.valid_until}"
    yield f"inbox         {view.topic}, keyed by the {agreement.key} key"
    yield ""
    yield agreement.select.rstrip()
    yield ""
    for column in view.columns:
        sources = [
            f"{link.dataset}.{link.field}{'' if link.use == 'shows' else ' (' + link.use + ')'}"
            for link in view.lineage
            if link.column == column.name
        ]
        nullable = ", may be NULL" if column.nullable else ""
        yield f"{column.name}  {column.type}{nullable}  <- {', '.join(sources) or 'a constant'}"
    for link in view.lineage:
        if not link.column:
            yield f"{link.dataset}.{link.field} {link.use} the rows"
