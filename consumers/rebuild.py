"""Asks for a table to be filled again from its inbox's start; the department's table process does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from civicbus.consumers import positions
from civicbus.consumers.positions import State
from civicbus.consumers.sinks.postgres import Restart, prepare_session, start_over
from civicbus.errors import ConfigurationError
from civicbus.names import AgreementId, DepartmentId, Topic, inbox_topic
from civicbus.postgres import Session, translated
from civicbus.transport.assigned import AssignedReader
from civicbus.transport.partitions import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rebuild is. ``ready``: the table is equal to the inbox again."""

    done: int
    total: int
    ready: bool


def ask(session: Session, reader: AssignedReader, department: DepartmentId, agreement: AgreementId) -> Topic:
    """Start the inbox over; readers see the table as it was until it is complete."""
    topic = inbox_topic(department, agreement)
    with translated():
        prepare_session(session)
        stored = positions.load(session, topic)
        if stored is None:
            raise ConfigurationError(
                f"{department} has no table of {agreement}", mend=f"see `civicbus table list {department}`"
            )
        firsts = reader.first_offsets(Partition(topic, number) for number in stored.positions)
        start_over(
            session,
            Restart(
                topic=topic,
                agreement=agreement,
                topic_id=stored.topic_id,
                starts={partition.number: at for partition, at in firsts.items()},
                seen=stored.generation,
                reason="a rebuild was asked for",
            ),
        )
    return topic


def progress(session: Session, reader: AssignedReader, topic: Topic) -> Iterator[Progress]:
    """How far it is now, each time it is asked."""
    with translated():
        while (stored := positions.load(session, topic)) is not None:
            ends = reader.ends(Partition(topic, number) for number in stored.positions)
            yield Progress(
                done=sum(stored.positions.values()),
                total=sum(ends.values()),
                ready=stored.state is State.CURRENT,
            )
