"""What one `reconcile` run saw and did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    #: what could not be read or repaired, for a person
    problems: list[str] = field(default_factory=list)
    events: int = 0
    cursors: dict[str, int] = field(default_factory=dict)
    duration_ms: int = 0

    def found(self, finding: Finding) -> None:
        if finding.kind is FindingKind.CONFLICT:
            slot = finding.slot
            self.conflicts.append(
                {
                    "paycode_id": slot.paycode_id,
                    "index": slot.index,
                    "label": slot.label,
                    "detail": finding.detail,
                }
            )
        else:
            self.counts[_COUNTED[finding.kind]] += 1

    @property
    def agree(self) -> bool:
        """After this run books and node say the same."""
        open_findings = self.dry_run and any(self.counts.values())
        return not self.conflicts and not self.problems and not open_findings

    def answer(self) -> dict[str, Any]:
        return {
            "full": self.full,
            "dry_run": self.dry_run,
            "checked": self.checked,
            **self.counts,
            "conflicts": self.conflicts[:MOST_LISTED],
            "problems": self.problems[:MOST_LISTED],
            "events": self.events,
            "agree": self.agree,
            "cursors": self.cursors,
            "duration_ms": self.duration_ms,
        }
