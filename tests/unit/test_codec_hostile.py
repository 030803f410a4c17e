"""Bytes made to hurt: refused with the field named, soon, and in little memory, by rows and by columns."""

import subprocess
import sys
import textwrap
import time

import pytest

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.columns import ColumnCodec
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codec.tree import Json
from civicbus.schemas.codec.walk import CELLS
from support.avro import record, varint

ARRAY: Json = {"type": "array", "items": "boolean"}
MAP: Json = {"type": "map", "values": "boolean"}
ENUM: Json = {"type": "enum", "name": "kind", "symbols": ["A", "B"]}
DATE: Json = {"type": "int", "logicalType": "date"}
MILLIS: Json = {"type": "long", "logicalType": "timestamp-millis"}
MICROS: Json = {"type": "long", "logicalType": "timestamp-micros"}
CLOCK: Json = {"type": "long", "logicalType": "time-micros"}
UUID: Json = {"type": "string", "logicalType": "uuid"}
DECIMAL: Json = {"type": "bytes", "logicalType": "decimal", "precision": 2}
ONE_BOOLEAN: Json = {"type": "record", "name": "one", "fields": [{"name": "b", "type": "boolean"}]}
MANY_FIELDS = [{"name": f"f{n}", "type": "long"} for n in range(900)]

HOSTILE: list[tuple[str, Json, bytes]] = [
    ("a count of 2^31 items in six bytes", ARRAY, varint(2**31) + b"\x00"),
    ("a count of 2^62 items", ARRAY, varint(2**62) + b"\x00"),
    ("a count of -2^31 items", ARRAY, varint(-(2**31)) + varint(1) + b"\x00"),
    ("a count of -2^63 items", ARRAY, varint(-(2**63)) + varint(1) + b"\x00"),
    ("a count of 2^31 entries", MAP, varint(2**31) + b"\x00"),
    ("a block that is shorter than it says", ARRAY, varint(-1) + varint(5) + b"\x01\x00"),
    ("a block that is longer than it says", ARRAY, varint(-2) + varint(1) + b"\x01\x00\x00"),
    ("a block of negative size", ARRAY, varint(-1) + varint(-1) + b"\x01\x00"),
    ("a block that never ends", ARRAY, varint(1) + b"\x01"),
    ("a text of 2^40 bytes", "string", varint(2**40) + b"x"),
    ("a text of -1 bytes", "string", varint(-1) + b"x"),
    ("a text of -2^63 bytes", "string", varint(-(2**63)) + b"x"),
    ("bytes of 2^40 bytes", "bytes", varint(2**40) + b"x"),
    ("a text that is not UTF-8", "string", varint(2) + b"\xc3\x28"),
    ("a text with half a surrogate pair", "string", varint(3) + b"\xed\xa0\x80"),
    ("a text in overlong UTF-8", "string", varint(2) + b"\xc0\xaf"),
    ("a key that is not UTF-8", MAP, varint(1) + varint(1) + b"\xff\x01\x00"),
    ("a key twice", MAP, varint(2) + b"\x02k\x01\x02k\x00\x00"),
    ("a key twice, in two blocks", MAP, varint(1) + b"\x02k\x01" + varint(1) + b"\x02k\x00\x00"),
    ("a negative branch", ["null", "string"], varint(-1)),
    ("a branch too many", ["null", "string"], varint(2) + b"\x02x"),
    ("a branch in two bytes", ["null", "string"], b"\x80\x00"),
    ("a negative symbol", ENUM, varint(-1)),
    ("a symbol too many", ENUM, varint(2)),
    ("a symbol of 2^63", ENUM, varint(2**63 - 1)),
    ("a boolean of 7", "boolean", b"\x07"),
    ("a boolean of 255", "boolean", b"\xff"),
    ("a number in too many bytes", "long", b"\x80\x80\x00"),
    ("a number in eleven bytes", "long", b"\x80" * 10 + b"\x01"),
    ("a number without end", "long", b"\xff" * 100_000),
    ("a number of 65 bits", "long", b"\xff" * 9 + b"\x02"),
    ("an int of 33 bits", "int", varint(2**32 + 1)),
    ("an int of 33 bits below zero", "int", varint(-(2**31) - 1)),
    ("a text length in too many bytes", "string", b"\x82\x00x"),
    ("a day after the year 9999", DATE, varint(2932897)),
    ("a day before the year 1", DATE, varint(-719163)),
    ("an instant after the year 9999", MICROS, varint(253402300800000000)),
    ("an instant before the year 1", MILLIS, varint(-62135596800001)),
    ("a time of 24:00", CLOCK, varint(86_400_000_000)),
    ("a time before 00:00", CLOCK, varint(-1)),
    ("a UUID in upper case", UUID, varint(36) + b"ABCDEF00-0000-0000-0000-000000000000"),
    ("a UUID and a new line", UUID, varint(37) + b"abcdef00-0000-0000-0000-000000000000\n"),
    ("a decimal of no bytes", DECIMAL, varint(0)),
    ("a decimal of three digits", DECIMAL, varint(1) + b"\x64"),
    ("a decimal of a million bytes", DECIMAL, varint(1_000_000) + b"\x7f" * 1_000_000),
    ("half a double", "double", b"\x00" * 4),
    ("nothing", "string", b""),
]


