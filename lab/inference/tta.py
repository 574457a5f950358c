"""Test-time augmentation and ensembles, and the uncertainty that they give.

The patient goes through each network as is, mirrored and moved by a voxel (Wang et al. 2019), and through each network
of an ensemble (Lakshminarayanan et al. 2017). The image is the mean of the networks' plain predictions, as tested in
their studies; the uncertainty is the standard deviation over all predictions. It shows where the image is unstable, not
how wrong it is: an error common to all predictions stays hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lab.inference.settings import How
from lab.inference.tiling import Way, choose_way, predict_by
from lab.io.case_file import BRAIN
from lab.synthesis.device import Arithmetic, is_out_of_memory
from lab.synthesis.networks import BACKGROUND, LEFT_RIGHT, given

if TYPE_CHECKING:
    from lab.inference.load import Networks


@dataclass(frozen=True)
class Augmentation:
    """A change of the inputs that is undone on the prediction."""

    mirrored: bool = False
    shift: tuple[int, int, int] = (0, 0, 0)
    """Whole voxels along X, Y and Z."""


AUGMENTATIONS = (
    Augmentation(),
    Augmentation(mirrored=True),
    Augmentation(shift=(1, 1, 1)),
    Augmentation(mirrored=True, shift=(-1, -1, -1)),
    Augmentation(shift=(-1, 1, -1)),
    Augmentation(mirrored=True, shift=(1, -1, 1)),
    Augmentation(shift=(2, -2, -2)),
    Augmentation(mirrored=True, shift=(-2, 2, 2)),
)
"""In order of use (`--looks` is their number); the first is none."""
DEFAULT_LOOKS = How.looks

Network = Callable[[Tensor, Tensor], Tensor]
"""Inputs (1, C, X, Y, Z) and brain (1, 1, X, Y, Z) -> maps (1, N, X, Y, Z): the image, then any probabilities."""


@dataclass(frozen=True)
class TtaPrediction:
    """Mean image and its spread, both (1, 1, X, Y, Z) float32."""

    image: Tensor
    spread: Tensor | None
    """Standard deviation over augmentations and networks; None for a single prediction."""
    earlier: dict[int, Tensor | None] = field(default_factory=dict)
    """Number of augmentations -> spread after these alone, where asked for."""
    stated: Mapping[str, Tensor] = field(default_factory=dict)
    """What else the networks state, as large, in [0, 1]: the mean over augmentations and networks by name."""

    @property
    def probability(self) -> Tensor | None:
        """Probability of enhancement; None where the networks state none."""
        return self.stated.get("probability")

    @property
    def tumour(self) -> Tensor | None:
        """Probability of tumour; None where the networks state none."""
        return self.stated.get("tumour")


def predict_case(
    image: np.ndarray,
    masks: np.ndarray,
    networks: Networks,
    arithmetic: Arithmetic,
    *,
    looks: int,
    tile: int | None = None,
    at: Collection[int] = (),
    clinical: Mapping[str, Any] | None = None,
) -> tuple[TtaPrediction, list[Way], float | None]:
    """Prediction on the prepared grid, each network's way, and the largest SD between tiles.

    `image` (C, X, Y, Z) has the channels of `Contract.channels`, `masks` (X, Y, Z) are bit flags, `clinical` the
    covariates of networks that take some; `at` is as in `predict_with_tta`.
    """
    contract, outputs = networks.contract, networks.outputs
    views = [one.network_inputs(image) for one in networks.contracts or (contract,)]
    inputs = torch.from_numpy(np.concatenate(views, axis=1)).to(arithmetic.device)
    brain = torch.from_numpy((masks & BRAIN) > 0)[None, None].to(arithmetic.device)
    ways = [
        choose_way(network, contract.shape, arithmetic, edge=tile, trained_on=patch)
        for network, patch in zip(networks.networks, networks.patches)
    ]
    seams: list[float] = []

    def through(number: int) -> Network:
        network, way = networks.networks[number], ways[number]

        def predict(image: Tensor, mask: Tensor) -> Tensor:
            own = image.chunk(len(views), dim=1)[number % len(views)]
            with given(network, lambda: [clinical or {}]):
                predicted, seam = predict_by(network, own, brain=mask, arithmetic=arithmetic, way=way)
            seams.extend([] if seam is None else [seam])
            return predicted[:, : len(outputs)]

        return predict

    try:
        each = [through(number) for number in range(len(ways))]
        predicted = predict_with_tta(each, inputs, brain, looks, at=at, outputs=outputs)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise ValueError(f"out of memory; use --tile {max(32, max(contract.shape) // 2)} or less") from error
        raise
    return predicted, ways, max(seams, default=None)


def predict_with_tta(
    networks: Sequence[Network],
    inputs: Tensor,
    brain: Tensor,
    looks: int = DEFAULT_LOOKS,
    *,
    at: Collection[int] = (),
    outputs: Sequence[str] = ("image", "probability"),
) -> TtaPrediction:
    """Image and spread over the first `looks` of `AUGMENTATIONS`, and the spread after fewer of them, `at`.

    `outputs` names the networks' maps, the image first. Keeps sums only, so memory does not grow with `looks`. Raises
    ValueError for an impossible number.
    """
    if not 1 <= looks <= len(AUGMENTATIONS):
        raise ValueError(f"--looks {looks}: from 1 to {len(AUGMENTATIONS)} are possible")
    sums: dict[int, tuple[Tensor, Tensor]] = {}
    for number, network in enumerate(networks):
        plain = network(inputs, brain).to(inputs.device)
        if number == 0:
            image = torch.zeros_like(plain)
            offset = plain  # sums of small differences lose nothing to rounding
            sums = {count: (torch.zeros_like(plain), torch.zeros_like(plain)) for count in sorted({looks, *at})}
        image += plain / len(networks)
        for place, one in enumerate(AUGMENTATIONS[:looks]):
            predicted = plain if one == Augmentation() else _augmented(network, one, inputs, brain, plain)
            for count, (total, squares) in sums.items():
                if place < count:
                    total += predicted - offset
                    squares += (predicted - offset) ** 2
    mean = offset + sums[looks][0] / (len(networks) * looks)
    stated = dict(list(zip(outputs, mean.split(1, dim=1)))[1:])
    spreads = {
        count: _deviation(total[:, :1], squares[:, :1], len(networks) * count)
        for count, (total, squares) in sums.items()
    }
    return TtaPrediction(image[:, :1], spreads.pop(looks), spreads, stated)


def _deviation(total: Tensor, squares: Tensor, count: int) -> Tensor | None:
    """Standard deviation of `count` values from their sum and squares; None for one value."""
    return None if count == 1 else ((squares - total**2 / count).clamp(min=0) / (count - 1)).sqrt()


def _augmented(network: Network, one: Augmentation, inputs: Tensor, brain: Tensor, plain: Tensor) -> Tensor:
    """Prediction of augmented inputs, moved back; voxels moved out of the volume are as in the plain prediction."""
    there = [volume.flip(LEFT_RIGHT) if one.mirrored else volume for volume in (inputs, brain)]
    predicted = network(*(shifted(volume, one.shift, fill) for volume, fill in zip(there, (BACKGROUND, False))))
    back = shifted(predicted.to(plain.device), tuple(-step for step in one.shift), float("nan"))
    back = back.flip(LEFT_RIGHT) if one.mirrored else back
    return torch.where(back.isnan(), plain, back)


def shifted(volume: Tensor, shift: tuple[int, ...], fill: float) -> Tensor:
    """The volume (B, C, X, Y, Z) moved by whole voxels; voxels from outside are `fill`."""
    result = torch.full_like(volume, fill)
    target, source = [slice(None)] * 2, [slice(None)] * 2
    for step, size in zip(shift, volume.shape[2:]):
        target.append(slice(max(step, 0), size + min(step, 0)))
        source.append(slice(max(-step, 0), size - max(step, 0)))
    result[tuple(target)] = volume[tuple(source)]
    return result
