"""Who is judged: the trained networks of a study and the trivial rivals, each with the cases that it is judged on."""

from __future__ import annotations

import numpy as np
from mlflow.entities import Run

from lab.config import Config, override
from lab.data.batches import CaseStore
from lab.experiments.plan import Plan
from lab.experiments.synthesis.groups import fold_of
from lab.experiments.synthesis.trial import tile
from lab.inference.predict import synthesise
from lab.synthesis.baselines import Rival, copy_channel, fit_linear, linear
from lab.synthesis.device import Arithmetic
from lab.tracking.models.network import load_network


def predictor(plan: Plan, run: Run, arithmetic: Arithmetic) -> Rival:
    """The network of a run as a function of a batch."""
    network, _ = load_network(run.data.tags["model_uri"])
    placed = arithmetic.place(network)
    window = tile(trial_settings(plan.config, run), plan.cohort)
    return lambda batch: synthesise(
        placed, batch.inputs, brain=batch.masks["brain"], arithmetic=arithmetic, window=window
    )


def trial_settings(config: Config, run: Run) -> Config:
    """The config of a run as far as inference needs it: its patch size."""
    text = run.data.params.get("train.patch_mm", "None")
    return override(config, {"train.patch_mm": None if text == "None" else float(text)})


def store(plan: Plan, run: Run, arithmetic: Arithmetic, *, patch: int | None = None) -> CaseStore:
    """The test patients of a run's fold, whole or in patches."""
    return CaseStore(
        plan.cohort,
        plan.cases("test", fold_of(run)),
        inputs=plan.config.data.inputs,
        target=plan.config.data.target,
        device=arithmetic.device,
        patch=patch,
        resident=False,
    )


def linear_weights(plan: Plan) -> list[np.ndarray]:
    """The linear regression of each fold, which reads all its training patients: once for all that it is judged on."""
    data = plan.config.data
    return [
        fit_linear(plan.cohort, plan.cases("train", fold), inputs=data.inputs, target=data.target)
        for fold in range(len(plan.splits))
    ]


def rivals(plan: Plan, part: str, fold: int, weights: np.ndarray) -> dict[str, tuple[Rival, CaseStore]]:
    """Name of each trivial rival, what it does, and the cases of one part with the inputs that it takes.

    `weights` are those of the fold's linear regression.
    """
    data, cases = plan.config.data, plan.cases(part, fold)
    t1_only, all_inputs = (
        CaseStore(plan.cohort, cases, inputs=inputs, target=data.target, resident=False)
        for inputs in (("T1",), data.inputs)
    )
    return {"copy T1": (copy_channel(0), t1_only), "linear regression": (linear(weights), all_inputs)}
