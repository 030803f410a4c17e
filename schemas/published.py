"""The catalogue as it travels on ``platform.catalogue``: a row for each department and each dataset.

A department's key is its name, a dataset's ``<department>.<dataset>``; no name holds a dot, so they never meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from pydantic import TypeAdapter, ValidationError

from civicbus.errors import ConfigurationError
from civicbus.schemas.datasets import Catalogue, Dataset, Department


def rows_of(catalogue: Catalogue) -> Iterator[tuple[bytes, bytes]]:
    """What is published of a catalogue; equal entries give equal bytes."""
    for department in catalogue.departments.values():
        yield department.id.encode(), _departments().dump_json(department)
    for dataset in catalogue.datasets.values():
        yield str(dataset.id).encode(), dataset.to_json()


def catalogue_of(table: Mapping[bytes, bytes]) -> Catalogue:
    """The catalogue that was published; raises ConfigurationError where a row is none of its."""
    datasets = [Dataset.from_json(value) for key, value in table.items() if b"." in key]
    departments = [_department(value) for key, value in table.items() if b"." not in key]
    return Catalogue(
        departments={department.id: department for department in departments},
        datasets={dataset.id: dataset for dataset in datasets},
    )


def _department(text: bytes) -> Department:
    try:
        return _departments().validate_json(text)
    except ValidationError:
        raise ConfigurationError(
            "a document on platform.catalogue is no department", mend="run `civicbus catalogue apply`"
        ) from None


@cache
def _departments() -> TypeAdapter[Department]:
    return TypeAdapter(Department)
