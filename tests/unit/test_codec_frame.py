"""The Confluent frame."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.errors import Unacceptable
from civicbus.reasons import Reason
from civicbus.schemas.codec.frame import frame, unframe

ids = st.integers(0, 2**32 - 1)


@given(ids, st.binary(max_size=20))
def test_a_framed_row_gives_back_its_schema_id_and_bytes(schema_id: int, body: bytes) -> None:
    assert unframe(frame(schema_id, body)) == (schema_id, body)


def test_the_frame_is_a_zero_byte_and_the_id_in_big_endian() -> None:
    assert frame(258, b"row") == b"\x00\x00\x00\x01\x02row"


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01row", b"{}{}{}"])
def test_a_value_without_a_frame_is_refused(value: bytes) -> None:
    with pytest.raises(Unacceptable) as caught:
        unframe(value)
    assert caught.value.reason is Reason.FRAME


@pytest.mark.parametrize("schema_id", [-1, 2**32])
def test_an_id_of_more_than_four_bytes_is_no_schema_id(schema_id: int) -> None:
    with pytest.raises(struct.error):
        frame(schema_id, b"")
