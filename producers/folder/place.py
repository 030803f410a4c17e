"""Where a department's folder is and how it is read: ``<home>/folders/<department>.json``, written by the command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from civicbus.errors import ConfigurationError
from civicbus.names import DepartmentId
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Catalogue


class Language(StrEnum):
    """The language of the result files."""

    ZH = "zh"
    EN = "en"


class Place(BaseModel):
    """One department's folder; ``catalogue`` is None for the one that comes with civicbus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    language: Language
    catalogue: Path | None

    def load_catalogue(self) -> Catalogue:
        """The catalogue as it stands now; raises CheckFailed with every finding."""
        return load_catalogue(self.catalogue or shipped_catalogue())


def places_folder(home: Path) -> Path:
    return home / "folders"


def read_place(home: Path, department: DepartmentId) -> Place:
    """Raises ConfigurationError where the department has no folder here."""
    path = _file(home, department)
    try:
        return Place.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(
            f"{department} has no drop folder here", mend=f"run `civicbus folder add {department} --folder PATH`"
        ) from None
    except ValidationError:
        raise ConfigurationError(
            f"{path} is damaged", mend=f"run `civicbus folder add {department} --folder PATH` again"
        ) from None


def write_place(home: Path, department: DepartmentId, place: Place) -> None:
    """Replace the department's place as a whole."""
    places_folder(home).mkdir(parents=True, exist_ok=True)
    draft = _file(home, department).with_suffix(".new")
    draft.write_text(place.model_dump_json(), encoding="utf-8")
    draft.replace(_file(home, department))


def remove_place(home: Path, department: DepartmentId) -> None:
    """Forget the folder; what lies in it stays."""
    _file(home, department).unlink(missing_ok=True)


def _file(home: Path, department: DepartmentId) -> Path:
    return places_folder(home) / f"{department}.json"
