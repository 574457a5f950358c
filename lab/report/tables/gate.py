"""Checks and verdict of the gate: plain records, a table for the terminal and one for a page."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from lab.evaluation.pooled import Paired
from lab.io.files import plural
from lab.report.tables.table import Column, Row, Table
from lab.stats.auc import Difference

Compared: TypeAlias = Paired | Difference
"""A figure of two models on the same patients, compared by either test."""
HEADS = ("test", "against", "model", "other", "difference (95 % interval)", "asked for", "n", "")
ENDLESS = (math.inf, -math.inf)
RESULT = {True: "passed", False: "FAILED"}
NUMBERS = {"model": 3, "other": 3, "n": 0}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: a figure of the model against another's on the same patients, and the limit of its interval."""

    figure: str
    against: str
    """"champion, version 3", "copy T1", "linear regression", "tumour volume", "chance"."""
    model: float
    other: float
    difference: float
    """model - other."""
    low: float
    high: float
    limit: float
    """Limit that the interval must lie above, or below."""
    above: bool
    n: int
    note: str = ""

    @classmethod
    def of(
        cls, figure: str, against: str, found: Compared, *, limit: float, above: bool, n: int, note: str = ""
    ) -> Check:
        """The check of a comparison on `n` patients."""
        values = {name: getattr(found, name) for name in ("difference", "low", "high")}
        both = {"model": found.first, "other": found.second}
        return cls(figure=figure, against=against, **both, **values, limit=limit, above=above, n=n, note=note)

    @property
    def passed(self) -> bool:
        """Whether the whole interval keeps to the limit; an unknown interval does not."""
        return self.low > self.limit if self.above else self.high < self.limit

    @property
    def asked(self) -> str:
        """The requirement: "above 0", "below +0.005"."""
        return f"above {self.limit:g}" if self.above else f"below {self.limit:{'+' if self.limit else ''}g}"

    @property
    def interval(self) -> str:
        """The difference and its interval: "+0.120 (+0.035 to +0.201)"."""
        if not math.isfinite(self.low) or not math.isfinite(self.high):
            return f"{self.difference:+.3f} (no interval)"
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"

    @property
    def told(self) -> str:
        """The check in a sentence for a refusal."""
        return (
            f"{self.figure} against {self.against}: {self.model:.3f} and {self.other:.3f}, difference {self.interval} "
            f"in {plural(self.n, 'patient')}, must be {self.asked}{self.note and ', ' + self.note}"
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of the gate."""

    against: str
    """The champion at the time: "version 3", or "no champion yet"."""
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    """Limits of the comparison for the reader, such as patients left out of it."""
    trouble: str = ""
    """Why nothing could be compared, or ""."""

    @property
    def passed(self) -> bool:
        """Whether there were checks and all passed."""
        return not self.trouble and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """Why the gate was not passed: its trouble, else each failed check with its figures."""
        return [self.trouble] if self.trouble else [check.told for check in self.checks if not check.passed]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; unknown values are None."""
        rows = [asdict(check) | {"passed": check.passed, "asked": check.asked} for check in self.checks]
        known = [
            {key: None if value != value or value in ENDLESS else value for key, value in row.items()} for row in rows
        ]
        own = {"against": self.against, "passed": self.passed, "trouble": self.trouble, "notes": list(self.notes)}
        return {**own, "checks": known}

    @classmethod
    def read(cls, known: dict[str, Any]) -> Verdict:
        """Inverse of `as_dict`."""
        names = Check.__dataclass_fields__
        rows: list[dict[str, Any]] = [
            {key: math.nan if value is None else value for key, value in row.items() if key in names}
            for row in known["checks"]
        ]
        own = {"against": known["against"], "notes": tuple(known["notes"]), "trouble": known["trouble"]}
        return cls(checks=tuple(Check(**row) for row in rows), **own)


def gate_table(verdict: Verdict) -> Table:
    """The table of the checks, a row each, with the verdict's notes."""
    columns = [Column(title=head, decimals=NUMBERS.get(head)) for head in HEADS]
    rows = [
        Row(cells=[one.figure, one.against, one.model, one.other, one.interval, one.asked, one.n, RESULT[one.passed]])
        for one in verdict.checks
    ]
    return Table(columns=columns, rows=rows, notes=verdict.notes)


def verdict_text(verdict: Verdict) -> str:
    """The verdict for a terminal: its trouble or its table."""
    return verdict.trouble or gate_table(verdict).text(None)


def verdict_markdown(verdict: Verdict) -> str:
    """The verdict for a page."""
    if not verdict.checks:
        return "\n\n".join([verdict.trouble, *(f"- {note}" for note in verdict.notes)]).strip()
    return "\n\n".join(filter(None, [verdict.trouble, gate_table(verdict).markdown()])).strip()
