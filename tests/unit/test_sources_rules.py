"""Sequences of a log: above the clock, above every earlier epoch, within 64 bits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.errors import ConfigurationError
from civicbus.events import SEQUENCE_LIMIT
from civicbus.names import DatasetId
from civicbus.producers.sources import EPOCHS, FIRST_EPOCH, POSITIONS, claims_in, clock_sequence, sequence_of

EPOCH = st.integers(0, EPOCHS - 1)
POSITION = st.integers(0, POSITIONS - 1)
YEAR_2110 = int(datetime(2110, 1, 1, tzinfo=UTC).timestamp()) * 10**9


@given(one=st.tuples(EPOCH, POSITION), other=st.tuples(EPOCH, POSITION))
def test_sequences_rise_with_the_position_and_before_it_with_the_epoch(one, other):
    assert (sequence_of(*one) < sequence_of(*other)) == (one < other)
    assert 0 <= sequence_of(*one) < SEQUENCE_LIMIT


@pytest.mark.parametrize(("epoch", "position"), [(EPOCHS, 0), (-1, 0), (0, POSITIONS), (0, -1)])
def test_what_does_not_fit_into_64_bits_is_refused(epoch, position):
    with pytest.raises(ConfigurationError):
        sequence_of(epoch, position)


@given(now_ns=st.integers(0, YEAR_2110))
def test_the_first_claim_is_above_whatever_the_clock_has_numbered(now_ns):
    assert clock_sequence(0, now_ns) == now_ns < sequence_of(FIRST_EPOCH, 0)


@given(now_ns=st.integers(0, YEAR_2110), epoch=st.integers(FIRST_EPOCH, EPOCHS - 3), position=POSITION)
def test_the_clock_after_a_release_is_above_the_log_and_below_the_next_claim(now_ns, epoch, position):
    assert sequence_of(epoch, position) < clock_sequence(epoch + 1, now_ns) < sequence_of(epoch + 2, 0)


@pytest.mark.parametrize("value", [b"{}", b"no JSON", b'{"way": "pigeon", "epoch": 1}'])
def test_a_document_that_is_no_claim_is_named(value):
    with pytest.raises(ConfigurationError, match=r"platform\.sources"):
        claims_in({b"parks.trees": value})


def test_claims_are_read_by_dataset():
    found = claims_in({b"parks.trees": b'{"way": "outbox", "epoch": 64}'})
    assert found[DatasetId.parse("parks.trees")].epoch == 64
