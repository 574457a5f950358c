"""Feature-wise modulation of a network by clinical covariates (FiLM, Perez et al. 2018).

The channels of every normalisation layer are scaled and shifted by a linear function of the coded covariates, which
starts at zero: an untrained network ignores them. Unknown has a code of its own, whose effect is learned from patients
with unknown values and from known ones that are dropped at random in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lab.data.cohort import Cohort

NUMBERS = ("age",)
"""Covariates that are numbers; the others are categories."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm3d, nn.GroupNorm)
Patient = Mapping[str, Any]
"""Values by covariate; None and an absent name are unknown."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """The numbers that stand for a patient's covariates."""

    scales: Mapping[str, tuple[float, float]]
    """Number -> mean and standard deviation of the training patients."""
    categories: Mapping[str, tuple[str, ...]]
    """Other covariate -> the values of the training patients."""

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> Coding:
        """The inverse of `as_dict`."""
        scales = {name: (float(mean), float(deviation)) for name, (mean, deviation) in known["scales"].items()}
        return cls(scales=scales, categories={name: tuple(values) for name, values in known["categories"].items()})

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        parts = {"scales": self.scales, "categories": self.categories}
        return {part: {name: list(values) for name, values in held.items()} for part, held in parts.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The covariates."""
        return (*self.scales, *self.categories)

    def unknown(self, patient: Patient) -> list[str]:
        """Covariates that are unknown for a patient, or have a value that no training patient had."""
        lacking = [name for name in self.scales if patient.get(name) is None]
        return lacking + [name for name, known in self.categories.items() if text_of(patient.get(name)) not in known]

    def code(self, patient: Patient) -> list[float]:
        """A number as [z-score, 0], a category as its place among those of training and 0; unknown as [0, ..., 1]."""
        unknown, found = self.unknown(patient), []
        for name, (mean, deviation) in self.scales.items():
            found += [0.0, 1.0] if name in unknown else [(float(patient[name]) - mean) / deviation, 0.0]
        for name, values in self.categories.items():
            found += [float(text_of(patient.get(name)) == value) for value in values] + [float(name in unknown)]
        return found


def text_of(value: Any) -> str | None:
    """A category as text, "4" for 4 and 4.0; None for unknown."""
    return None if value is None else value if isinstance(value, str) else f"{value:g}"


class Given:
    """The coded covariates (B, K) of the batch in work, or None for unknown; all copies of a network share it."""

    def __init__(self) -> None:
        self.coded: Tensor | None = None

    def __deepcopy__(self, memo: Any) -> Given:
        return self


class Modulation(nn.Module):
    """Scale and shift of the channels behind one normalisation layer."""

    def __init__(self, unknown: Sequence[float], channels: int, given: Given) -> None:
        super().__init__()
        self.given = given
        self.weight = nn.Parameter(torch.zeros(len(unknown), 2 * channels))
        self.unknown: Tensor
        self.register_buffer("unknown", torch.tensor([unknown]), persistent=False)

    def modulate(self, layer: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        """A forward hook: (B, C, X, Y, Z) -> the same."""
        coded = self.unknown if self.given.coded is None else self.given.coded
        assert len(coded) in (1, len(output)), "a batch needs the covariates of each of its patients"
        both = (coded.to(self.weight) @ self.weight).to(output.dtype)[:, :, None, None, None]
        scale, shift = both.chunk(2, dim=1)
        return output * (1 + scale) + shift


class Film(nn.Module):
    """The modulations of a network, its `film`; `lab.synthesis.networks.given` tells it of patients."""

    def __init__(self, coding: Coding, widths: Sequence[int], drop: float) -> None:
        super().__init__()
        self.coding, self.drop, self.given = coding, drop, Given()
        self.layers = nn.ModuleList(Modulation(coding.code({}), width, self.given) for width in widths)

    def tell(self, patients: Sequence[Patient] | None, *, training: bool = False) -> None:
        """Set the patients of the next batch, None for unknown ones; in training some values are dropped at random."""
        if patients is None:
            self.given.coded = None
            return
        shown = [dict(patient) for patient in patients]
        if training:
            for patient, lost in zip(shown, torch.rand(len(shown), len(self.coding.names)) < self.drop):
                patient.update({name: None for name, gone in zip(self.coding.names, lost.tolist()) if gone})
        self.given.coded = torch.tensor([self.coding.code(patient) for patient in shown])


def modulate(network: Any, coding: Coding, *, drop: float = 0.0) -> None:
    """Give a network from `build_network` covariates as inputs. Raises ValueError where it has no normalisation."""
    found = [module for module in network.modules() if isinstance(module, NORMS)]
    if not found:
        raise ValueError(
            f"--clinical.use: {network.origin.name} has no normalisation layer to modulate; choose another (--model.id)"
        )
    widths = [layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features for layer in found]
    network.film = Film(coding, widths, drop)
    for layer, modulation in zip(found, network.film.layers):
        layer.register_forward_hook(modulation.modulate)
    network.origin = replace(network.origin, coding=coding)


def fit_coding(cohort: Cohort, cases: Sequence[str], names: Sequence[str]) -> Coding:
    """The coding of these covariates by the training cases.

    Raises ValueError for a covariate that fewer than two of them know, or that is the same for all.
    """
    patients = cohort.clinical(cases)
    scales: dict[str, tuple[float, float]] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in names:
        known = [patient[name] for patient in patients if patient[name] is not None]
        if len(set(known)) < 2:
            what = f"{known[0]} for all {len(known)} who know it" if known else "unknown for all of them"
            raise ValueError(
                f"--clinical.use {name}: of {len(patients)} training cases of {cohort.path} it is {what}; leave it "
                "out, or add it to the table of the scans (docs/data.md)"
            )
        if name in NUMBERS:
            scales[name] = (float(np.mean(known)), float(np.std(known)))
        else:
            categories[name] = tuple(sorted({str(text_of(value)) for value in known}))
    return Coding(scales=scales, categories=categories)
