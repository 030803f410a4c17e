"""The Confluent frame round a row: byte 0x00, the schema id in four big-endian bytes, then the Avro bytes."""

from __future__ import annotations

import struct

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason

FRAME_BYTES = 5

_FRAME = struct.Struct(">BI")
_MAGIC = 0


def frame(schema_id: int, body: bytes) -> bytes:
    """The Kafka value of a row."""
    return header(schema_id) + body


def header(schema_id: int) -> bytes:
    """The five bytes before a row of this schema."""
    return _FRAME.pack(_MAGIC, schema_id)


def unframe(value: bytes) -> tuple[int, bytes]:
    """The schema id and the Avro bytes; raises Unacceptable where there is no frame."""
    return schema_id_of(value), value[FRAME_BYTES:]


def is_framed(value: bytes) -> bool:
    """Whether a value starts as a framed one does."""
    return len(value) >= FRAME_BYTES and value[0] == _MAGIC


def schema_id_of(value: bytes) -> int:
    """The schema id of a framed value; raises Unacceptable where there is no frame."""
    if is_framed(value):
        schema_id: int = _FRAME.unpack_from(value)[1]
        return schema_id
    raise Unacceptable(Reason.FRAME, "the value does not start with 0x00 and a 4-byte schema id")
