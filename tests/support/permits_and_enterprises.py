"""Two datasets that views join, and a stream of changes of both."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from civicbus.names import DatasetId, DepartmentId
from civicbus.schemas.agreement import Agreement, KeyMode
from support.agreed import agreed, new_subscriber
from support.platform import Platform
from support.stages import Sender, new_dataset

PARTITIONS = 4
PERMITS = 400
ENTERPRISES = 60


def _schema(record: str, key: str, /, **fields: object) -> str:
    columns = [{"name": key, "type": "string"}, {"name": "version", "type": "long"}]
    columns += [{"name": field, "type": ["null", kind], "default": None} for field, kind in fields.items()]
    return json.dumps({"type": "record", "name": record, "fields": columns})


PERMIT = _schema("permit", "permit_no", enterprise="string", builder="string", status="string", note="string")
ENTERPRISE = _schema("enterprise", "credit_code", parent="string", name="string", status="string")


@dataclass
class Registers:
    """Permits of one department and the enterprises of another that they name; both are changed by one thread."""

    permits: Sender
    enterprises: Sender
    subscriber: DepartmentId
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    @classmethod
    def new(cls, platform: Platform) -> Registers:
        permits = new_dataset(platform, PERMIT, key=["permit_no"], partitions=PARTITIONS)
        enterprises = new_dataset(platform, ENTERPRISE, key=["credit_code"], partitions=PARTITIONS)
        return cls(Sender(platform, permits), Sender(platform, enterprises), new_subscriber(platform))

    @property
    def datasets(self) -> list[DatasetId]:
        return [self.permits.dataset.id, self.enterprises.dataset.id]

    def agreement(self, stem: str, select: str, key: KeyMode = KeyMode.RECORD) -> Agreement:
        """An agreement; ``PERMITS`` and ``ENTERPRISES`` in its SELECT stand for the datasets."""
        names = {"PERMITS": str(self.permits.dataset.id), "ENTERPRISES": str(self.enterprises.dataset.id)}
        for word, name in names.items():
            select = select.replace(word, name)
        owners = [dataset.department for dataset in self.datasets]
        return agreed(stem, select, subscriber=self.subscriber, owners=owners, key=key)

    def permit(self, number: int, **changed: object) -> None:
        """The next version of a permit."""
        row = {"permit_no": f"P{number:05d}", "version": self.permits.sequence + 1}
        self.permits.upsert(_whole(row | changed, PERMIT))

    def enterprise(self, number: int, **changed: object) -> None:
        """The next version of an enterprise."""
        row = {"credit_code": f"E{number:03d}", "version": self.enterprises.sequence + 1}
        self.enterprises.upsert(_whole(row | changed, ENTERPRISE))

    def change(self) -> None:
        """Any change of either: a creation, an update, a deletion or a re-creation, with nulls and other joins."""
        if self.chance.random() < 0.25:
            self._change_enterprise()
        else:
            self._change_permit()

    def flush(self) -> None:
        self.permits.flush()
        self.enterprises.flush()

    def _change_permit(self) -> None:
        number = self.chance.randrange(PERMITS)
        if self.chance.random() < 0.15:
            self.permits.send(f"P{number:05d}".encode(), None)
            return
        self.permit(
            number,
            enterprise=self._named(),
            builder=self._named(),
            status=self.chance.choice(("approved", "approved", "refused", None)),
            note=self.chance.choice((None, "", "短", "a longer note")),
        )

    def _change_enterprise(self) -> None:
        number = self.chance.randrange(ENTERPRISES)
        if self.chance.random() < 0.2:
            self.enterprises.send(f"E{number:03d}".encode(), None)
            return
        self.enterprise(
            number,
            parent=self._named(),
            name=self.chance.choice((None, "甲", "乙", "Builders & Sons")),
            status=self.chance.choice(("active", "active", "closed", None)),
        )

    def _named(self) -> str | None:
        """An enterprise, now and then one that never was, or none."""
        return self.chance.choice((None, *(f"E{self.chance.randrange(ENTERPRISES + 5):03d}" for _ in range(9))))


def _whole(row: Mapping[str, object], schema: str) -> dict[str, object]:
    return {each["name"]: row.get(each["name"]) for each in json.loads(schema)["fields"]}


class Stream(threading.Thread):
    """Changes of both registers until it is told to end."""

    def __init__(self, registers: Registers, per_second: int) -> None:
        super().__init__(daemon=True)
        self._registers, self._per_second = registers, per_second
        self._done = threading.Event()
        self.sent = 0

    def run(self) -> None:
        while not self._done.wait(0.02):
            for _ in range(self._per_second // 50):
                self._registers.change()
                self.sent += 1
        self._registers.flush()

    def __enter__(self) -> Stream:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


JOINED = {
    "open_ones": """
        SELECT p.permit_no, p.version, p.enterprise AS enterprise_code, p.note, e.name,
               e.version AS enterprise_version, e.status AS enterprise_status
        FROM   PERMITS AS p LEFT JOIN ENTERPRISES AS e ON e.credit_code = p.enterprise
        WHERE  p.status = 'approved' AND (e.status IS NULL OR e.status <> 'closed')""",
    "chain": """
        SELECT p.permit_no, p.version, e.parent AS parent_code, h.name AS parent_name, h.version AS parent_version
        FROM   PERMITS AS p LEFT JOIN ENTERPRISES AS e ON e.credit_code = p.enterprise
        LEFT JOIN ENTERPRISES AS h ON h.credit_code = e.parent
        WHERE  h.status = 'active' OR p.note IS NULL""",
    "both": """
        SELECT p.permit_no, p.version, b.credit_code AS builder_code, b.version AS builder_version, b.name AS builder,
               coalesce(e.name, '?') AS owner
        FROM   PERMITS AS p INNER JOIN ENTERPRISES AS b ON b.credit_code = p.builder
        LEFT JOIN ENTERPRISES AS e ON e.credit_code = p.enterprise
        WHERE  b.status IS NOT NULL""",
    "alone": "SELECT permit_no, version, status, note FROM PERMITS WHERE status IS NOT NULL",
}
HASHED = """
    SELECT p.version, p.status, e.credit_code AS enterprise_code, e.version AS enterprise_version,
           mask(e.name, 1, 0) AS name
    FROM   PERMITS AS p INNER JOIN ENTERPRISES AS e ON e.credit_code = p.enterprise
    WHERE  e.status = 'active'"""


def joined_agreements(registers: Registers) -> list[Agreement]:
    """A LEFT join with a WHERE on what is joined, a chain, one dataset joined twice, hashed keys, and none joined."""
    hashed = registers.agreement("hashed", HASHED, KeyMode.HASHED)
    return [*(registers.agreement(stem, select) for stem, select in JOINED.items()), hashed]
