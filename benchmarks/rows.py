"""The rows of the benchmarks: permits of 15 fields and about 300 bytes, and the enterprises that they name.

Promise: the same number always gives the same bytes, so that every engine and every round gets the same input.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from benchmarks.peers.task import Codec, Row
from civicbus.events import CAUSE, SEQUENCE, Headers
from civicbus.names import DatasetId
from civicbus.schemas.codec.schema import AvroSchema

PERMITS = DatasetId.parse("construction.bench_permits")
ENTERPRISES = DatasetId.parse("market.bench_enterprises")

_DAY = {"type": "int", "logicalType": "date"}
_STATUSES = ("approved", "approved", "approved", "submitted", "refused", "withdrawn")
_KINDS = ("new_building", "extension", "conversion", "demolition", "scaffolding")
_DISTRICTS = ("harbour", "north", "old_town", "lakeside", "south", "airport", "university", "riverside")
_PROJECTS = (
    "Residential quarter with nursery, block",
    "Logistics hall at the ring road, lot",
    "School, repair of wing",
)
_STREETS = ("Great Harbour Road", "Avenue of the Republic", "Eastern Canal Street", "Lane of the Three Wells")
_PEOPLE = ("Wang Xiuying", "Li Guoqiang", "Zhang Min", "Liu Yang Construction", "Chen Jing", "Hope Foundation")
_REMARKS = (
    "Fire access checked on site; drawings of the second revision apply to storeys 2 to 7",
    "Noise limits of the night hours apply; neighbours were heard on the date in the file",
    "The conditions of the first notice stand; the bond is with the treasury of the city",
)


def _record(name: str, key: str, fields: dict[str, object]) -> AvroSchema:
    nullable = [{"name": field, "type": ["null", kind], "default": None} for field, kind in fields.items()]
    document = {"type": "record", "name": name, "fields": [{"name": key, "type": "string"}, *nullable]}
    return AvroSchema.parse(json.dumps(document))


PERMIT_SCHEMA = _record(
    "bench_permit",
    "permit_no",
    {
        "enterprise_code": "string",
        "status": "string",
        "kind": "string",
        "district": "string",
        "project_name": "string",
        "address": "string",
        "applicant": "string",
        "phone": "string",
        "area_m2": "double",
        "floors": "int",
        "cost_yuan": "long",
        "issued_on": _DAY,
        "inspector": "string",
        "remark": "string",
    },
)
ENTERPRISE_SCHEMA = _record(
    "bench_enterprise",
    "credit_code",
    {
        "name": "string",
        "status": "string",
        "legal_person": "string",
        "city": "string",
        "capital_yuan": "long",
    },
)


class Change(NamedTuple):
    """One record to write, with the number that its headers are made from."""

    key: bytes
    value: bytes
    number: int

    def headers(self) -> Headers:
        return [(CAUSE, cause_of(self.number)), (SEQUENCE, b"%d" % (self.number + 1))]


def cause_of(number: int) -> bytes:
    """What a change is known by: as long as the ids that the publisher makes."""
    return b"0123456789abcdef01234567-%010d" % number


def credit_code(number: int) -> str:
    return f"91310000MA1F{number:06}"


def permit(number: int, enterprises: int) -> Row:
    """Each enterprise is named by every ``enterprises``-th permit."""
    pick = random.Random(number)  # noqa: S311 - rows of a benchmark, no secret
    choose = pick.choice
    return {
        "permit_no": f"P-2026-{number:09}",
        "enterprise_code": credit_code(number % enterprises),
        "status": choose(_STATUSES),
        "kind": choose(_KINDS),
        "district": choose(_DISTRICTS),
        "project_name": f"{choose(_PROJECTS)} {number % 977}",
        "address": f"{choose(_STREETS)} {number % 389}, {number % 100_000:06}",
        "applicant": choose(_PEOPLE),
        "phone": f"138{number % 100_000_000:08}",
        "area_m2": pick.randrange(100_000) / 10,
        "floors": 1 + number % 40,
        "cost_yuan": pick.randrange(1_000_000_000),
        "issued_on": date.fromordinal(739_000 + number % 1500),
        "inspector": choose(_PEOPLE),
        "remark": choose(_REMARKS),
    }


def enterprise(number: int, version: int) -> Row:
    return {
        "credit_code": credit_code(number),
        "name": f"Municipal Supply and Construction Company No. {number}, edition {version}",
        "status": ("active", "suspended", "dissolved")[(number + version) % 3],
        "legal_person": _PEOPLE[number % len(_PEOPLE)],
        "city": "Harbour City",
        "capital_yuan": 1_000_000 + number,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The first permits by number, ready to be sent."""

    enterprises: int
    keys: Sequence[bytes]
    values: Sequence[bytes]

    @classmethod
    def make(cls, count: int, enterprises: int, schema_id: int) -> Rows:
        encode = Codec(PERMIT_SCHEMA.text, schema_id).encode
        rows = [permit(number, enterprises) for number in range(count)]
        keys = [row["permit_no"].encode() for row in rows]
        return cls(enterprises=enterprises, keys=keys, values=[encode(row) for row in rows])

    def changes(self, numbers: range | Sequence[int]) -> Iterator[Change]:
        return (Change(self.keys[number], self.values[number], number) for number in numbers)


def enterprise_changes(numbers: range, version: int, schema_id: int) -> Iterator[Change]:
    """One change for each of these enterprises."""
    encode = Codec(ENTERPRISE_SCHEMA.text, schema_id).encode
    for number in numbers:
        row = enterprise(number, version)
        yield Change(row["credit_code"].encode(), encode(row), number)
