"""The result file: what happened to a dropped file and to each of its rows, in the department's language. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from civicbus.producers.folder.faults import FileRefused
from civicbus.producers.folder.filenames import Part
from civicbus.producers.folder.messages import say
from civicbus.producers.folder.place import Language
from civicbus.producers.table_source import Outcome, RefusedRow
from civicbus.reasons import Reason
from civicbus.schemas.codec.tree import Decimal, Enum, Kind, Logical, Nullable, Primitive
from civicbus.schemas.datasets import Dataset

SHOWN = 1_000
"""How many rows, ranges or keys a list in the text has; a copy to correct has all of its rows."""
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A file as it came: its name and when."""

    file: str
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of a file that was read.

    ``kept_out`` has every rule of the catalogue that a row which can be sent breaks, so that admission parks it.
    ``twin`` is the file of the same bytes that came before; ``resumed`` says that the work was interrupted.
    """

    dataset: Dataset
    part: Part
    encoding: str
    separator: str
    outcome: Outcome
    kept_out: tuple[RefusedRow, ...]
    corrections: str | None
    twin: Arrival | None
    resumed: bool


def refusal_text(language: Language, arrival: Arrival, refused: FileRefused) -> str:
    """The result of a file that was refused as a whole."""
    values = {name: shown(value) if isinstance(value, str) else value for name, value in refused.values_shown.items()}
    lines = [
        *_arrived(language, arrival),
        _result(language, "refused_file"),
        _result(language, "reason", reason=say(language, "faults", refused.fault.value, **values)),
        _result(language, "mend", mend=say(language, "mends", refused.fault.value, **values)),
    ]
    return _text(lines)


def result_text(language: Language, arrival: Arrival, published: Published) -> str:
    """The result of a file that was read."""
    return _text([*_arrived(language, arrival), *_read(language, published), *_happened(language, published)])


def reason_text(language: Language, dataset: Dataset, row: RefusedRow) -> str:
    """Why a row is refused, with the field's title in front."""
    reason = _reason(language, dataset, row)
    return reason if row.field is None else f"{_titled(language, dataset, row.field)}: {reason}"


def shown(text: str) -> str:
    """A text of somebody else's on one line: cut, and nothing in it that moves a cursor or turns the direction."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)


def _arrived(language: Language, arrival: Arrival) -> Iterator[str]:
    yield _result(language, "file", file=shown(arrival.file))
    yield _result(language, "received", time=_moment(arrival.time))


def _read(language: Language, published: Published) -> Iterator[str]:
    dataset = published.dataset
    title = dataset.title.zh if language is Language.ZH else dataset.title.en
    part = say(language, "parts", published.part.value)
    yield _result(language, "dataset", title=title, dataset=str(dataset.id), part=part)
    if published.separator:
        separator = say(language, "separators", published.separator)
        yield _result(language, "read_as", encoding=published.encoding.upper(), separator=separator)
    if published.twin is not None:
        file, time = shown(published.twin.file), _moment(published.twin.time)
        yield _result(language, "twice", file=file, time=time)


def _happened(language: Language, published: Published) -> Iterator[str]:
    outcome = published.outcome
    yield ""
    yield _result(
        language,
        "counts",
        rows=outcome.rows,
        upserts=outcome.upserts,
        deletions=outcome.deletions,
        unchanged=outcome.unchanged,
        refused=len(outcome.refused_rows),
        kept_out=len({row.row for row in published.kept_out}),
    )
    if published.resumed:
        yield _result(language, "resumed", changes=outcome.resent)
    if outcome.anew:
        yield _result(language, "anew")
    yield from _sent(language, outcome)
    yield from _refused(language, published.dataset, "refused_rows", outcome.refused_rows)
    yield from _refused(language, published.dataset, "kept_out_rows", published.kept_out)
    if outcome.withheld:
        yield _result(language, "withheld", count=outcome.withheld, rows=outcome.untold)
    if published.corrections is not None:
        yield _result(language, "corrections", file=published.corrections)
    yield from _repeated(language, outcome.repeated)
    if outcome.unknown_columns:
        yield _result(language, "unknown_columns", columns=", ".join(map(shown, outcome.unknown_columns)))


def _sent(language: Language, outcome: Outcome) -> Iterator[str]:
    if not outcome.upserts and not outcome.deletions and not outcome.resent:
        yield _result(language, "nothing")
    if outcome.sent_rows:
        yield _result(language, "sent_rows", rows=_list(language, map(_range, outcome.sent_rows[:SHOWN])))
        yield from _more(language, "more", len(outcome.sent_rows))
    if outcome.deleted:
        keys = (shown(key.decode("utf-8", "replace")) for key in outcome.deleted[:SHOWN])
        yield _result(language, "deleted", count=len(outcome.deleted), keys=_list(language, keys))
        yield from _more(language, "more", len(outcome.deleted))


def _refused(language: Language, dataset: Dataset, title: str, rows: Sequence[RefusedRow]) -> Iterator[str]:
    if not rows:
        return
    yield _result(language, title, count=len({row.row for row in rows}))
    for row in rows[:SHOWN]:
        reason = _reason(language, dataset, row)
        if row.field is None:
            yield _result(language, "row", row=row.row, reason=reason)
        else:
            yield _result(
                language, "row_field", row=row.row, field=_titled(language, dataset, row.field), reason=reason
            )
    yield from _more(language, "more_rows", len(rows))


def _repeated(language: Language, repeated: Sequence[Sequence[int]]) -> Iterator[str]:
    if not repeated:
        return
    yield _result(language, "repeated", count=len(repeated))
    yield from (_result(language, "rows", rows=_list(language, map(str, rows))) for rows in repeated[:SHOWN])
    yield from _more(language, "more", len(repeated))


def _reason(language: Language, dataset: Dataset, row: RefusedRow) -> str:
    if row.reason is not Reason.UNREADABLE_ROW:
        return say(language, "reasons", row.reason.value)
    if row.field is None:
        return say(language, "reasons", "unreadable_cells")
    form = say(language, "forms", _form(dataset, row.field))
    return say(language, "reasons", "unreadable_row", form=form)


def _form(dataset: Dataset, name: str) -> str:
    """The name of the form that a field's values are written in."""
    written = next(field.type for field in dataset.schema.record.fields if field.name == name)
    match written.inner if isinstance(written, Nullable) else written:
        case Primitive(kind=kind, logical=None) if kind is not Kind.BYTES:
            return kind.value
        case Primitive(logical=Logical() as logical):
            return logical.value.removesuffix("-millis").removesuffix("-micros")
        case Decimal():
            return "decimal"
        case Enum():
            return "enum"
        case _:
            return "none"


def _titled(language: Language, dataset: Dataset, name: str) -> str:
    titles = {field.name: field.title for field in dataset.fields}
    title = titles[name].zh if language is Language.ZH else titles[name].en
    return name if title == name else f"{title} ({name})"


def _more(language: Language, text: str, count: int) -> Iterator[str]:
    if count > SHOWN:
        yield _result(language, text, count=count - SHOWN)


def _result(language: Language, key: str, **values: str | int) -> str:
    return say(language, "result", key, **values)


def _range(rows: range) -> str:
    return str(rows.start) if len(rows) == 1 else f"{rows.start}-{rows.stop - 1}"


def _list(language: Language, items: Iterable[str]) -> str:
    return ("、" if language is Language.ZH else ", ").join(items)


def _moment(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="seconds")


def _text(lines: Iterable[str]) -> str:
    return "\r\n".join([*lines, ""])
