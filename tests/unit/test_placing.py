"""A key's partition, as admission knows it, is the one to which kafka-python's publisher sends it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner import murmur2

from civicbus.transport.placing import places

KEYS = st.lists(st.binary(max_size=40) | st.sampled_from([b"\0", b"a\0", b"\0" * 8, b"k" * 16_384]), max_size=20)


@settings(deadline=None)
@given(KEYS, st.integers(1, 200))
def test_every_key_is_placed_by_murmur2(keys: list[bytes], partitions: int) -> None:
    assert places(keys, partitions).tolist() == [(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]


def test_many_long_keys_are_hashed_in_portions() -> None:
    keys = [bytes([n]) * 16_000 for n in range(256)] * 10
    assert places(keys, 7).tolist() == places(keys[:256], 7).tolist() * 10
