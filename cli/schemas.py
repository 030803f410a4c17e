"""Commands: what programs are given of the catalogue's schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from civicbus.errors import ConfigurationError
from civicbus.names import department_id
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.codegen import module_of
from civicbus.schemas.datasets import Dataset

app = typer.Typer(no_args_is_help=True, help="Schemas: typed records for programs.")


def register(commands: typer.Typer) -> None:
    """Add this group to the application."""
    commands.add_typer(app, name="schemas")


@app.callback()
def schemas() -> None:
    """Schemas: typed records for programs."""


@app.command()
def codegen(
    department: Annotated[str, typer.Argument(metavar="DEPT", help="The department whose datasets are published.")],
    out: Annotated[Path | None, typer.Option(help="Write this file; default: print.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="The catalogue's folder; default: the shipped one.")] = None,
) -> None:
    """Write a Python module with a typed record for each of a department's datasets, as publishers take them."""
    text = module_of(datasets_of(department, catalogue), f"civicbus schemas codegen {department}")
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror}", mend="name another --out") from None
    typer.echo(f"wrote {out}")


def datasets_of(department: str, catalogue: Path | None) -> list[Dataset]:
    """A department's datasets, in order of their names; raises ConfigurationError where there is none."""
    owner = department_id(department)
    datasets = load_catalogue(catalogue or shipped_catalogue()).datasets
    owned = sorted((one for one in datasets.values() if one.id.department == owner), key=lambda one: one.id.name)
    if not owned:
        known = ", ".join(sorted({one.id.department for one in datasets.values()}))
        raise ConfigurationError(f"the catalogue has no dataset of {owner}", mend=f"choose one of {known}")
    return owned
