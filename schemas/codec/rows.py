"""Rows of a schema to and from Avro bytes, one at a time, by fastavro: the reference codec.

Any bytes may be given to ``decode``: they are walked first, so that fastavro sees only what the schema can mean.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import fastavro

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.walk import Walker


class RowCodec:
    """Reads rows written with ``writer`` as rows of ``reader``, and writes rows of ``writer``."""

    def __init__(self, writer: AvroSchema, reader: AvroSchema | None = None) -> None:
        self._walk = Walker(writer.record)
        self._writer = _parsed(writer)
        self._reader = None if reader is None or reader == writer else _parsed(reader)

    def decode(self, body: bytes) -> dict[str, object]:
        """The row in these bytes; raises Unacceptable with BYTES."""
        self._walk(body)
        row = fastavro.schemaless_reader(io.BytesIO(body), self._writer, self._reader)
        assert isinstance(row, dict)  # noqa: S101 - a record is a dict; fastavro's own type is wider
        return row

    def encode(self, row: Mapping[str, object]) -> bytes:
        """The bytes of a row; raises Unacceptable with BYTES and the field that does not fit."""
        out = io.BytesIO()
        try:
            fastavro.schemaless_writer(out, self._writer, row, strict=True)
        except (ValueError, TypeError, OverflowError, AttributeError) as fault:
            raise Unacceptable(Reason.BYTES, f"the row does not fit its schema ({type(fault).__name__})") from None
        return out.getvalue()


def _parsed(schema: AvroSchema) -> dict[str, object]:
    parsed = fastavro.parse_schema(json.loads(schema.text))
    assert isinstance(parsed, dict)  # noqa: S101 - a record is a dict
    return parsed
