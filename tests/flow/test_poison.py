"""One bad change stops only itself: hostile records on changes, against the real admission process."""

import json

import httpx
import psutil
import pytest

from civicbus.names import value_subject
from civicbus.reasons import Reason
from civicbus.schemas.codec.frame import frame, header
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.registry import Registry
from support.platform import Platform
from support.stages import Sender, StageProcess, everything, new_dataset, parked, wait_for

THINGS = json.dumps(
    {
        "type": "record",
        "name": "thing",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "flag", "type": "boolean"},
            {"name": "colour", "type": {"type": "enum", "name": "colour", "symbols": ["red", "green"]}},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "tags", "type": {"type": "array", "items": "long"}},
        ],
    }
)
RECURSIVE = json.dumps(
    {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"], "default": None}]}
)
NULLS = json.dumps(
    {"type": "record", "name": "nulls", "fields": [{"name": "n", "type": {"type": "array", "items": "null"}}]}
)
DAY_AHEAD = b"2099-01-01T00:00:00Z"
ROW = {"id": "good", "flag": True, "colour": "red", "note": None, "tags": [1, 2]}
MEMORY_BYTES = 64 * 2**20


def unchecked(registry_url: str, subject: str, text: str) -> int:
    """Register a schema that civicbus itself would refuse."""
    answer = httpx.post(f"{registry_url}/subjects/{subject}/versions", json={"schema": text})
    answer.raise_for_status()
    return int(answer.json()["id"])


@pytest.fixture(scope="module")
def sender(platform: Platform, running_admission: StageProcess) -> Sender:
    return Sender(platform, new_dataset(platform, THINGS, key=["id"]))


def test_every_poison_is_parked_with_its_bytes_and_the_next_good_change_passes(
    platform: Platform, running_admission: StageProcess, sender: Sender
) -> None:
    dataset = sender.dataset
    url = platform.endpoints.registry_url
    recursive = unchecked(url, value_subject(dataset.id.changes) + "-recursive", RECURSIVE)
    nulls = unchecked(url, value_subject(dataset.id.changes) + "-nulls", NULLS)
    with Registry(url) as registry:
        other = AvroSchema.parse(
            json.dumps({"type": "record", "name": "x", "fields": [{"name": "id", "type": "string"}]})
        )
        foreign = registry.register(value_subject(dataset.id.changes) + "-other", other)
    good = sender.value(ROW | {"id": "p"})
    body = good[5:]
    long_two = b"\x04"
    start, flag, colour, note, tags = b"\x02p", b"\x01", b"\x00", b"\x00", b"\x02" + long_two + b"\x00"
    framed = header(sender.schema_id)
    poison: list[tuple[Reason, bytes | None, bytes | None, dict[str, object]]] = [
        (Reason.FRAME, b"p", b"\x01" + good[1:], {}),
        *((Reason.FRAME, b"p", good[:length], {}) for length in range(5)),
        (Reason.SCHEMA_UNKNOWN, b"p", frame(2_000_000_000, body), {}),
        (Reason.SCHEMA_FOREIGN, b"p", frame(foreign, start), {}),
        (Reason.SCHEMA_UNSAFE, b"p", frame(recursive, b"\x02" * 100_000), {}),
        (Reason.SCHEMA_UNSAFE, b"p", frame(nulls, b"\xff\xff\xff\xff\x0f\x00"), {}),
        *((Reason.BYTES, b"p", framed + body[:length], {}) for length in range(len(body))),
        (Reason.BYTES, b"p", good + b"\x00", {}),
        (Reason.BYTES, b"p", framed + start + b"\x07" + colour + note + tags, {}),
        (Reason.BYTES, b"p", framed + start + flag + b"\x01" + note + tags, {}),
        (Reason.BYTES, b"p", framed + start + flag + b"\x08" + note + tags, {}),
        (Reason.BYTES, b"p", framed + start + flag + colour + b"\x01" + tags, {}),
        (
            Reason.BYTES,
            b"p",
            framed + start + flag + colour + note + b"\x82\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x04\x00",
            {},
        ),
        (Reason.BYTES, b"p", framed + start + flag + colour + note + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", {}),
        (Reason.BYTES, b"p", framed + b"\xfe\xff\xff\xff\xff\x7f", {}),
        (Reason.BYTES, b"p", framed + b"\x02\xff" + flag + colour + note + tags, {}),
        (Reason.KEY_MISSING, None, good, {}),
        (Reason.KEY_MISSING, b"", good, {}),
        (Reason.KEY_MISMATCH, b"q", good, {}),
        (Reason.TOO_LARGE, b"p", sender.value(ROW | {"id": "p", "note": "x" * 2_000_000}), {}),
        (Reason.TIME_AHEAD, b"p", good, {"ce_time": DAY_AHEAD}),
        (Reason.HEADER_INVALID, b"p", good, {"ce_time": b"yesterday"}),
        (Reason.HEADER_INVALID, b"p", good, {"ce_time": b"0001-01-01T00:00:00+14:00"}),
        (Reason.HEADER_INVALID, b"p", good, {"ce_time": b"1969-12-31T23:59:59Z"}),
        (Reason.HEADER_INVALID, b"p", good, {"ce_id": b"1" * 3_000_000}),
        (Reason.TOO_LARGE, b"p" * 20_000, good, {}),
        (Reason.HEADER_INVALID, b"p", good, {"ce_sequence": b"-1"}),
        (Reason.HEADER_MISSING, b"p", good, {"ce_sequence": None}),
        (Reason.HEADER_MISSING, b"p", good, {"ce_id": None}),
        (Reason.SOURCE_FOREIGN, b"p", good, {"ce_source": b"urn:civicbus:another"}),
        (Reason.KEY_MISSING, None, None, {}),
    ]
    process = psutil.Process(running_admission.pid)
    sender.upsert(ROW | {"id": "first"})
    sender.flush()
    wait_for("the dataset to flow", lambda: everything(platform, dataset.id.records) or None)
    before = process.memory_info().rss
    for _, key, value, changed in poison:
        sender.send(key, value, sender.headers(deletion=value is None, **changed))
    sender.flush()
    sender.upsert(ROW)
    sender.flush()
    wait_for("the good change", lambda: len(everything(platform, dataset.id.records)) == 2 or None)

    found = parked(platform, dataset)
    assert [each.reason for each in found] == [reason for reason, *_ in poison]
    assert [each.value for each in found] == [value for _, _, value, _ in poison]
    assert [record.key for record in everything(platform, dataset.id.records)] == [b"first", b"good"]
    assert running_admission.ready()
    assert process.memory_info().rss - before < MEMORY_BYTES


def test_parked_headers_name_no_value_of_the_row(platform: Platform, sender: Sender) -> None:
    secret = "13912345678"
    before = len(parked(platform, sender.dataset))
    row = sender.value(ROW | {"id": secret, "note": secret})
    sender.send(b"another", row)
    sender.send(b"other", row[:-1])
    sender.flush()
    found = wait_for(
        "two parked changes",
        lambda: all_parked[before:] if len(all_parked := parked(platform, sender.dataset)) == before + 2 else None,
    )
    for each in found:
        assert not any(secret.encode() in (value or b"") for _, value in each.headers())


def test_a_sequence_is_compared_as_a_number(platform: Platform, sender: Sender) -> None:
    for sequence in (b"9", b"10", b"18446744073709551615"):
        sender.send(b"n", sender.value(ROW | {"id": "n"}), sender.headers(ce_sequence=sequence))
    sender.flush()
    wait_for(
        "three versions",
        lambda: len([r for r in everything(platform, sender.dataset.id.records) if r.key == b"n"]) == 3 or None,
    )
