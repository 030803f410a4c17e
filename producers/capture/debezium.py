"""The configuration of Debezium for one capture. Pure.

Its stored offsets are not used: they may name a place within a transaction, and all rows that one COPY wrote have
one log position, so that it would go on behind the last of them. Every run has a name of its own, for which there
are no offsets; it begins where the slot stands, which is between two transactions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from civicbus.names import capture_topic
from civicbus.producers.capture.database import slot_name
from civicbus.producers.capture.declared import Declared
from civicbus.producers.capture.events import UNAVAILABLE
from civicbus.producers.capture.values import column_of

POLL_MS = 20
HEARTBEAT_MS = 10_000
NAME = "topic.prefix"

_SETTINGS: Mapping[str, str] = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "tasks.max": "1",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "disabled",
    # What became of its predecessor's connection is seen within a second.
    "slot.max.retries": "20",
    "slot.retry.delay.ms": "500",
    "snapshot.locking.mode": "none",
    # A fault ends the run. Whether the next one takes a snapshot is not Debezium's to decide.
    "errors.max.retries": "0",
    "poll.interval.ms": str(POLL_MS),
    # A table at rest in a busy database: a word in the log lets the slot move on.
    "heartbeat.interval.ms": str(HEARTBEAT_MS),
    "heartbeat.action.query": "SELECT pg_logical_emit_message(true, 'civicbus', '')",
    "decimal.handling.mode": "string",
    "time.precision.mode": "microseconds",
    "interval.handling.mode": "string",
    "binary.handling.mode": "base64",
    "include.unknown.datatypes": "true",
    "unavailable.value.placeholder": UNAVAILABLE,
    "tombstones.on.delete": "false",
    "skipped.operations": "none",
    "notification.enabled.channels": "sink",
    "transforms": "one",
    "transforms.one.type": "org.apache.kafka.connect.transforms.RegexRouter",
    "transforms.one.regex": ".*",
}


def connector_config(found: Declared, name: str, *, snapshot: bool) -> dict[str, str]:
    """What Kafka Connect is told; the password is a reference to its file."""
    dataset, database = found.dataset, found.database
    topic, slot = capture_topic(dataset.id), slot_name(dataset.id)
    table = re.escape(found.capture.table)
    columns = "|".join(re.escape(column_of(dataset, field)) for field in dataset.schema.field_names)
    folder, file = database.password_file.parent, database.password_file.name
    return {
        **_SETTINGS,
        NAME: name,
        "snapshot.mode": "initial" if snapshot else "no_data",
        "slot.name": slot,
        "publication.name": slot,
        "database.hostname": database.parameters["host"],
        "database.port": database.parameters.get("port", "5432"),
        "database.user": database.parameters["user"],
        "database.password": f"${{directory:{folder}:{file}}}",
        "database.dbname": database.parameters["dbname"],
        "database.sslmode": database.parameters.get("sslmode", "prefer"),
        "table.include.list": table,
        "column.include.list": f"{table}\\.({columns})",
        # A longer text is too large for its record; cut, it still is, and goes to quarantine instead of nowhere.
        f"column.truncate.to.{dataset.max_bytes + 1}.chars": f"{table}\\..*",
        "notification.sink.topic.name": topic,
        "transforms.one.replacement": topic,
    }
