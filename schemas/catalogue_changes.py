"""What applying a catalogue would change, and what of it may not be changed. Pure.

Records that were published stay readable and stay where they are: their schemas stay, their keys, their
partitions and their rule of sequence do not change, and no agreement loses a field that it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from civicbus.names import DatasetId, DepartmentId
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.compatibility import transitive_breaks
from civicbus.schemas.datasets import Catalogue, Dataset
from civicbus.schemas.views import View, examine


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs between the published catalogue and a new one. ``refused`` is empty where it may be applied."""

    departments: tuple[DepartmentId, ...]
    new: tuple[DatasetId, ...]
    changed: tuple[tuple[DatasetId, tuple[str, ...]], ...]
    unchanged: tuple[DatasetId, ...]
    absent: tuple[DatasetId, ...]
    refused: tuple[str, ...]


def changes(published: Catalogue, wanted: Catalogue, agreements: Iterable[Agreement] = ()) -> Changes:
    """Compare catalogues; what is published and not in ``wanted`` is absent, and stays as it is."""
    both = [
        (published.datasets[name], wanted.datasets[name])
        for name in sorted(wanted.datasets.keys() & published.datasets.keys())
    ]
    return Changes(
        departments=tuple(
            sorted(name for name, one in wanted.departments.items() if published.departments.get(name) != one)
        ),
        new=tuple(sorted(wanted.datasets.keys() - published.datasets.keys())),
        changed=tuple((new.id, _differences(old, new)) for old, new in both if old != new),
        unchanged=tuple(new.id for old, new in both if old == new),
        absent=tuple(sorted(published.datasets.keys() - wanted.datasets.keys())),
        refused=(
            *(f"{new.id}: {refusal}" for old, new in both for refusal in refusals(old, new)),
            *_broken_agreements(published, wanted, agreements),
        ),
    )


def merged(published: Catalogue, wanted: Catalogue) -> Catalogue:
    """What is published after ``wanted`` was applied."""
    return Catalogue(
        departments={**published.departments, **wanted.departments},
        datasets={**published.datasets, **wanted.datasets},
    )


def refusals(old: Dataset, new: Dataset) -> Iterator[str]:
    """Why an entry may not take the place of the published one; nothing where it may."""
    if old.key != new.key:
        yield f"its key was {', '.join(old.key)}; publish another dataset, records cannot change their keys"
    if old.partitions != new.partitions:
        yield f"it has {old.partitions} partitions; keep them, or its records would be split from their past"
    if old.sequence is not new.sequence:
        yield f"its sequence is {old.sequence}; keep it, or the order of its changes would be lost"
    missing = [schema for schema in old.schemas if schema not in new.schemas]
    for schema in missing:
        which = "current schema" if schema == old.schema else f"schema {old.schemas.index(schema) + 1}"
        yield f"its published {which} is missing; keep it as a file named in former_schemas"
    if not missing and new.schemas[: len(old.schemas)] != old.schemas:
        # The newest schema of a subject is the one that was registered last; it must be the current one.
        yield "its published schemas stand in another order; list them as before, and new ones behind them"
    for _, found in transitive_breaks((*old.schemas, new.schema) if new.schema not in old.schemas else ()):
        yield f"{found.field}: {found.wrong}; {found.mend}"


def _differences(old: Dataset, new: Dataset) -> tuple[str, ...]:
    return tuple(item.name for item in fields(Dataset) if getattr(old, item.name) != getattr(new, item.name))


def _broken_agreements(published: Catalogue, wanted: Catalogue, agreements: Iterable[Agreement]) -> Iterator[str]:
    after = merged(published, wanted)
    for agreement in agreements:
        result = examine(agreement, after)
        if not isinstance(result, View) and isinstance(examine(agreement, published), View):
            findings = "; ".join(map(str, result))
            yield f"agreement {agreement.id} would no longer hold: {findings}"
