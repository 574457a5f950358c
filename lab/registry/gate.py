"""The gate from challenger to champion: statistical tests on unseen patients, or a recorded force.

The version keeps the result: as tags, in `gate.json` (all attempts, the latest last) and on its model card, in the
folder `registered/` of its run. For simulated error rates of the gate see docs/decisions.md.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from lab.config import GateSettings
from lab.evaluation.figures import shown_in
from lab.registry.candidate import Candidate, run_with_model
from lab.registry.classifier_gate import judge_classifier
from lab.registry.history import CHAMPION, now, who
from lab.registry.model_card import log_card
from lab.registry.network_gate import judge_network
from lab.registry.promotion import Promotion, promote_candidate
from lab.report.tables.gate import RESULT, Verdict
from lab.report.tables.model_figures import interval_tags
from lab.tracking import artifacts
from lab.tracking.artifacts import VersionTag
from lab.tracking.models.registered import Version, find_version, version_of
from lab.tracking.run import Run

TAG_LENGTH = 4500
"""Maximum length of a tag that every database accepts."""


class GateRefused(ValueError):
    """A version that does not become champion; `verdict` says why."""

    def __init__(self, version: Version, verdict: Verdict) -> None:
        self.verdict = verdict
        reasons = "; ".join(verdict.reasons)
        super().__init__(
            f"version {version.number} of {version.name!r} does not become champion: {reasons}. It stays registered; "
            "--force REASON overrides this and is recorded for ever"
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a promotion."""

    promotion: Promotion
    verdict: Verdict | None
    """Verdict of the gate; None without one, for a challenger or the present champion."""
    forced: bool
    caution: str
    """Warning for a classifier that was not shown to discriminate, otherwise ""."""
    external: tuple[str, ...] = ()
    """A line for each test of a classifier on another cohort."""


def promote_through_gate(
    run: str, name: str, alias: str = "challenger", *, force: str | None = None, settings: GateSettings | None = None
) -> Outcome:
    """Register the model of a run with figures and card, and set the alias; champion only through the gate.

    `force` is the recorded reason for making a refused version champion. Raises GateRefused, and ValueError as
    `promote` does, for a run without scores on test patients, and for an empty reason.
    """
    if force is not None and (alias != CHAMPION or not force.strip()):
        raise ValueError("--force needs --alias champion and a reason in words: what it overrides is the gate alone")
    chosen = settings or GateSettings()
    check_gate_settings(chosen)
    candidate = Candidate(run_with_model(run))
    tags = interval_tags(candidate.figures)
    tags |= {VersionTag.CAUTION: candidate.caution} if candidate.caution else {}
    verdict: Verdict | None = None
    forced = False

    def before_alias(version: Version) -> str:
        nonlocal verdict, forced
        if candidate.external:  # a test may come later than the version
            version = version.set_tags({f"external/{one.slug}": one.describe() for one in candidate.external})
        folder = artifacts.version_folder(name, version.number)
        file = f"{folder}/{artifacts.GATE}"
        attempts = list(candidate.run.read_json(file)) if candidate.run.has_file(file) else []
        current = version_of(name, CHAMPION)
        if alias == CHAMPION and current != version.number:
            verdict = judge(candidate, name, current, chosen)
            forced = force is not None and not verdict.passed
            reason = (force or "") if forced else ""
            attempts.append({"when": now(), "who": who(), "forced": reason, "settings": asdict(chosen)})
            attempts[-1] |= verdict.as_dict()
            candidate.run.log_json(attempts, file)
            version = version.set_tags(verdict_tags(verdict, attempts[-1]))
        log_card(candidate, version, attempts)
        if verdict is not None and not verdict.passed and not forced:
            raise GateRefused(version, verdict)
        return "forced" if forced else "gate"

    done = promote_candidate(candidate, name, alias, before_alias=before_alias, reason=force or "", tags=tags)
    external = tuple(one.describe() for one in candidate.external)
    return Outcome(promotion=done, verdict=verdict, forced=forced, caution=candidate.caution, external=external)


def check_gate_settings(settings: GateSettings) -> None:
    """Raises ValueError for settings that allow no test."""
    scores = shown_in("gate")
    if settings.score not in scores:
        raise ValueError(f"--gate.score {settings.score}: known are {', '.join(scores)}")
    if min(settings.mae_margin, settings.hallucinated_margin_ml, settings.brier_margin) < 0:
        raise ValueError("a margin of the gate is 0 or more: by so much a model may be worse")
    if settings.least_patients < 2 or settings.resamples < 200:
        raise ValueError("--gate.least-patients must be at least 2 and --gate.resamples at least 200")


def judge(candidate: Candidate, name: str, champion: str | None, settings: GateSettings) -> Verdict:
    """Test a model against the champion version, or against the baselines alone."""
    other = None
    if champion is not None:
        version = find_version(name, champion)
        run = None if version is None else Run.find(version.run_id)
        if run is None:
            against = f"version {champion}"
            trouble = f"the run of the champion, {against}, cannot be read: it is not in this store"
            return Verdict(against=against, trouble=trouble)
        other = Candidate(run, f"version {champion}")
    return (judge_classifier if candidate.is_classifier else judge_network)(candidate, other, settings)


def verdict_tags(verdict: Verdict, attempt: dict[str, Any]) -> dict[str, str]:
    """Tags of a version with the result of its latest attempt."""
    reason = attempt["forced"]
    checks = [f"{RESULT[one.passed]}: {one.figure} against {one.against} {one.interval}, {one.asked}, n = {one.n}"
              for one in verdict.checks]  # fmt: skip
    tags = {
        VersionTag.GATE: "passed" if verdict.passed else "forced" if reason else "refused",
        VersionTag.GATE_WHEN: attempt["when"],
        VersionTag.GATE_AGAINST: verdict.against,
        VersionTag.GATE_TESTS: json.dumps(checks)[:TAG_LENGTH],
        VersionTag.GATE_FAILED: "; ".join(verdict.reasons)[:TAG_LENGTH] or "none",
    }
    if reason:
        tags |= {VersionTag.FORCED: "yes", VersionTag.FORCED_REASON: reason[:TAG_LENGTH]}
        tags |= {VersionTag.FORCED_BY: attempt["who"], VersionTag.FORCED_WHEN: attempt["when"]}
    return {str(key): value for key, value in tags.items()}
