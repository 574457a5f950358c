"""Baselines for every network: a copy of T1, and a linear regression voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lab.data.batches import Batch, Prediction
from lab.data.cohort import BRAIN, Cohort
from lab.io.case_file import clear_without_target

Predictor = Callable[[Batch], Prediction]
"""A batch -> its images, with or without a probability of enhancement."""


def copy_channel(position: int) -> Callable[[Batch], Tensor]:
    """Predictor that returns one of the inputs, the pre-contrast T1."""
    return lambda batch: batch.inputs[:, position : position + 1]


def fit_linear(cohort: Cohort, case_ids: Sequence[str], *, inputs: Sequence[str], target: str) -> np.ndarray:
    """Least-squares weights of the inputs and the intercept, (C + 1,) float64, over the brains of `case_ids`.

    The normal equations are summed case by case, so memory does not grow with the cohort.
    """
    picked = [cohort.channel(name) for name in inputs]
    wanted = cohort.channel(target)
    gram, moment = np.zeros((len(picked) + 1,) * 2), np.zeros(len(picked) + 1)
    for case in case_ids:
        image, mask = cohort.load(case)
        brain = (clear_without_target(mask) & BRAIN) != 0
        columns = [image[channel][brain].astype(np.float64) for channel in picked]
        design = np.stack([*columns, np.ones(columns[0].size)], axis=1)
        gram += design.T @ design
        moment += design.T @ image[wanted][brain].astype(np.float64)
    return np.linalg.lstsq(gram, moment, rcond=None)[0]


def linear(weights: np.ndarray) -> Callable[[Batch], Tensor]:
    """Predictor with the weights of `fit_linear` inside the brain; background stays -1."""
    factors = torch.from_numpy(weights[:-1].astype(np.float32)).view(1, -1, 1, 1, 1)

    def predict(batch: Batch) -> Tensor:
        value = (batch.inputs * factors.to(batch.inputs.device)).sum(1, keepdim=True) + float(weights[-1])
        return torch.where(batch.masks["brain"], value.clamp(-1, 1), -1.0)

    return predict


@dataclass(frozen=True, kw_only=True)
class BaselineSpec:
    """A baseline predictor and its inputs."""

    fit: Callable[[Cohort, Sequence[str], Sequence[str], str], Predictor]
    """Cohort, training cases, inputs and target -> predictor."""
    inputs: tuple[str, ...] | None = None
    """Input sequences; None: those of the networks."""


BASELINES: dict[str, BaselineSpec] = {
    "copy T1": BaselineSpec(fit=lambda cohort, cases, inputs, target: copy_channel(0), inputs=("T1",)),
    "linear regression": BaselineSpec(
        fit=lambda cohort, cases, inputs, target: linear(fit_linear(cohort, cases, inputs=inputs, target=target))
    ),
}
"""Name in tables and figures -> baseline."""
