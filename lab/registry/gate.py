"""From challenger to champion: a version is admitted by tests on patients whom it has not seen, or by force.

What was asked and found stays with the version: as tags, as `gate.json` (every attempt, the last one last) and on its
model card, all in the folder `registered/` of its run.

How often it errs, simulated (60 % of patients enhance, volumes made up have long tails; 2,000 samples each): a network
that is worth as much as the champion gets past it in 1.0, 2.1 and 2.8 % of samples of 10, 28 and 45 test patients; one
that is truly better by 0.18 of contrast concordance in 13, 48 and 68 %. What keeps the others out is mostly the volume
made up, of which the few patients who do not enhance say little. One that is better in the score and worse by just a
margin passes in 0.3, 0.8 and 1.8 % (MAE) and 5.0, 2.7 and 3.5 % (volume). A classifier as good as the champion passes
in 2.0 to 2.4 % of samples of 28 to 300 patients, one with an AUC of 0.88 against 0.78 in 18, 31, 66 and 97 % of
samples of 28, 45, 100 and 300.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lab.evaluation.paired import SCORES
from lab.registry import history as gate_history
from lab.registry.classifier_gate import judge_classifier
from lab.registry.model_card import figures_of, keep_card
from lab.registry.network_gate import judge_network
from lab.registry.promotion import CHAMPION, Promotion, promote, run_with_model
from lab.registry.settings import GateSettings
from lab.report.tables.gate import Verdict
from lab.report.tables.model_figures import interval_tags
from lab.report.text.model_limits import classifier_caution
from lab.tracking import runs
from lab.tracking.models.registered import CLASSIFIER, kind_of, version_of
from lab.tracking.store import connect

FOLDER, GATE = "registered/{name}-version-{version}", "gate.json"
TAG_LENGTH = 4500
"""Characters of a tag that every database takes."""


class GateRefused(ValueError):
    """A version that does not become champion; `verdict` says why."""

    def __init__(self, name: str, version: str, verdict: Verdict) -> None:
        self.verdict = verdict
        reasons = "; ".join(verdict.reasons)
        super().__init__(
            f"version {version} of {name!r} does not become champion: {reasons}. It stays registered; --force REASON "
            "overrides this and is recorded for ever"
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a promotion did."""

    promotion: Promotion
    verdict: Verdict | None
    """What the gate found; None where none was held, for a challenger or whoever is champion already."""
    forced: bool
    caution: str
    """Of a classifier that was not shown to tell patients apart, else ""."""


def promote_through_gate(
    run: str, name: str, alias: str = "challenger", *, force: str | None = None, settings: GateSettings | None = None
) -> Outcome:
    """Register the model of a run with figures and card, and give it the alias; champion only through the gate.

    `force` is the reason why a version becomes champion that the gate refuses; it is recorded. Raises GateRefused, and
    ValueError as `promote` does, for a run that was never scored on test patients, and for a force without a reason.
    """
    if force is not None and (alias != CHAMPION or not force.strip()):
        raise ValueError("--force needs --alias champion and a reason in words: what it overrides is the gate alone")
    chosen = settings or GateSettings()
    check(chosen)
    chosen_run = run_with_model(run)
    figures = figures_of(chosen_run)
    caution = classifier_caution(figures) if kind_of(chosen_run) == CLASSIFIER else ""
    held: dict[str, Any] = {"verdict": None, "forced": False}

    def admit(source: Run, version: ModelVersion) -> str:
        folder = FOLDER.format(name=name, version=version.version)
        current = version_of(name, CHAMPION)
        if alias == CHAMPION and current != str(version.version):
            verdict = judge(source, name, current, chosen)
            forced = force is not None and not verdict.passed
            keep_verdict(source, version, folder, verdict, chosen, reason=force if forced and force else "")
            held.update(verdict=verdict, forced=forced)
        keep_card(source, connect().get_model_version(name, version.version), folder, figures)
        if held["verdict"] is not None and not held["verdict"].passed and not held["forced"]:
            raise GateRefused(name, str(version.version), held["verdict"])
        return "forced" if held["forced"] else "gate"

    tags = interval_tags(figures) | ({"caution": caution} if caution else {})
    done = promote(run, name, alias, admit=admit, reason=force or "", tags=tags)
    return Outcome(promotion=done, verdict=held["verdict"], forced=held["forced"], caution=caution)


def check(settings: GateSettings) -> None:
    """Raises ValueError for settings with which nothing can be tested."""
    if settings.score not in SCORES:
        raise ValueError(f"--gate.score {settings.score}: known are {', '.join(SCORES)}")
    if min(settings.mae_margin, settings.hallucinated_margin_ml, settings.brier_margin) < 0:
        raise ValueError("a margin of the gate is 0 or more: by so much a model may be worse")
    if settings.least_patients < 2 or settings.resamples < 200:
        raise ValueError("--gate.least-patients must be at least 2 and --gate.resamples at least 200")


def judge(source: Run, name: str, champion: str | None, settings: GateSettings) -> Verdict:
    """The gate's tests of a run's model against the version that is champion, or against nobody but the rivals."""
    told = f"version {champion}"
    other = None
    if champion is not None:
        try:
            other = connect().get_run(str(connect().get_model_version(name, champion).run_id))
        except MlflowException as error:
            return Verdict(
                against=told, trouble=f"the run of the champion, {told}, cannot be read: {error.message.strip()}"
            )
    hold = judge_classifier if kind_of(source) == CLASSIFIER else judge_network
    return hold(source, other, told, settings)


def keep_verdict(
    source: Run, version: ModelVersion, folder: str, verdict: Verdict, settings: GateSettings, *, reason: str
) -> None:
    """What the gate found, as `gate.json` after all earlier attempts and as tags; `reason` is that of force, or ""."""
    attempt: dict[str, Any] = {"when": gate_history.now(), "who": gate_history.who(), "forced": reason}
    attempt |= {"settings": asdict(settings), **verdict.as_dict()}
    attempts = [*read_attempts(source, folder), attempt]
    runs.log_text(source.info.run_id, json.dumps(attempts, indent=2), f"{folder}/{GATE}")
    state = "passed" if verdict.passed else "forced" if reason else "refused"
    tags = {"gate": state, "gate_when": attempt["when"], "gate_against": verdict.against}
    tags |= {"gate_tests": json.dumps(short(verdict))[:TAG_LENGTH]}
    tags |= {"gate_failed": "; ".join(verdict.reasons)[:TAG_LENGTH] or "none"}
    if reason:
        tags |= {"forced": "yes", "forced_reason": reason[:TAG_LENGTH]}
        tags |= {"forced_by": attempt["who"], "forced_when": attempt["when"]}
    for key, value in tags.items():
        connect().set_model_version_tag(version.name, version.version, key, str(value))


def read_attempts(source: Run, folder: str) -> list[dict[str, Any]]:
    """Every time that the gate was held for a version, the last one last."""
    name = f"{folder}/{GATE}"
    return json.loads(runs.read_text(source.info.run_id, name)) if runs.has_file(source.info.run_id, name) else []


def short(verdict: Verdict) -> list[str]:
    """The tests in a few words each."""
    return [
        f"{'passed' if check.passed else 'FAILED'}: {check.figure} against {check.against} {check.interval}, "
        f"{check.asked}, n = {check.n}"
        for check in verdict.checks
    ]
