"""Baselines for every network: trivial images, painted tumours, and boosting voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab.data.batches import Batch, Prediction
from lab.data.cohort import BRAIN, Cohort
from lab.io.case_file import clear_without_target

if TYPE_CHECKING:
    from lab.synthesis.boosting import Boosted, Maps

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """Training cases of a fold, and what several baselines fit to them, each once."""

    cohort: Cohort
    case_ids: Sequence[str]
    inputs: Sequence[str]
    target: str

    @cached_property
    def linear(self) -> Callable[[Batch], Tensor]:
        """Linear regression of the target on the inputs."""
        return linear(fit_linear(self.cohort, self.case_ids, inputs=self.inputs, target=self.target))

    @cached_property
    def boosted(self) -> Boosted:
        """Boosting on the inputs."""
        from lab.synthesis.boosting import fit_boosting  # scikit-learn

        return fit_boosting(self.cohort, self.case_ids, inputs=self.inputs)

    @cached_property
    def rise(self) -> float:
        """Mean rise of the target over T1 where it truly enhances; 0 where nothing does."""
        from lab.synthesis.boosting import enhancing_mask

        t1, wanted, total, count = self.cohort.channel("T1"), self.cohort.channel(self.target), 0.0, 0
        for case in self.case_ids:
            image, mask = self.cohort.load(case)
            labelled = self.cohort.labelled(case)
            where = enhancing_mask(clear_without_target(mask), self.cohort.spacing_mm, labelled=labelled)
            total += float((image[wanted][where].astype(np.float64) - image[t1][where]).sum())
            count += int(np.count_nonzero(where))
        return total / max(count, 1)

    def t1(self, batch: Batch) -> Tensor:
        """The T1 of a batch, (B, 1, X, Y, Z), read from the cohort where it is not an input."""
        if "T1" in self.inputs:
            position = list(self.inputs).index("T1")
            return batch.inputs[:, position : position + 1]
        channel = self.cohort.channel("T1")
        images = np.stack([self.cohort.load(case)[0][channel] for case in batch.case_ids]).astype(np.float32)
        return torch.from_numpy(images)[:, None].to(batch.inputs.device)

    def painted(self, batch: Batch, mask: Tensor) -> Tensor:
        """T1 with the mean rise in a mask (B, 1, X, Y, Z), linear regression elsewhere."""
        return torch.where(mask & batch.masks["brain"], (self.t1(batch) + self.rise).clamp(-1, 1), self.linear(batch))


def paint_found(training: Training, pick: Callable[[Boosted, Maps], np.ndarray]) -> Predictor:
    """Predictor that paints a mask (X, Y, Z) picked from boosting's maps."""

    def predict(batch: Batch) -> Tensor:
        mask = pick(training.boosted, training.boosted.maps(batch))
        return training.painted(batch, torch.from_numpy(mask)[None, None].to(batch.inputs.device))

    return predict


def boost(training: Training) -> Predictor:
    """Predictor of boosting's probability, of the tumour that it finds, and of its image: T1 with the mean rise by
    probability.

    Where the probability is 0 the image is that of linear regression; between, both are mixed.
    """

    def predict(batch: Batch) -> Prediction:
        maps = training.boosted.maps(batch)
        stated = (maps.enhancing, training.boosted.tumour_mask(maps).astype(np.float32))
        found, tumour = (torch.from_numpy(one)[None, None].to(batch.inputs.device) for one in stated)
        everywhere = torch.ones_like(batch.masks["brain"])
        plain, bright = training.linear(batch), training.painted(batch, everywhere)
        return {"image": plain + found * (bright - plain), "probability": found, "tumour": tumour}

    return predict


@dataclass(frozen=True, kw_only=True)
class BaselineSpec:
    """A baseline predictor and its inputs."""

    fit: Callable[[Training], Predictor]
    """Predictor of batches of one patient."""
    inputs: tuple[str, ...] | None = None
    """Input sequences; None: those of the networks."""


BASELINES: dict[str, BaselineSpec] = {
    "copy T1": BaselineSpec(fit=lambda training: copy_channel(0), inputs=("T1",)),
    "linear regression": BaselineSpec(fit=lambda training: training.linear),
    "painted tumour (mask given)": BaselineSpec(
        fit=lambda training: lambda batch: training.painted(batch, batch.masks["tumour"])
    ),
    "painted predicted tumour": BaselineSpec(
        fit=lambda training: paint_found(training, lambda fitted, maps: fitted.tumour_mask(maps))
    ),
    "painted predicted core": BaselineSpec(
        fit=lambda training: paint_found(training, lambda fitted, maps: fitted.core_mask(maps))
    ),
    "boosting": BaselineSpec(fit=boost),
}
"""Name in tables and figures -> baseline. Only the name that says so is given a mask of the test patient."""


def fit_baselines(
    cohort: Cohort, case_ids: Sequence[str], *, inputs: Sequence[str], target: str
) -> dict[str, Predictor]:
    """Every baseline fitted to the training cases."""
    training = Training(cohort=cohort, case_ids=case_ids, inputs=inputs, target=target)
    return {name: spec.fit(training) for name, spec in BASELINES.items()}
