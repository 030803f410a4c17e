"""From records to rows: the last version stays, and every record ends up somewhere."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.consumers.rows import UNSTORABLE, Decoding, Prepared
from civicbus.errors import Unacceptable, Unavailable
from civicbus.reasons import Reason
from civicbus.schemas.codec.frame import frame
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.transport.assigned import Record
from support.inboxes import schema

TEXT = schema(("name", "string"))
NESTED = schema(
    ("tags", {"type": "array", "items": "string"}),
    ("counts", {"type": "map", "values": "double"}),
    ("price", {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}),
    ("raw", "bytes"),
)


class Known:
    """A registry of a few schemas."""

    def __init__(self, schemas: dict[int, AvroSchema]) -> None:
        self._schemas = schemas

    def schema(self, schema_id: int) -> AvroSchema:
        if schema_id == 503:
            raise Unavailable("the registry does not answer")
        if schema_id not in self._schemas:
            raise Unacceptable(Reason.SCHEMA_UNKNOWN, "no such schema")
        return self._schemas[schema_id]

    def latest(self, subject: str) -> int | None:  # noqa: ARG002 - one subject is enough here
        return max(self._schemas, default=None)


def prepared(
    records: list[tuple[bytes | None, bytes | None]], schemas: dict[int, AvroSchema] | None = None
) -> Prepared:
    decoding = Decoding(Known({1: TEXT, 2: NESTED} if schemas is None else schemas))
    return decoding.prepare([Record(0, offset, 0, key, value, []) for offset, (key, value) in enumerate(records)])


def text(value: str | None) -> bytes:
    return frame(1, RowCodec(TEXT).encode({"name": value}))


def copied(batch: Prepared) -> list[list[str]]:
    return [line for rows in batch.rows for line in csv.reader(io.StringIO(rows.csv().decode(), newline=""))]


def test_the_last_version_of_a_key_stays() -> None:
    batch = prepared([(b"a", text("1")), (b"b", text("2")), (b"a", text("3")), (b"b", None)])
    assert copied(batch) == [["a", "3"]]
    assert [record.key for record in batch.deletions] == [b"b"]
    assert not batch.refused


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"\xff", None]), st.sampled_from([
    text("x"), None, b"", b"\x00\x00\x00\x00\x09x", b"\x00\x00\x00\x00\x01\xff"])), max_size=30))  # fmt: skip
def test_every_key_ends_up_a_row_a_deletion_or_a_refusal(records: list) -> None:
    batch = prepared(records)
    rows = [record for rows in batch.rows for record in rows.records]
    refused = [each.record for each in batch.refused]
    assert not {record.offset for record in rows} & {record.offset for record in refused}
    settled = {record.key: record.offset for record in [*rows, *batch.deletions, *refused] if record.key}
    assert settled == {key: offset for offset, (key, _) in enumerate(records) if key}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, text("x"), Reason.KEY_MISSING),
        (b"\xff\xfe", text("x"), UNSTORABLE),
        (b"a\0b", text("x"), UNSTORABLE),
        (b"a", b"\x01\x00\x00\x00\x01", Reason.FRAME),
        (b"a", b"\x00", Reason.FRAME),
        (b"a", frame(7, b""), Reason.SCHEMA_UNKNOWN),
        (b"a", frame(1, b"\x02\x7fshort"), Reason.BYTES),
        (b"a", text("x") + b"trailing", Reason.BYTES),
    ],
)
def test_a_bad_record_is_refused_alone_and_says_why(key: bytes | None, value: bytes, reason: str) -> None:
    batch = prepared([(b"good", text("1")), (key, value), (b"better", text("2"))])
    assert [each.reason for each in batch.refused] == [reason]
    assert copied(batch) == [["good", "1"], ["better", "2"]]


def test_a_registry_that_does_not_answer_is_waited_for() -> None:
    with pytest.raises(Unavailable):
        prepared([(b"a", frame(503, b""))])


def test_null_and_the_empty_text_stay_different() -> None:
    (rows,) = prepared([(b"a", text(None)), (b"b", text("")), (b"", text("x"))]).rows
    assert rows.csv() == b'"a",\n"b",""\n"","x"\n'


def test_nested_values_are_json_and_bytes_hexadecimal() -> None:
    row = {"tags": ["a", "ü"], "counts": {"x": float("nan"), "y": 1.5}, "price": Decimal("-3.10"), "raw": b"\x00\xff"}
    batch = prepared([(b"k", frame(2, RowCodec(NESTED).encode(row)))])
    assert copied(batch) == [["k", '["a", "\\u00fc"]', '{"x": "nan", "y": 1.5}', "-3.10", "\\x00ff"]]


def test_dates_and_times_are_copied_in_full() -> None:
    moments = schema(
        ("d", {"type": "int", "logicalType": "date"}), ("t", {"type": "long", "logicalType": "timestamp-micros"})
    )
    row = {"d": date(1, 1, 1), "t": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)}
    batch = prepared([(b"k", frame(1, RowCodec(moments).encode(row)))], {1: moments})
    assert copied(batch) == [["k", "0001-01-01", "9999-12-31 23:59:59.999999Z"]]


def test_a_part_of_rows_is_those_rows() -> None:
    (rows,) = prepared([(str(n).encode(), text(f"row {n}")) for n in range(10)]).rows
    part = rows.part(3, 4)
    assert part.csv() == b"".join(rows.part(n, 1).csv() for n in range(3, 7))
    assert [record.offset for record in part.records] == [3, 4, 5, 6]
