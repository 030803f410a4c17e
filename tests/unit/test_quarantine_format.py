"""The format of quarantine topics: what is parked comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civicbus.errors import Unacceptable
from civicbus.names import Topic
from civicbus.quarantine import Parked, parse
from civicbus.reasons import Reason

NAMES = st.text(min_size=1, max_size=20)
CONTENTS = st.none() | st.binary(max_size=40)
PARKED = st.builds(
    Parked,
    reason=st.sampled_from(Reason),
    field=st.none() | NAMES,
    detail=st.text(max_size=40),
    topic=st.just(Topic("changes.health.permits")),
    partition=st.integers(0, 500),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-1, 2**45),
    original_key=CONTENTS,
    original_headers=st.lists(st.tuples(NAMES, CONTENTS), max_size=6).map(tuple),
    value=CONTENTS,
)


@given(PARKED)
def test_what_is_parked_comes_back_as_it_was(parked: Parked) -> None:
    assert parse(parked.value, parked.headers()) == parked


def test_original_headers_that_use_our_names_stay_the_originals() -> None:
    parked = Parked(
        reason=Reason.FRAME,
        topic=Topic("changes.health.permits"),
        partition=1,
        offset=2,
        timestamp_ms=3,
        original_key=None,
        original_headers=(("reason", b"mine"), ("original.reason", b"twice parked"), ("reason", b"again")),
        value=b"",
    )
    assert parse(parked.value, parked.headers()) == parked


def test_the_key_is_the_source_position() -> None:
    parked = Parked(
        reason=Reason.FRAME, topic=Topic("changes.a.b"), partition=1, offset=22, timestamp_ms=3, original_key=b"k",
        value=None,
    )  # fmt: skip
    assert parked.key() == b"changes.a.b/1/22"


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([], "reason"),
        ([("reason", b"no such code")], "reason"),
        ([("reason", b"\xff")], "reason"),
        ([("reason", b"frame"), ("source_topic", b"t"), ("source_partition", b"x")], "source_partition"),
        ([("reason", b"frame"), ("source_topic", None)], "source_topic"),
    ],
)
def test_a_record_that_is_no_parked_one_names_the_header_at_fault(headers: list, field: str) -> None:
    with pytest.raises(Unacceptable) as caught:
        parse(b"", headers)
    assert caught.value.field == field
