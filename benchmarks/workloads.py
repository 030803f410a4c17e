"""What is measured: the agreements that civicbus runs, and what any engine should have written in the end."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np

from benchmarks.bus import Found, digest_of
from benchmarks.peers.task import PROJECT, Row, joined
from benchmarks.rows import ENTERPRISES, PERMITS, enterprise, permit
from civicbus.names import AgreementId, DatasetId, DepartmentId
from civicbus.schemas.agreement import Agreement, Consent
from civicbus.schemas.datasets import Title

SUBSCRIBER = DepartmentId("bench_city")
_ALL_WAYS = Title(zh="性能测试", en="Benchmark")
_FROM, _UNTIL = date(2025, 1, 1), date(2099, 12, 31)

Encode = Callable[[Row], bytes]


class Workload(StrEnum):
    """The six questions."""

    PROJECT = "project"
    ENRICH = "enrich"
    BOTH_SIDES = "both-sides"
    MANY = "many"
    LATENCY = "latency"
    RESTART = "restart"


def _agreement(name: str, select: str) -> Agreement:
    consents = (DepartmentId("construction"), DepartmentId("market"))
    return Agreement(
        id=AgreementId(f"bench_{name}"),
        subscriber=SUBSCRIBER,
        purpose=_ALL_WAYS,
        legal_basis="A benchmark; states no law",
        owner_consents=tuple(Consent(department=owner, by="Benchmark", date=_FROM) for owner in consents),
        valid_from=_FROM,
        valid_until=_UNTIL,
        select=select,
    )


THREE = (
    _agreement(
        "approved",
        f"""SELECT p.permit_no, p.enterprise_code, p.status, p.kind, p.issued_on, p.cost_yuan
            FROM {PERMITS} AS p WHERE p.status = 'approved'""",
    ),
    _agreement(
        "large",
        f"""SELECT p.permit_no, p.project_name, p.address, p.district, p.area_m2, p.floors
            FROM {PERMITS} AS p WHERE p.area_m2 >= 5000""",
    ),
    _agreement(
        "northern",
        f"""SELECT p.permit_no, p.applicant, p.phone, p.kind, p.status, p.inspector
            FROM {PERMITS} AS p WHERE p.district IN ('harbour', 'north', 'old_town', 'lakeside')""",
    ),
)
"""The views of *project*, in the order of the rules in ``peers/task.py``."""

ENRICHED = (
    _agreement(
        "enriched",
        f"""SELECT p.permit_no, p.status, p.kind, p.district, p.address, p.cost_yuan,
                   e.name AS enterprise_name, e.status AS enterprise_status
            FROM {PERMITS} AS p LEFT JOIN {ENTERPRISES} AS e ON e.credit_code = p.enterprise_code""",
    ),
)

_COLUMNS = ("status", "kind", "district", "project_name", "address", "applicant", "phone", "inspector", "remark")
MANY_COUNTS = (1, 10, 50)


def selecting_nothing(count: int) -> tuple[Agreement, ...]:
    """So many agreements, over different columns, that no row passes."""
    return tuple(
        _agreement(
            f"nothing_{number:02}",
            f"""SELECT p.permit_no, p.{_COLUMNS[number % len(_COLUMNS)]}, p.area_m2, p.cost_yuan
                FROM {PERMITS} AS p WHERE p.{_COLUMNS[number % len(_COLUMNS)]} = 'no-such-{number}'""",
        )
        for number in range(count)
    )


def inputs_of(workload: Workload) -> tuple[DatasetId, ...]:
    """The datasets that a workload reads."""
    joins = workload in {Workload.ENRICH, Workload.BOTH_SIDES, Workload.RESTART}
    return (PERMITS, ENTERPRISES) if joins else (PERMITS,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which rows one run takes: ``warm`` before it is measured, ``measured`` after, by their numbers.

    In *both sides* the permits of the first half of the enterprises are there before, and each of these
    enterprises then changes once; the measured permits name the others. So every engine has to write the same
    rows, in whichever order it takes the two topics.
    """

    warm: Sequence[int]
    measured: Sequence[int]
    changing: range = range(0)
    enterprises: int

    @property
    def again(self) -> int:
        """Permits that the changes of enterprises bring out again."""
        return len(self.warm) if self.changing else 0

    @property
    def rows(self) -> int:
        """Rows that have to be worked off between the start and the end of the clock."""
        return len(self.measured) + self.again


def plan(workload: Workload, rows: int, warm: int, enterprises: int) -> Plan:
    """Which rows a run of this workload takes."""
    if workload is not Workload.BOTH_SIDES:
        return Plan(warm=range(rows, rows + warm), measured=range(rows), enterprises=enterprises)
    half = enterprises // 2
    return Plan(
        warm=[number for number in range(rows) if number % enterprises < half],
        measured=[number for number in range(rows) if number % enterprises >= half],
        changing=range(half),
        enterprises=enterprises,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What one output should hold: so many messages, so many keys, and their digest."""

    messages: int
    keys: int
    digest: int

    def fault_of(self, found: Found) -> str | None:
        """What is wrong with what was found, if anything is."""
        if (found.keys, found.digest) != (self.keys, self.digest):
            return f"{found.keys} keys instead of {self.keys}, or other rows"
        if found.strange_headers:
            return f"{found.strange_headers} records with other headers"
        if found.messages < self.messages:
            return f"{found.messages} messages instead of {self.messages}"
        return None


class Oracle:
    """What any engine should write, computed row by row and once for all rounds."""

    def __init__(self, workload: Workload, count: int, enterprises: int, encoders: Sequence[Encode]) -> None:
        versions = (0, 1) if workload is Workload.BOTH_SIDES else (0,)
        self._digests = [np.zeros((len(encoders), count), dtype=np.uint64) for _ in versions]
        for number in range(0 if workload is Workload.MANY else count):
            row = permit(number, enterprises)
            key = row["permit_no"].encode()
            for version, digests in zip(versions, self._digests, strict=True):
                for output, value in enumerate(_values(workload, row, number % enterprises, version, encoders)):
                    digests[output, number] = 0 if value is None else digest_of(key, value)
        gc.collect()

    def expected(self, done: Plan) -> list[Expected]:
        """For each output, what a run of this plan should leave."""
        return [self._expected(output, done) for output in range(len(self._digests[0]))]

    def _expected(self, output: int, done: Plan) -> Expected:
        before, after = self._digests[0][output], self._digests[-1][output]
        final = np.concatenate([after[_places(done.warm)], before[_places(done.measured)]])
        keys = int(np.count_nonzero(final))
        return Expected(messages=keys + done.again, keys=keys, digest=int(final.sum(dtype=np.uint64)))


def _places(numbers: Sequence[int]) -> np.ndarray:
    """An index of exactly these; numpy takes an empty tuple for everything."""
    return np.asarray(numbers, dtype=np.intp)


def _values(
    workload: Workload, row: Row, enterprise_number: int, version: int, encoders: Sequence[Encode]
) -> Iterator[bytes | None]:
    """The value of each output for this row; None where it does not go there."""
    if workload in {Workload.ENRICH, Workload.BOTH_SIDES}:
        yield encoders[0](joined(row, enterprise(enterprise_number, version)))
        return
    for rule, encode in zip(PROJECT, encoders, strict=True):
        yield encode(row) if rule(row) else None
