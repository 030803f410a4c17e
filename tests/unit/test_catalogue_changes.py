"""What of a published entry may change, and what would harm the records that are there."""

import json
from dataclasses import replace

import pytest

from civicbus.names import DatasetId
from civicbus.schemas.catalogue_changes import changes, merged
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import Catalogue, Dataset, Retention, SequenceRule, Sharing
from support.samples import PERMITS, agreement, catalogue, permits

PUBLISHED = catalogue(permits())
PERMIT = PUBLISHED.datasets[PERMITS]
NOBODY = Catalogue(departments={}, datasets={})


def having(dataset: Dataset) -> Catalogue:
    return Catalogue(departments=PUBLISHED.departments, datasets={dataset.id: dataset})


def without(field: str) -> AvroSchema:
    document = json.loads(PERMIT.schema.text)
    return AvroSchema.parse(json.dumps(document | {"fields": [f for f in document["fields"] if f["name"] != field]}))


def with_field(**field: object) -> AvroSchema:
    document = json.loads(PERMIT.schema.text)
    return AvroSchema.parse(json.dumps(document | {"fields": [*document["fields"], field]}))


def test_everything_is_new_at_first() -> None:
    found = changes(NOBODY, PUBLISHED)
    assert (found.new, found.changed, found.refused) == (tuple(sorted(PUBLISHED.datasets)), (), ())
    assert set(found.departments) == set(PUBLISHED.departments)


def test_nothing_differs_the_second_time() -> None:
    found = changes(PUBLISHED, PUBLISHED)
    assert found.unchanged == tuple(sorted(PUBLISHED.datasets))
    assert (found.departments, found.new, found.changed, found.absent, found.refused) == ((), (), (), (), ())


def test_a_change_of_terms_is_named_and_allowed() -> None:
    new = replace(PERMIT, sharing=Sharing.REFUSED, retention=Retention(changes_days=14))
    found = changes(PUBLISHED, having(new))
    assert (found.changed, found.refused) == (((PERMITS, ("sharing", "retention")),), ())


def test_a_dataset_that_is_not_named_stays() -> None:
    other = replace(PERMIT, id=DatasetId.parse("construction.sites"))
    found = changes(PUBLISHED, having(other))
    assert found.absent == tuple(sorted(PUBLISHED.datasets))
    assert merged(PUBLISHED, having(other)).datasets.keys() == {*PUBLISHED.datasets, other.id}


def test_a_schema_that_reads_the_published_one_may_follow_it() -> None:
    later = with_field(name="site", type=["null", "string"], default=None)
    assert changes(PUBLISHED, having(replace(PERMIT, schemas=(PERMIT.schema, later)))).refused == ()


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (replace(PERMIT, key=("permit_no", "status")), "its key was permit_no"),
        (replace(PERMIT, partitions=PERMIT.partitions + 1), "partitions; keep them"),
        (replace(PERMIT, sequence=SequenceRule.UNUSED), "its sequence is required; keep it"),
        (replace(PERMIT, schemas=(without("score"),)), "its published current schema is missing"),
        (replace(PERMIT, schemas=(with_field(name="site", type="string"),)), "site: is new and has no default"),
        (
            replace(PERMIT, schemas=(PERMIT.schema, with_field(name="site", type="string"))),
            "site: is new and has no default",
        ),
    ],
)
def test_what_published_records_could_not_survive_is_refused(new: Dataset, said: str) -> None:
    refused = changes(PUBLISHED, having(new)).refused
    assert [one for one in refused if one.startswith(f"{PERMITS}: ") and said in one], refused


def test_published_schemas_keep_their_order_and_new_ones_follow() -> None:
    earlier = without("score")
    later = with_field(name="site", type=["null", "string"], default=None)
    published = having(replace(PERMIT, schemas=(PERMIT.schema, later)))
    for schemas in [(later, PERMIT.schema), (earlier, PERMIT.schema, later), (PERMIT.schema, earlier, later)]:
        refused = changes(published, having(replace(PERMIT, schemas=schemas))).refused
        assert [one for one in refused if "stand in another order" in one]


def test_a_field_that_an_agreement_uses_cannot_be_removed() -> None:
    uses = agreement("scores", "SELECT p.permit_no, p.score FROM construction.permits AS p")
    ignores = agreement("states", "SELECT p.permit_no, p.status FROM construction.permits AS p")
    fields = tuple(field for field in PERMIT.fields if field.name != "score")
    smaller = having(replace(PERMIT, fields=fields, schemas=(PERMIT.schema, without("score"))))
    refused = changes(PUBLISHED, smaller, [uses, ignores]).refused
    assert len(refused) == 1
    assert refused[0].startswith("agreement scores would no longer hold: ")


def test_an_agreement_that_did_not_hold_before_stops_nothing() -> None:
    broken = agreement("old", "SELECT p.permit_no, p.colour FROM construction.permits AS p")
    assert changes(PUBLISHED, PUBLISHED, [broken]).refused == ()
