"""The agreement: who may receive what, why and until when; the contract, and the program.

A plain record. The same document stands in a file (as YAML) and on ``platform.agreements`` (as JSON); pydantic
reads both and refuses what it does not know. Whether its SELECT means anything is found in ``views``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date as Day  # noqa: N812 - Consent has a field named date
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic import Field as Bounds

from civicbus.errors import CheckFailed, ConfigurationError
from civicbus.names import AgreementId, DepartmentId, Topic, inbox_topic, valid_name
from civicbus.schemas.datasets import ADepartment, Line, Title
from civicbus.schemas.documents import Unreadable, findings_of, path_text, read_document

_CLOSED = ConfigDict(extra="forbid")


def _name(text: str) -> AgreementId:
    try:
        return AgreementId(valid_name(text))
    except ConfigurationError as fault:
        raise ValueError(str(fault)) from None


AnAgreement = Annotated[AgreementId, AfterValidator(_name)]


class KeyMode(StrEnum):
    """How the inbox names a record: by the record key itself, or by a keyed hash of it."""

    RECORD = "record"
    HASHED = "hashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """An owner's consent: which department gave it, who signed, and when."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    department: ADepartment
    by: Line
    date: Day


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How the inbox reaches the subscriber's own system."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    table: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One agreement. It holds from ``valid_from`` to ``valid_until``, both days included."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    id: AnAgreement
    subscriber: ADepartment
    purpose: Title
    legal_basis: Line
    owner_consents: tuple[Consent, ...] = ()
    valid_from: Day
    valid_until: Day
    delivery: Delivery = field(default_factory=Delivery)
    freshness_s: Annotated[int, Bounds(ge=1)] = 60
    key: KeyMode = KeyMode.RECORD
    select: Annotated[str, Bounds(min_length=1, max_length=100_000)]

    @property
    def topic(self) -> Topic:
        """The inbox topic of this agreement."""
        return inbox_topic(self.subscriber, self.id)

    def consented(self, owner: DepartmentId) -> bool:
        """Whether a dataset's owner agreed; nobody needs its own consent."""
        return owner == self.subscriber or any(consent.department == owner for consent in self.owner_consents)

    def in_force(self, day: Day) -> bool:
        return self.valid_from <= day <= self.valid_until

    def to_json(self) -> bytes:
        """The value of ``platform.agreements``; equal agreements give equal bytes."""
        return _adapter().dump_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Raises ConfigurationError where the document is no agreement."""
        try:
            return _adapter().validate_json(text)  # type: ignore[return-value]  # nobody derives from Agreement
        except ValidationError as error:
            places = "; ".join(f"{path_text(e['loc'])}: {e['msg']}" for e in error.errors())
            raise ConfigurationError(
                f"a document on platform.agreements is no agreement: {places}", mend="run `civicbus agreements apply`"
            ) from None


def load_agreements(paths: Sequence[Path]) -> list[Agreement]:
    """The agreements in these files and in the ``.yaml`` files below these folders, in order of their ids.

    Raises CheckFailed with every document that is no agreement and every id that is used twice.
    """
    findings: list[str] = []
    agreements: dict[AgreementId, tuple[Path, Agreement]] = {}
    for path in agreement_files(paths):
        try:
            agreement = load_agreement(path)
        except CheckFailed as fault:
            findings.extend(fault.findings)
            continue
        earlier, _ = agreements.setdefault(agreement.id, (path, agreement))
        if earlier != path:
            findings.append(f"{path}: {agreement.id} is the id of {earlier} too; give each agreement its own id")
    if findings:
        raise CheckFailed("these documents are no agreements:", findings)
    return [agreements[name][1] for name in sorted(agreements)]


def load_agreement(path: Path) -> Agreement:
    """The agreement in one file; raises CheckFailed with every finding, each with its place."""
    try:
        document = read_document(path, str(path))
    except Unreadable as fault:
        raise CheckFailed(f"{path} is no agreement:", [str(fault)]) from None
    try:
        return _adapter().validate_python(document.content)
    except ValidationError as error:
        findings = [str(finding) for finding in findings_of(document, error)]
        raise CheckFailed(f"{path} is no agreement:", findings) from None


def agreement_files(paths: Sequence[Path]) -> Iterator[Path]:
    """These files, and the ``.yaml`` files below these folders."""
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.yaml"))
        else:
            yield path


@cache
def _adapter() -> TypeAdapter[Agreement]:
    return TypeAdapter(Agreement)
