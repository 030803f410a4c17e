"""What a demo did and found: shown to a person, or given as JSON to a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from civicbus.cli.demo.proof import Proof
from civicbus.names import DatasetId
from civicbus.producers.table_source import Outcome

Percentiles = tuple[float | None, float | None]


@dataclass(slots=True, kw_only=True)
class Summary:
    """Filled in as the demo goes on. ``freshness_s``: p50 and p99 of the generated changes, by stage."""

    home: Path
    started_s: float = 0.0
    first_row_s: float | None = None
    loaded: dict[DatasetId, Outcome] = field(default_factory=dict)
    changes: int = 0
    admitted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unread: int = 0
    freshness_s: dict[str, Percentiles] = field(default_factory=dict)
    proofs: list[Proof] = field(default_factory=list)
    memory_bytes: int = 0
    disk_bytes: int = 0

    @property
    def holds(self) -> bool:
        """Every change was looked at, and every table is its agreement's SELECT."""
        return bool(self.proofs) and all(proof.holds for proof in self.proofs) and self.unread == 0

    def document(self) -> dict[str, object]:
        """The summary as JSON has it."""
        return {
            "equal": self.holds,
            "started_seconds": round(self.started_s, 2),
            "first_row_seconds": self.first_row_s and round(self.first_row_s, 2),
            "datasets": {str(name): _outcome(outcome) for name, outcome in self.loaded.items()},
            "generated_changes": self.changes,
            "admitted": self.admitted,
            "refused": self.refused,
            "unread_changes": self.unread,
            "freshness_seconds": {stage: {"p50": p50, "p99": p99} for stage, (p50, p99) in self.freshness_s.items()},
            "tables": [_proof(proof) for proof in self.proofs],
            "memory_pss_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
        }

    def show(self, console: Console) -> None:
        """The proof, the figures, the verdict."""
        console.print(self._proofs())
        for name, outcome in self.loaded.items():
            console.print(f"{name}: {_told(outcome)}")
        refused = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.refused.items())) or "nothing"
        console.print(f"{self.changes:,} generated changes; {self.admitted:,} admitted; refused: {refused}")
        for stage, (p50, p99) in self.freshness_s.items():
            console.print(f"change → {stage}: p50 {milliseconds(p50)}, p99 {milliseconds(p99)}")
        first = "never" if self.first_row_s is None else f"{self.first_row_s:.1f} s"
        console.print(
            f"started in {self.started_s:.1f} s; first row in a subscriber's table after {first}; "
            f"memory {self.memory_bytes / 2**20:,.0f} MiB (PSS); disk {self.disk_bytes / 2**20:,.0f} MiB in {self.home}"
        )
        if self.unread:
            console.print(f"[red]{self.unread:,} changes were not looked at in time")
        console.print("[green]equal: every table is its agreement's SELECT" if self.holds else "[red]not equal")

    def _proofs(self) -> Table:
        table = Table("department", "agreement", "SELECT", "inbox", "table", "said twice", "verdict", title="Proof")
        for proof in self.proofs:
            verdict = "[green]equal" if proof.holds else f"[red]{proof.difference or 'a row was said twice'}"
            counts = (proof.expected_rows, proof.inbox_rows, proof.table_rows, proof.repeats)
            table.add_row(proof.subscriber, proof.agreement, *(f"{count:,}" for count in counts), verdict)
        return table


def milliseconds(seconds: float | None) -> str:
    """A duration for people; a dash where there is none."""
    return "–" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _told(outcome: Outcome) -> str:
    parts = [f"{outcome.rows:,} rows", f"{outcome.upserts:,} published", f"{outcome.unchanged:,} unchanged"]
    if outcome.deletions:
        parts.append(f"{outcome.deletions:,} deleted")
    if outcome.resent:
        parts.append(f"{outcome.resent:,} left by an earlier run")
    if outcome.repeated:
        parts.append(f"{len(outcome.repeated):,} keys repeated (the last row was used)")
    parts += [f"{count:,} to quarantine: {reason.value}" for reason, count in outcome.refused.items()]
    return ", ".join(parts)


def _outcome(outcome: Outcome) -> dict[str, object]:
    return {
        "rows": outcome.rows,
        "upserts": outcome.upserts,
        "deletions": outcome.deletions,
        "unchanged": outcome.unchanged,
        "repeated_keys": len(outcome.repeated),
        "unsendable": {reason.value: count for reason, count in outcome.refused.items()},
    }


def _proof(proof: Proof) -> dict[str, object]:
    return {
        "department": proof.subscriber,
        "agreement": proof.agreement,
        "rows": proof.table_rows,
        "expected_rows": proof.expected_rows,
        "inbox_rows": proof.inbox_rows,
        "repeats": proof.repeats,
        "equal": proof.holds,
        "difference": proof.difference,
    }
