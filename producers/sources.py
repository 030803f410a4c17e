"""Which way publishes a dataset: one at a time, written on ``platform.sources``, a compacted topic.

A way that takes its sequence from a log (an outbox, a capture) claims its dataset, and the claim has an epoch.
Sequences are compared as numbers, so two ways at once would make each other's changes stale without a word.
Promise: the sequences of a claim are higher than those of every claim before it, and than those of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict, TypeAdapter, ValidationError

from civicbus.errors import ConfigurationError, Fenced, HeldElsewhere, Unavailable
from civicbus.names import SOURCES_TOPIC, DatasetId, DepartmentId
from civicbus.secrets import OPERATOR, Credentials
from civicbus.settings import Endpoints
from civicbus.transport.compacted import Alone, read_all

EPOCHS = 2**8
POSITIONS = 2**56
# What the clock numbered in nanoseconds before the first claim is lower than every sequence of this epoch until
# the year 2116.
FIRST_EPOCH = 64


class Way(StrEnum):
    """How a dataset is published. The sequences of ``table`` (a file, a query, a program) come from the clock."""

    TABLE = "table"
    OUTBOX = "outbox"
    CAPTURE = "capture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who publishes a dataset, and the epoch of its sequences; 0 while the clock alone has numbered them."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    way: Way
    epoch: int


_CLAIM = TypeAdapter(Claim)
# The name under which claims are changed, by one command at a time.
_ALONE = "platform.sources"
_SEEN_WITHIN_S = 10.0
_LOOK_S = 0.05


def sequence_of(epoch: int, position: int) -> int:
    """The ``ce_sequence`` of a log position: 8 bits of epoch over 56 bits; raises ConfigurationError beyond them."""
    if not 0 <= epoch < EPOCHS:
        raise ConfigurationError(f"an epoch is at most {EPOCHS - 1}", mend="publish under a new dataset name")
    if not 0 <= position < POSITIONS:
        raise ConfigurationError(f"a log position is below {POSITIONS}", mend="number the log anew in a new epoch")
    return epoch * POSITIONS + position


def clock_sequence(epoch: int, now_ns: int) -> int:
    """The sequence of a moment: its nanoseconds, or its microseconds in the epoch that a released claim left."""
    return now_ns if epoch == 0 else sequence_of(epoch, now_ns // 1_000)


def claim(endpoints: Endpoints, operator: Credentials, dataset: DatasetId, way: Way) -> Claim:
    """Have this way publish the dataset; raises HeldElsewhere where another one does.

    Claiming again what this way holds already changes nothing.
    """
    alone, held = _held(endpoints, operator, dataset)
    if held is not None and held.way is way:
        return held
    if held is not None and held.way is not Way.TABLE:
        raise held_by(dataset, held.way)
    return _put(endpoints, operator, alone, dataset, Claim(way=way, epoch=_next_epoch(held, way)))


def release(endpoints: Endpoints, operator: Credentials, dataset: DatasetId) -> Claim | None:
    """Leave the dataset to whoever publishes it by the clock, above the sequences that its log has used."""
    alone, held = _held(endpoints, operator, dataset)
    if held is None or held.way is Way.TABLE:
        return held
    return _put(endpoints, operator, alone, dataset, Claim(way=Way.TABLE, epoch=held.epoch + 1))


def raise_epoch(endpoints: Endpoints, operator: Credentials, dataset: DatasetId) -> Claim:
    """Put every later change above all earlier ones: after the source went back, as a restored database does."""
    alone, held = _held(endpoints, operator, dataset)
    if held is None or held.way is Way.TABLE:
        raise ConfigurationError(
            f"no log numbers the changes of {dataset}", mend="see what does with `civicbus source list`"
        )
    return _put(endpoints, operator, alone, dataset, Claim(way=held.way, epoch=held.epoch + 1))


def claims(endpoints: Endpoints, credentials: Credentials, timeout_s: float = 30.0) -> dict[DatasetId, Claim]:
    """Every claim that is written; raises Unavailable where they are not read in ``timeout_s``."""
    group = "platform.operator" if credentials.principal == OPERATOR else f"{credentials.principal}.sources"
    return claims_in(read_all(endpoints, credentials, SOURCES_TOPIC, group, timeout_s))


def claim_of(
    endpoints: Endpoints, credentials: Credentials, dataset: DatasetId, timeout_s: float = 30.0
) -> Claim | None:
    """Who holds the dataset; None where nobody ever claimed it."""
    return claims(endpoints, credentials, timeout_s).get(dataset)


def clock_epoch(endpoints: Endpoints, credentials: Credentials, dataset: DatasetId, timeout_s: float = 30.0) -> int:
    """The epoch in which the clock may number the dataset's changes; raises HeldElsewhere where a log does."""
    held = claim_of(endpoints, credentials, dataset, timeout_s)
    if held is None:
        return 0
    if held.way is not Way.TABLE:
        raise held_by(dataset, held.way)
    return held.epoch


def claims_in(table: Mapping[bytes, bytes]) -> dict[DatasetId, Claim]:
    """The claims of the topic's current state; raises ConfigurationError where a row is none."""
    return {DatasetId.parse(key.decode()): _parsed(value) for key, value in table.items()}


def datasets_of(found: Mapping[DatasetId, Claim], department: DepartmentId, way: Way) -> dict[DatasetId, int]:
    """The datasets of a department that this way publishes, and the epoch of each."""
    return {
        dataset: held.epoch for dataset, held in found.items() if dataset.department == department and held.way is way
    }


def held_by(dataset: DatasetId, way: Way) -> HeldElsewhere:
    """The fault of publishing a dataset by another way than the one that holds it."""
    return HeldElsewhere(
        f"{dataset} is published by its {way}, and a second source would make its changes stale",
        mend=f"publish through the {way}, or end it with `civicbus source release {dataset}`",
    )


def _next_epoch(held: Claim | None, way: Way) -> int:
    before = 0 if held is None else held.epoch
    return before if way is Way.TABLE else max(before + 1, FIRST_EPOCH)


def _held(endpoints: Endpoints, operator: Credentials, dataset: DatasetId) -> tuple[Alone, Claim | None]:
    """Who holds the dataset, and what may change it as long as nobody else does."""
    alone = Alone(endpoints, operator, _ALONE)
    return alone, claim_of(endpoints, operator, dataset)


def _put(endpoints: Endpoints, operator: Credentials, alone: Alone, dataset: DatasetId, new: Claim) -> Claim:
    sequence_of(new.epoch, 0)
    try:
        alone.put(SOURCES_TOPIC, str(dataset).encode(), _CLAIM.dump_json(new))
    except Fenced:
        raise Unavailable(f"somebody else changed a claim while {dataset} was looked at", mend="try again") from None
    # A transaction is committed a moment before its readers see it, and whoever goes on relies on the claim.
    deadline_s = time.monotonic() + _SEEN_WITHIN_S
    while claim_of(endpoints, operator, dataset) != new and time.monotonic() < deadline_s:
        time.sleep(_LOOK_S)
    return new


def _parsed(value: bytes) -> Claim:
    try:
        return _CLAIM.validate_json(value)
    except ValidationError:
        raise ConfigurationError(
            "a document on platform.sources is no claim", mend="claim the dataset again with the command of its way"
        ) from None
