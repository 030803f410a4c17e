"""Inboxes written straight to the broker, as the views would: rows of one schema in Kafka transactions."""

from __future__ import annotations

import json
import secrets as random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import psycopg

from civicbus.infra.provision import activate_inbox
from civicbus.names import AgreementId, DepartmentId, inbox_topic, value_subject
from civicbus.schemas.codec.frame import frame
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.registry import Registry
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Endpoints
from civicbus.transport.clients import confluent_producer

Row = Mapping[str, object]


def schema(*fields: tuple[str, object], name: str = "row") -> AvroSchema:
    """A record schema of nullable fields."""
    columns = [{"name": field, "type": ["null", kind], "default": None} for field, kind in fields]
    return AvroSchema.parse(json.dumps({"type": "record", "name": name, "fields": columns}))


class InboxWriter:
    """Writes one inbox; close it, or use ``with``. ``schema`` is the one of the rows that come next."""

    def __init__(
        self,
        endpoints: Endpoints,
        secrets: SecretStore,
        *,
        department: DepartmentId,
        agreement: AgreementId,
        schema: AvroSchema,
        partitions: int = 2,
    ) -> None:
        self.agreement = agreement
        self.department = department
        self.topic = inbox_topic(department, agreement)
        self._registry = Registry(endpoints.registry_url)
        activate_inbox(endpoints, secrets, department, agreement, partitions)
        self.use(schema)
        self._producer = confluent_producer(
            endpoints,
            secrets.read(OPERATOR),
            {"transactional.id": f"platform.views.{random.token_hex(6)}", "linger.ms": 5},
        )
        self._producer.init_transactions(30)

    def use(self, schema: AvroSchema) -> int:
        self._schema_id = self._registry.register(value_subject(self.topic), schema)
        self._codec = RowCodec(schema)
        return self._schema_id

    def force(self, schema: AvroSchema) -> None:
        """Use a schema that cannot read what was written before, against the registry's rule."""
        self._registry.set_compatibility(value_subject(self.topic), "NONE")
        self.use(schema)

    def value(self, row: Row) -> bytes:
        return frame(self._schema_id, self._codec.encode(row))

    def write(self, rows: Mapping[str, Row | None], *, commit: bool = True) -> None:
        """One transaction; None deletes."""
        self.write_raw([(key.encode(), None if row is None else self.value(row)) for key, row in rows.items()], commit)

    def write_raw(self, records: Sequence[tuple[bytes | None, bytes | None]], commit: bool = True) -> None:
        self._producer.begin_transaction()
        for key, value in records:
            self._producer.produce(
                self.topic, value, key, timestamp=int(time.time() * 1000), headers=[("cause", b"test")]
            )
        if commit:
            self._producer.commit_transaction()
        else:
            self._producer.flush()
            self._producer.abort_transaction()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._registry.close()
        self._producer.purge()


def eventually(truth: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait until ``truth`` holds; fails with its last answer."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            answer = truth()
        except psycopg.Error as error:
            answer, failed = None, error
        else:
            failed = None
        if answer:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {truth}") from failed
        time.sleep(0.05)
