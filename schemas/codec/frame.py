"""The Confluent frame round a row: byte 0x00, the schema id in four big-endian bytes, then the Avro bytes."""

from __future__ import annotations

from collections.abc import Iterable

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason

MAGIC = b"\x00"
FRAME_BYTES = 5


def frame(schema_id: int, body: bytes) -> bytes:
    """The Kafka value of a row."""
    return header(schema_id) + body


def header(schema_id: int) -> bytes:
    """The five bytes before a row of this schema; raises OverflowError where the id takes more than four."""
    return MAGIC + schema_id.to_bytes(4, "big")


def unframe(value: bytes) -> tuple[int, bytes]:
    """The schema id and the Avro bytes; raises Unacceptable where there is no frame."""
    return schema_id_of(value), value[FRAME_BYTES:]


def is_framed(value: bytes) -> bool:
    """Whether a value starts as a framed one does."""
    return len(value) >= FRAME_BYTES and value.startswith(MAGIC)


def schema_id_of(value: bytes) -> int:
    """The schema id of a framed value; raises Unacceptable where there is no frame."""
    if not is_framed(value):
        raise Unacceptable(Reason.FRAME, "the value does not start with 0x00 and a 4-byte schema id")
    return int.from_bytes(value[1:FRAME_BYTES], "big")


def by_header(values: Iterable[bytes]) -> dict[bytes, list[int]]:
    """The positions of the values under each first five bytes; one pass, for a batch of several schemas."""
    positions: dict[bytes, list[int]] = {}
    for position, value in enumerate(values):
        positions.setdefault(value[:FRAME_BYTES], []).append(position)
    return positions
