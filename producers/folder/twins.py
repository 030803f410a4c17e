"""Which bytes a dataset was last published from: ``<home>/folders/<department>.<dataset>.last``."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from civicbus.names import DatasetId
from civicbus.producers.folder.place import places_folder
from civicbus.producers.folder.result import Arrival


class _Last(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    file: str
    time: datetime


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def twin_of(home: Path, dataset: DatasetId, digest: str, arrival: Arrival) -> Arrival | None:
    """The file before this one, where it had the same bytes."""
    try:
        last = _Last.model_validate_json(_file(home, dataset).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    before = Arrival(file=last.file, time=last.time)
    return before if last.digest == digest and before != arrival else None


def remember(home: Path, dataset: DatasetId, digest: str, arrival: Arrival) -> None:
    """This file is the last one now."""
    draft = _file(home, dataset).with_suffix(".new")
    draft.write_text(_Last(digest=digest, file=arrival.file, time=arrival.time).model_dump_json(), encoding="utf-8")
    draft.replace(_file(home, dataset))


def _file(home: Path, dataset: DatasetId) -> Path:
    return places_folder(home) / f"{dataset}.last"
