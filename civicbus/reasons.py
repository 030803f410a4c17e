"""Why a record was refused: codes with their mend. Codes are stable; they appear in headers and metrics."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A refusal code. :data:`MENDS` says for each what the publisher does next."""

    FRAME = "frame"
    SCHEMA_UNKNOWN = "schema_unknown"
    SCHEMA_UNSAFE = "schema_unsafe"
    SCHEMA_FOREIGN = "schema_foreign"
    BYTES = "bytes"
    KEY_MISSING = "key_missing"
    KEY_MISMATCH = "key_mismatch"
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
    REPEATED_KEY = "repeated_key"
    TOO_LARGE = "too_large"


MENDS: dict[Reason, str] = {
    Reason.FRAME: "Send the Confluent frame: byte 0x00, a 4-byte big-endian schema id, then the Avro bytes.",
    Reason.SCHEMA_UNKNOWN: "Register the schema first, or correct the schema id in bytes 1 to 4.",
    Reason.SCHEMA_UNSAFE: "Change the schema: no recursion, no array or map of items that take no bytes.",
    Reason.SCHEMA_FOREIGN: "Use a schema that the catalogue lists for this dataset (civicbus catalogue check).",
    Reason.BYTES: "The Avro bytes do not fit their schema; encode the row again with the schema they name.",
    Reason.KEY_MISSING: "Set the Kafka key to the record key; a change without one names no record.",
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
    Reason.REPEATED_KEY: "One file names this record twice; the last row was used.",
    Reason.TOO_LARGE: "Make the record smaller than the size the catalogue allows.",
}
