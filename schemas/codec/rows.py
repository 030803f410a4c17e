"""Rows of a schema to and from Avro bytes, one at a time, by fastavro: the reference codec.

Any bytes may be given to ``decode``: they are walked first, so that fastavro sees only what the schema can mean.
What ``encode`` writes, ``decode`` takes. In a row an enum and a UUID are text, a timestamp is in UTC, a map is a
dict.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import cast

import fastavro

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.conform import Misfit, fit
from civicbus.schemas.codec.resolve import reading
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Attributes, Json
from civicbus.schemas.codec.walk import Walker


class RowCodec:
    """Reads rows written with ``writer`` as rows of ``reader``, and writes rows of ``writer``.

    Raises ConfigurationError where some rows of the writer have no reading.
    """

    def __init__(self, writer: AvroSchema, reader: AvroSchema | None = None) -> None:
        self._walk = Walker(writer.record)
        self._fit = fit(writer.record)
        self._schema = _parsed(writer)
        self._reading = None if reader is None else reading(writer.record, reader.record)

    def check(self, body: bytes) -> None:
        """Raises Unacceptable with BYTES, and the field at fault, where these bytes are no row."""
        self._walk(body)

    def decode(self, body: bytes) -> dict[str, object]:
        """The row in these bytes; raises Unacceptable with BYTES and the field at fault."""
        self._walk(body)
        # A walked body of a record is read as a dict; fastavro declares every JSON type.
        row = cast("dict[str, object]", fastavro.schemaless_reader(io.BytesIO(body), self._schema, None))
        return row if self._reading is None else cast("dict[str, object]", self._reading(row))

    def encode(self, row: Mapping[str, object]) -> bytes:
        """The bytes of a row; raises Unacceptable with BYTES and the field that does not fit."""
        try:
            fitted = self._fit(row)
        except Misfit as misfit:
            raise Unacceptable(Reason.BYTES, misfit.detail, field=misfit.path) from None
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._schema, fitted)
        body = out.getvalue()
        if not self._walk.small(body):
            self._walk(body)
        return body


def _parsed(schema: AvroSchema) -> Attributes:
    # A record's text is a JSON object, and fastavro gives one back; both declare every JSON type.
    return cast("Attributes", fastavro.parse_schema(cast("Attributes", _without_uuid(json.loads(schema.text)))))


def _without_uuid(document: Json) -> Json:
    """The schema without the logical type whose values fastavro would turn from text into objects."""
    match document:
        case {"type": "string", "logicalType": "uuid"}:
            return "string"
        case dict():
            return {key: _without_uuid(value) if key != "default" else value for key, value in document.items()}
        case list():
            return [_without_uuid(one) for one in document]
    return document
