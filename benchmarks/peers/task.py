"""What a Python peer is told, and the rules of the workloads as Python says them.

The harness computes what every engine should write from the same rules; what civicbus runs is the SQL beside
them in ``benchmarks/workloads.py``, and Kafka Streams has its own in Java, so that a slip in one shows.
"""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer

Row = dict[str, Any]
Rule = Callable[[Mapping[str, Any]], bool]

FRAME_BYTES = 5
CAUSE = "cause"
COMMIT_EVERY_S = 0.1

ENTERPRISE_CODE = "enterprise_code"
JOINED = {"enterprise_name": "name", "enterprise_status": "status"}


def approved(row: Mapping[str, Any]) -> bool:
    return row["status"] == "approved"


def large(row: Mapping[str, Any]) -> bool:
    return row["area_m2"] >= 5000


def northern(row: Mapping[str, Any]) -> bool:
    return row["district"] in {"harbour", "north", "old_town", "lakeside"}


PROJECT: tuple[Rule, ...] = (approved, large, northern)
"""Which permits go to each of the three outputs of *project*, in their order."""


def joined(permit: Row, enterprise: Row | None) -> Row:
    """A permit with what is told of its enterprise; changes the permit."""
    for name, source in JOINED.items():
        permit[name] = None if enterprise is None else enterprise[source]
    return permit


class Codec:
    """Framed Avro by fastavro, for one schema."""

    def __init__(self, schema: str, schema_id: int) -> None:
        self._schema = parse_schema(json.loads(schema))
        self._frame = b"\0" + struct.pack(">I", schema_id)

    def decode(self, value: bytes) -> Row:
        buffer = io.BytesIO(value)
        buffer.seek(FRAME_BYTES)
        return schemaless_reader(buffer, self._schema, None)  # type: ignore[return-value]

    def encode(self, row: Row) -> bytes:
        buffer = io.BytesIO()
        buffer.write(self._frame)
        schemaless_writer(buffer, self._schema, row)
        return buffer.getvalue()


@dataclass(frozen=True)
class Stream:
    """A topic and the schema of its values."""

    topic: str
    schema: str
    schema_id: int

    def codec(self) -> Codec:
        return Codec(self.schema, self.schema_id)


@dataclass(frozen=True)
class Task:
    """One run: what to read, what to write, and under which name. The secret stays in a file of mode 0600."""

    workload: str
    group: str
    threads: int
    tables: bool
    folder: Path
    bootstrap_servers: str
    security_protocol: str
    sasl_mechanism: str
    permits: Stream
    enterprises: Stream
    outputs: tuple[Stream, ...]
    username: str
    password: str = field(repr=False)

    @classmethod
    def load(cls) -> Task:
        """The task whose file is the program's one argument."""
        document = json.loads(Path(sys.argv[1]).read_text())
        secret = json.loads(Path(document.pop("secret")).read_text())
        streams: dict[str, Any] = {name: Stream(**document[name]) for name in ("permits", "enterprises")}
        outputs = tuple(Stream(**each) for each in document["outputs"])
        known = {"folder": Path(document["folder"]), "outputs": outputs, "username": secret["principal"]}
        return cls(**document | streams | known, password=secret["password"])

    def librdkafka(self) -> dict[str, Any]:
        """How librdkafka's clients reach the broker."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            "sasl.mechanisms": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
        }


def only_cause(headers: list[tuple[str, bytes]] | None) -> list[tuple[str, bytes]]:
    """The one header that an output carries."""
    return [header for header in headers or () if header[0] == CAUSE]
