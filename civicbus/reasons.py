"""Why a record was refused: codes, what each means and its mend. Codes are stable; they appear in headers and metrics.

``docs/refusals.md`` is made from these tables.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A refusal code. :data:`MEANINGS` says what was found, :data:`MENDS` what the publisher does next."""

    FRAME = "frame"
    SCHEMA_UNKNOWN = "schema_unknown"
    SCHEMA_UNSAFE = "schema_unsafe"
    SCHEMA_FOREIGN = "schema_foreign"
    BYTES = "bytes"
    KEY_MISSING = "key_missing"
    KEY_MISMATCH = "key_mismatch"
    KEY_MISPLACED = "key_misplaced"
    HEADER_MISSING = "header_missing"
    HEADER_INVALID = "header_invalid"
    SOURCE_FOREIGN = "source_foreign"
    TIME_AHEAD = "time_ahead"
    SEQUENCE_STALE = "sequence_stale"
    SEQUENCE_CONFLICT = "sequence_conflict"
    SEQUENCE_UNUSED = "sequence_unused"
    QUALITY_REQUIRED = "quality_required"
    QUALITY_PATTERN = "quality_pattern"
    QUALITY_ALLOWED = "quality_allowed"
    QUALITY_RANGE = "quality_range"
    QUALITY_LENGTH = "quality_length"
    UNREADABLE_ROW = "unreadable_row"
    TOO_LARGE = "too_large"


MEANINGS: dict[Reason, str] = {
    Reason.FRAME: "The value does not begin with the Confluent frame.",
    Reason.SCHEMA_UNKNOWN: "The registry has no schema of the id in the frame.",
    Reason.SCHEMA_UNSAFE: "The schema could make a decoder run away, so no row is read with it.",
    Reason.SCHEMA_FOREIGN: "The schema is registered, but the catalogue does not list it for this dataset.",
    Reason.BYTES: "The bytes are no row of the schema: cut short, too long, or a value out of its range.",
    Reason.KEY_MISSING: "The change has no Kafka key, or a key field of its row is empty.",
    Reason.KEY_MISMATCH: "The Kafka key names another record than the row.",
    Reason.KEY_MISPLACED: "The change stands in another partition than the one of its key by murmur2.",
    Reason.HEADER_MISSING: "A header that every change carries is missing.",
    Reason.HEADER_INVALID: "A header's value is not of its form.",
    Reason.SOURCE_FOREIGN: "ce_source names somebody who does not own the dataset.",
    Reason.TIME_AHEAD: "ce_time lies more than 5 minutes in the future.",
    Reason.SEQUENCE_STALE: "ce_sequence is lower than the last admitted one of this record.",
    Reason.SEQUENCE_CONFLICT: "ce_sequence was admitted for this record already, with another row.",
    Reason.SEQUENCE_UNUSED: "The change carries ce_sequence, and its dataset has none.",
    Reason.QUALITY_REQUIRED: "A field that is required is null or empty.",
    Reason.QUALITY_PATTERN: "A text does not match its field's pattern.",
    Reason.QUALITY_ALLOWED: "A text is not among its field's allowed values.",
    Reason.QUALITY_RANGE: "A number is below its field's minimum, above its maximum, or NaN.",
    Reason.QUALITY_LENGTH: "A text is shorter or longer than its field allows.",
    Reason.UNREADABLE_ROW: "A row of the source file could not be read as the dataset's types.",
    Reason.TOO_LARGE: "The record has more bytes than its dataset's max_bytes.",
}

MENDS: dict[Reason, str] = {
    Reason.FRAME: "Send the Confluent frame: byte 0x00, a 4-byte big-endian schema id, then the Avro bytes.",
    Reason.SCHEMA_UNKNOWN: "Register the schema first, or correct the schema id in bytes 1 to 4.",
    Reason.SCHEMA_UNSAFE: "Change the schema: no recursion, no array or map of items that take no bytes.",
    Reason.SCHEMA_FOREIGN: "Use a schema that the catalogue lists for this dataset (civicbus catalogue check).",
    Reason.BYTES: "The Avro bytes do not fit their schema; encode the row again with the schema they name.",
    Reason.KEY_MISSING: "Set the Kafka key to the record key; a change without one names no record.",
    Reason.KEY_MISPLACED: "Have the client place keys by murmur2 (librdkafka: partitioner=murmur2_random).",
    Reason.KEY_MISMATCH: "Make the Kafka key the canonical text of the key fields inside the row.",
    Reason.HEADER_MISSING: "Set the CloudEvents header that the detail names.",
    Reason.HEADER_INVALID: "Correct the CloudEvents header that the detail names.",
    Reason.SOURCE_FOREIGN: "Set ce_source to urn:civicbus:<department>; only the owner publishes its records.",
    Reason.TIME_AHEAD: "Correct the clock of the source: ce_time is more than 5 minutes ahead.",
    Reason.SEQUENCE_STALE: "A later version of this record was admitted already; send the current one.",
    Reason.SEQUENCE_CONFLICT: "Two different rows carry one sequence; raise ce_sequence with every change.",
    Reason.SEQUENCE_UNUSED: "The catalogue says this dataset has no sequence; leave ce_sequence out.",
    Reason.QUALITY_REQUIRED: "Fill in the field; the catalogue says it is required.",
    Reason.QUALITY_PATTERN: "Correct the field; it does not match the pattern in the catalogue.",
    Reason.QUALITY_ALLOWED: "Use one of the values that the catalogue allows for the field.",
    Reason.QUALITY_RANGE: "Correct the field; it lies outside the range in the catalogue.",
    Reason.QUALITY_LENGTH: "Correct the field; its length lies outside what the catalogue allows.",
    Reason.UNREADABLE_ROW: "Correct the row in the source file; its value does not fit the field's type.",
    Reason.TOO_LARGE: "Make the record smaller than the size the catalogue allows.",
}
