"""A small catalogue for tests: permits of a construction department."""

import json
from datetime import date

from civicbus.names import DatasetId
from civicbus.schemas.agreement import Agreement, Consent, KeyMode
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import (
    Catalogue,
    Classification,
    Dataset,
    Department,
    Field,
    Listing,
    Quality,
    SequenceRule,
    Sharing,
    Title,
    UpdateCycle,
)

TITLE = Title(zh="名称", en="Name")
PERMITS = DatasetId.parse("construction.permits")
PERMIT_SCHEMA = AvroSchema.parse(
    json.dumps(
        {
            "type": "record",
            "name": "permit",
            "namespace": "construction",
            "fields": [
                {"name": "permit_no", "type": "string"},
                {"name": "status", "type": ["null", "string"], "default": None},
                {"name": "score", "type": ["null", "int"], "default": None},
                {"name": "phone", "type": ["null", "string"], "default": None},
            ],
        }
    )
)


def permits(*, sequence: SequenceRule = SequenceRule.REQUIRED, quality: Quality | None = None) -> Dataset:
    """The dataset; ``quality`` is the rule of its status."""
    fields = tuple(
        Field(
            name=name,
            title=TITLE,
            classification=Classification.PUBLIC,
            quality=quality if quality is not None and name == "status" else Quality(),
        )
        for name in PERMIT_SCHEMA.field_names
    )
    return Dataset(
        id=PERMITS,
        title=TITLE,
        listing=Listing(abstract=TITLE),
        key=("permit_no",),
        fields=fields,
        schemas=(PERMIT_SCHEMA,),
        sharing=Sharing.UNCONDITIONAL,
        update_cycle=UpdateCycle.DAILY,
        sequence=sequence,
        partitions=2,
    )


def catalogue(*datasets: Dataset) -> Catalogue:
    names = {"construction", "health"} | {dataset.id.department for dataset in datasets}
    return Catalogue(
        departments={name: Department(id=name, title=TITLE, code=name) for name in names},
        datasets={dataset.id: dataset for dataset in datasets},
    )


def agreement(name: str, select: str, *, key: KeyMode = KeyMode.RECORD) -> Agreement:
    return Agreement(
        id=name,
        subscriber="health",
        purpose=TITLE,
        legal_basis="a law",
        owner_consents=(Consent(department="construction", by="the head", date=date(2026, 1, 1)),),
        valid_from=date(2026, 1, 1),
        valid_until=date(2036, 1, 1),
        key=key,
        select=select,
    )
