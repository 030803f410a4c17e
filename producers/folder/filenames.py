"""What the name of a dropped file says: which dataset, which format, whole or in part. Pure.

The form is ``[<department>.]<dataset>[_<date>][.incremental|.corrections].(csv|txt|tsv|xlsx)``; the dataset may
stand under its name or its title in either language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from civicbus.producers.folder.faults import Fault, FileRefused
from civicbus.schemas.datasets import Dataset

_FORM = re.compile(
    r"(?P<stem>.+?)(?:[_-](?P<date>[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}))?"
    r"(?:\.(?P<part>incremental|corrections))?\.(?P<ending>csv|txt|tsv|xlsx|xls|xlsm|xlsb|ods)",
    re.IGNORECASE,
)
_HIDDEN = (".", "~$", "~")
_UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp", ".temp", ".swp", "~")
_TEXTS = {"csv", "txt", "tsv"}


class Part(StrEnum):
    """How much of the dataset a file holds."""

    FULL = "full"
    INCREMENTAL = "incremental"
    CORRECTIONS = "corrections"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a file's name says."""

    dataset: Dataset
    part: Part
    is_workbook: bool


def is_passed_over(name: str) -> bool:
    """Whether a program left or is still writing it: hidden and temporary files, Excel's locks, unfinished copies."""
    return name.startswith(_HIDDEN) or name.lower().endswith(_UNFINISHED)


def date_in(name: str) -> str:
    """The date in a name, as digits; the empty text where there is none."""
    form = _FORM.fullmatch(name)
    return "" if form is None or form["date"] is None else form["date"].replace("-", "")


def read_name(name: str, datasets: Iterable[Dataset]) -> Named:
    """Raises FileRefused where the name is not of the form or names no dataset of the department."""
    form = _FORM.fullmatch(name)
    if form is None:
        raise FileRefused(Fault.MISNAMED)
    ending = form["ending"].lower()
    if ending not in _TEXTS and ending != "xlsx":
        raise FileRefused(Fault.OLD_WORKBOOK, ending=ending)
    known = {key: dataset for dataset in datasets for key in _names(dataset)}
    dataset = known.get(_folded(form["stem"]))
    if dataset is None:
        names = ", ".join(sorted({one.id.name for one in known.values()}))
        raise FileRefused(Fault.UNKNOWN_DATASET, name=form["stem"], known=names)
    part = Part.FULL if form["part"] is None else Part(form["part"].lower())
    return Named(dataset=dataset, part=part, is_workbook=ending == "xlsx")


def _names(dataset: Dataset) -> Iterable[str]:
    return map(_folded, (dataset.id.name, str(dataset.id), dataset.title.zh, dataset.title.en))


def _folded(name: str) -> str:
    """File systems and people disagree on case and on how letters are composed."""
    return unicodedata.normalize("NFC", name).casefold()
