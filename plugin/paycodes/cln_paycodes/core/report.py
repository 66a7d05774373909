"""What one `reconcile` run saw and did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .audit import AuditLine
from .labels import Slot
from .reconciliation import Finding, FindingKind

#: Conflicts and problems that one answer lists; the counts are always whole.
MOST_LISTED = 100

_COUNTED = {
    FindingKind.ADOPTED: "adopted",
    FindingKind.CONFIRMED: "confirmed",
    FindingKind.EXPIRED: "confirmed",
    FindingKind.REISSUED: "reissued",
    FindingKind.VOIDED: "voided",
    FindingKind.MISSING: "missing",
    FindingKind.RELEASED: "released",
}


@dataclass(kw_only=True, slots=True)
class Report:
    full: bool
    dry_run: bool
    checked: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED.values(), 0))
    #: what contradicts, by slot, for a person
    conflicts: dict[Slot, str] = field(default_factory=dict)
    #: what could not be read or repaired, for a person
    problems: list[str] = field(default_factory=list)
    events: int = 0
    #: of a full run, one for each code
    audit: list[AuditLine] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    duration_ms: int = 0

    def found(self, finding: Finding) -> None:
        if finding.kind is FindingKind.CONFLICT:
            self.conflicts[finding.slot] = finding.detail
        else:
            self.counts[_COUNTED[finding.kind]] += 1

    def not_recorded(self, finding: Finding, why: str) -> None:
        """What was counted is for a person instead."""
        self.counts[_COUNTED[finding.kind]] -= 1
        self.conflicts[finding.slot] = f"{finding.kind} could not be recorded: {why}"

    def adopted(self, count: int) -> None:
        """So many invoices at once."""
        self.counts[_COUNTED[FindingKind.ADOPTED]] += count

    @property
    def agree(self) -> bool:
        """After this run books and node say the same."""
        open_findings = self.dry_run and any(self.counts.values())
        sums_agree = all(line.agree for line in self.audit)
        return not self.conflicts and not self.problems and not open_findings and sums_agree

    def summary(self) -> str:
        """What was found, for the log; empty when nothing was."""
        found = {**self.counts, "conflicts": len(self.conflicts), "problems": len(self.problems)}
        return ", ".join(f"{count} {name}" for name, count in found.items() if count)

    def answer(self) -> dict[str, Any]:
        """Single values first and lists last, so that `lightning-cli -H` can be read from top to bottom."""
        listed = list(self.conflicts.items())[:MOST_LISTED]
        return {
            "full": self.full,
            "dry_run": self.dry_run,
            "checked": self.checked,
            **self.counts,
            "events": self.events,
            "agree": self.agree,
            "duration_ms": self.duration_ms,
            "cursors": self.cursors,
            **({"paycodes": [line.answer() for line in self.audit]} if self.audit else {}),
            "problems": self.problems[:MOST_LISTED],
            "conflicts": [
                {"paycode_id": slot.paycode_id, "index": slot.index, "label": slot.label, "detail": detail}
                for slot, detail in listed
            ],
        }
