"""Loads a catalogue's folder: ``<department>/department.yaml``, ``<department>/<dataset>.yaml`` and ``.avsc``.

What is loaded has passed every check; what has not is named with its file, its line and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from civicbus.errors import CheckFailed, Unacceptable
from civicbus.names import NAME, DatasetId, DepartmentId
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Catalogue, Dataset, Department
from civicbus.schemas.documents import Document, Finding, Unreadable, findings_of, read_document, read_text
from civicbus.schemas.entry_checks import dataset_faults, schema_text_faults

DEPARTMENT_FILE = "department.yaml"
FORMER = "former_schemas"
_SCHEMA_FILE = re.compile(r"[a-z0-9][a-z0-9_.-]*\.avsc\Z")

T = TypeVar("T", Department, Dataset)


def shipped_catalogue() -> Path:
    """The catalogue that comes with civicbus."""
    return _shipped("catalogue")


def shipped_agreements() -> Path:
    """The agreements that come with civicbus, one folder a subscriber."""
    return _shipped("agreements")


def load_catalogue(folder: Path) -> Catalogue:
    """The catalogue in a folder; raises CheckFailed with every finding."""
    catalogue, findings = read_catalogue(folder)
    if findings:
        raise CheckFailed(f"the catalogue in {folder} does not pass its check:", [str(one) for one in findings])
    return catalogue


def read_catalogue(folder: Path) -> tuple[Catalogue, tuple[Finding, ...]]:
    """What of a catalogue's folder can be loaded, and every finding in it, in order of the files."""
    reading = _Reading(folder)
    reading.read()
    return Catalogue(departments=reading.departments, datasets=reading.datasets), tuple(reading.findings)


class _Reading:
    """One pass over a folder; findings gather, and what has none is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._documents: dict[DatasetId, Document] = {}
        self._entries: set[str] = set()
        self.departments: dict[DepartmentId, Department] = {}
        self.datasets: dict[DatasetId, Dataset] = {}
        self.findings: list[Finding] = []

    def read(self) -> None:
        folders = sorted(path for path in self._children(self._folder) if path.is_dir())
        if not folders:
            self._found(self._folder, "holds no department", f"make <department>/{DEPARTMENT_FILE} in it")
        for folder in folders:
            self._department(folder)
        for dataset in self.datasets.values():
            self._related(dataset)

    def _department(self, folder: Path) -> None:
        if not NAME.match(folder.name):
            self._found(folder, "is no valid department name", "use [a-z][a-z0-9_]*, at most 60 characters")
            return
        department = self._one(folder / DEPARTMENT_FILE, _departments())
        if department is not None:
            _, loaded = department
            self.departments[loaded.id] = loaded
        files = {path.name: path for path in self._children(folder)}
        used = {name for path in files.values() if path.suffix == ".yaml" for name in self._dataset(path)}
        for name in sorted(set(files) - used - {DEPARTMENT_FILE}):
            self._found(files[name], "belongs to no dataset", "remove it, or name it in an entry's former_schemas")

    def _dataset(self, path: Path) -> Iterator[str]:
        """Read one entry; yields the names of the files that it uses."""
        yield path.name
        if path.name == DEPARTMENT_FILE:
            return
        yield f"{path.stem}.avsc"
        self._entries.add(f"{path.parent.name}.{path.stem}")
        entry = self._one(path, _datasets())
        if entry is None:
            # What an unreadable entry would have used is not reported a second time.
            yield from (other.name for other in path.parent.glob(f"{path.stem}.*avsc"))
            return
        document, dataset = entry
        yield from _former(document)
        faults = [document.finding(fault.location, fault.wrong, fault.mend) for fault in dataset_faults(dataset)]
        self.findings.extend(faults)
        if not faults:
            self.datasets[dataset.id] = dataset
            self._documents[dataset.id] = document

    def _one(self, path: Path, adapter: TypeAdapter[T]) -> tuple[Document, T] | None:
        """The document in one file, and what it says; None where there are findings."""
        name = self._name(path)
        try:
            document = read_document(path, name)
            content = dict(document.content)
            if path.name != DEPARTMENT_FILE:
                content["schemas"] = list(self._schemas(path, document))
                content.pop(FORMER, None)
            loaded = adapter.validate_python(content)
        except Unreadable as fault:
            self.findings.append(fault.finding)
            return None
        except ValidationError as error:
            self.findings.extend(findings_of(document, error))
            return None
        wanted = path.parent.name if path.name == DEPARTMENT_FILE else f"{path.parent.name}.{path.stem}"
        if str(loaded.id) != wanted:
            self.findings.append(
                document.finding(("id",), f"is not {wanted}", f"write `id: {wanted}`, or move the file")
            )
            return None
        return document, loaded

    def _schemas(self, path: Path, document: Document) -> Iterator[str]:
        """The texts of an entry's schemas, oldest first; a fault in one is a finding in its own file."""
        if "schemas" in document.content:
            raise Unreadable(document.finding(("schemas",), "is no key here", f"name older schemas in {FORMER}"))
        for name in (*_former(document), f"{path.stem}.avsc"):
            text = read_text(path.parent / name, self._name(path.parent / name))
            yield self._checked(text, path.parent / name)

    def _checked(self, text: str, path: Path) -> str:
        try:
            AvroSchema.parse(text)
        except Unacceptable as fault:
            raise Unreadable(Finding(file=self._name(path), wrong=fault.detail)) from None
        for wrong, mend in schema_text_faults(text):
            raise Unreadable(Finding(file=self._name(path), wrong=wrong, mend=mend))
        return text

    def _related(self, dataset: Dataset) -> None:
        document = self._documents[dataset.id]
        for index, other in enumerate(dataset.listing.related):
            if str(other) not in self._entries:
                location = ("listing", "related", index)
                self.findings.append(document.finding(location, f"{other} is not in this catalogue", "correct it"))

    def _children(self, folder: Path) -> list[Path]:
        try:
            return [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "__"))]
        except OSError as error:
            self._found(folder, f"cannot be read: {error.strerror}", "name a catalogue's folder")
            return []

    def _found(self, path: Path, wrong: str, mend: str) -> None:
        self.findings.append(Finding(file=self._name(path), wrong=wrong, mend=mend))

    def _name(self, path: Path) -> str:
        return str(path) if path == self._folder else str(path.relative_to(self._folder))


def _former(document: Document) -> list[str]:
    """The names of older schema files; raises Unreadable where one is no plain file name."""
    names = document.content.get(FORMER, [])
    if not isinstance(names, list):
        raise Unreadable(document.finding((FORMER,), "is no list", "write [name.1.avsc, name.2.avsc]"))
    for index, name in enumerate(names):
        if not isinstance(name, str) or not _SCHEMA_FILE.match(name):
            location = (FORMER, index)
            raise Unreadable(document.finding(location, "is no .avsc file beside the entry", "write name.1.avsc"))
    return names


def _shipped(folder: str) -> Path:
    # The wheel is unpacked when it is installed, so its data are files; zipimport is not supported.
    return Path(str(resources.files("civicbus.schemas").joinpath(folder)))


@cache
def _departments() -> TypeAdapter[Department]:
    return TypeAdapter(Department)


@cache
def _datasets() -> TypeAdapter[Dataset]:
    return TypeAdapter(Dataset)