def outcomes(schema: AvroSchema, body: bytes) -> list[Unacceptable]:
    """What both codecs say of these bytes, alone and among good rows that must go on."""
    with pytest.raises(Unacceptable) as alone:
        RowCodec(schema).decode(body)
    among = ColumnCodec(schema).decode([body] * 3)
    assert (len(among.batch), [*among.indices]) == (0, [])
    return [alone.value, *(one.fault for one in among.bad)]


@pytest.mark.parametrize(("type_", "body"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_bytes_are_refused_with_the_field(type_: Json, body: bytes) -> None:
    for fault in outcomes(record(("before", "int"), ("at", type_)), b"\x02" + body):
        assert (fault.reason, fault.field) == (Reason.BYTES, "at")


def test_no_item_is_read_where_more_are_claimed_than_bytes_are_left() -> None:
    for fault in outcomes(record(("at", ARRAY)), varint(1000) + b"\x07"):
        assert fault.detail == "a count is greater than the bytes left"


@pytest.mark.parametrize("type_", ["int", "bytes"])
def test_bytes_after_the_row_are_refused(type_: Json) -> None:
    for fault in outcomes(record(("at", type_)), b"\x00\x00"):
        assert (fault.reason, fault.field) == (Reason.BYTES, None)


@pytest.mark.parametrize("type_", ["string", "bytes"])
def test_good_rows_go_on_beside_hostile_ones(type_: Json) -> None:
    schema = record(("at", type_))
    good = RowCodec(schema).encode({"at": "x" if type_ == "string" else b"x"})
    decoded = ColumnCodec(schema).decode([good, varint(2**40) + b"x", good, b"", good])
    assert ([*decoded.indices], [one.index for one in decoded.bad]) == ([0, 2, 4], [1, 3])


def test_a_row_of_too_many_items_is_refused_by_whoever_reads_or_writes_it() -> None:
    schema = record(("at", {"type": "array", "items": "boolean"}))
    items = CELLS // 2
    RowCodec(schema).decode(varint(items) + b"\x01" * items + b"\x00")
    assert len(ColumnCodec(schema).decode([varint(items) + b"\x01" * items + b"\x00"]).batch) == 1
    outcomes(schema, varint(items + 1) + b"\x01" * (items + 1) + b"\x00")
    with pytest.raises(Unacceptable, match="too many items"):
        RowCodec(schema).encode({"at": [True] * (items + 1)})


BOMBS = f"""
    import json, resource, sys
    from civicbus.schemas.codec.columns import ColumnCodec
    from civicbus.schemas.codec.schema import AvroSchema

    def codec(items):
        field = {{"name": "at", "type": {{"type": "array", "items": items}}}}
        return ColumnCodec(AvroSchema.parse(json.dumps({{"type": "record", "name": "row", "fields": [field]}})))

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1024**2)

    size = 4 * 1024 * 1024
    count = bytes([0x80, 0x80, 0x80, 0x04])
    one = {ONE_BOOLEAN!r}
    wide = {{"type": "record", "name": "wide", "fields": {MANY_FIELDS!r}}}
    far = {{"type": "enum", "name": "far", "symbols": ["A" * 255]}}
    codecs = [codec(items) for items in ("boolean", one, ["null", wide], far, ["null", "bytes"], ["null", one])]
    body = count + bytes(size) + b"\\0"
    for one in codecs:
        one.decode([b"\\0"])
    before = peak()
    for one in codecs:
        decoded = one.decode([body, b"\\0", body])
        assert [bad.index for bad in decoded.bad] == [0, 2], decoded.bad
        assert len(decoded.batch) == 1
    print(peak() - before)
"""


def test_rows_that_would_unfold_into_gigabytes_are_refused_in_flat_memory() -> None:
    started = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOMBS)], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) < 100, "MiB"
    assert time.perf_counter() - started < 60


def test_hostile_bytes_are_refused_quickly() -> None:
    cases = [(record(("at", type_)), body) for _, type_, body in HOSTILE]
    started = time.perf_counter()
    for schema, body in cases:
        outcomes(schema, body)
    assert time.perf_counter() - started < 20
