"""Results of a study's guided search: its trials, and the importance of each setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from lab.evaluation.figures import shown_in
from lab.experiments.plan import Plan
from lab.experiments.queue import SLOT
from lab.tracking.artifacts import Tag

BESIDE = tuple(f"val/{figure}" for figure in shown_in("search"))
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def search_trials(plan: Plan) -> pd.DataFrame:
    """One row per ended trial of the search: number, label, state, value and a column for each setting drawn.

    `value` is the objective on validation patients: for a pruned trial that of its last epoch, for a failed one NaN.
    The columns `val/...` are figures of the finished ones.
    """
    found = {run.tags[Tag.SLOT]: run for run in plan.parent.children()}
    rows = []
    for number, (slot, trial) in enumerate(sorted(plan.queue("search").by_slot().items()), start=1):
        if trial.state not in STATES:
            continue
        value = math.nan
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            value = trial.value
        elif trial.state == TrialState.PRUNED and trial.intermediate_values:
            value = trial.intermediate_values[max(trial.intermediate_values)]
        row = {"number": number, "label": slot, "state": STATES[trial.state], "value": value, **trial.params}
        if trial.state == TrialState.COMPLETE and slot in found:
            row |= {name: figure for name, figure in found[slot].metrics.items() if name in BESIDE}
        rows.append(row)
    return pd.DataFrame(rows)


def setting_importances(plan: Plan) -> dict[str, float]:
    """Share of each setting in the objective's variance (fANOVA, Hutter 2014), largest first.

    Empty where fewer than two finished trials differ.
    """
    study = plan.queue("search").open()
    finished = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE and SLOT in t.user_attrs]
    if len({trial.value for trial in finished}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=plan.config.train.seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def shown_settings(drawn: Mapping[str, Any]) -> str:
    """Settings of a search trial in a row: "width 12, depth 3, norm batch, dropout 0.21, learning rate 0.0031"."""
    parts = [(name.rpartition(".")[2].replace("_", " "), value) for name, value in drawn.items()]
    return ", ".join(f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}" for name, value in parts)
