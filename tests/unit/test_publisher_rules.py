"""What a publisher puts on the topic, before a broker is asked: keys' partitions, events, reports, faults."""

from __future__ import annotations

import inspect
import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import errors
from kafka.partitioner import murmur2

from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError, Fenced, Unacceptable, Unavailable
from civicbus.producers.changes import REPORT_BYTES, event_ids, next_sequence, report_of
from civicbus.reasons import Reason
from civicbus.transport.python_faults import fault_of, translated


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_are_hashed_as_kafkas_own_client_hashes_them(key, signed):
    assert murmur2(key) == signed % 2**32


def test_event_ids_never_repeat_not_even_between_publishers():
    ids = [*islice(event_ids(), 1000), *islice(event_ids(), 1000)]
    assert len(set(ids)) == 2000


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_the_default_sequence_is_the_time_and_always_higher_than_the_last(last, now):
    assert next_sequence(last, now) > last
    assert next_sequence(last, now) >= now


texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)


@given(st.dictionaries(texts, st.none() | texts, max_size=5))
def test_a_report_holds_the_row_as_it_was(row):
    assert json.loads(report_of(row)) == row


def test_a_report_that_is_too_large_keeps_its_short_cells_and_the_beginning_of_the_long_ones():
    row = {"permit_no": "A-1", "note": "备" * REPORT_BYTES, "empty": None}
    report = report_of(row)
    cells = json.loads(report)
    assert len(report) <= REPORT_BYTES
    assert (cells["permit_no"], cells["empty"]) == ("A-1", None)
    assert row["note"].startswith(cells["note"].removesuffix("…"))


def test_a_report_of_half_a_surrogate_pair_is_still_utf_8():
    assert report_of({"name": "\ud800"}) == b'{"name":"?"}'


EVERY_ERROR = [
    error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, errors.KafkaError)
]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.__name__)
def test_every_error_of_kafka_python_is_a_fault_of_ours(error):
    made = error({}) if error is errors.LogTruncationError else error()
    assert isinstance(fault_of(made), CivicbusError)
    if made.retriable and not isinstance(made, errors.FencedLeaderEpochError):
        assert isinstance(fault_of(made), Unavailable), "what can be tried again is waited for"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (errors.TopicAuthorizationFailedError, AccessDenied),
        (errors.TransactionalIdAuthorizationFailedError, AccessDenied),
        (errors.SaslAuthenticationFailedError, AccessDenied),
        (errors.ProducerFencedError, Fenced),
        (errors.UnsupportedVersionError, ConfigurationError),
        (errors.InvalidTopicError, ConfigurationError),
        (errors.KafkaTimeoutError, Unavailable),
        (errors.NotEnoughReplicasError, Unavailable),
    ],
)
def test_an_error_says_what_to_do_next(error, fault):
    with pytest.raises(fault), translated():
        raise error


def test_a_record_that_the_broker_finds_too_large_is_unacceptable():
    fault = fault_of(errors.MessageSizeTooLargeError())
    assert isinstance(fault, Unacceptable)
    assert fault.reason is Reason.TOO_LARGE
