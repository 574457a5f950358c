"""How sure is the image? What networks disagree on, and what one of them changes its mind about.

A patient is looked at several times: as is, mirrored, moved by a voxel (test-time augmentation; Wang et al. 2019), and
by each network of an ensemble (Lakshminarayanan et al. 2017). The image is the mean of the networks' plain looks, so
that it is what was judged in their studies; the standard deviation over all looks is the uncertainty. It says where the
image is unstable, not how wrong it is: what all looks share is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lab.synthesis.networks.paper import BACKGROUND

LEFT_RIGHT = 2
"""Axis of (B, C, X, Y, Z) that runs from left to right."""


@dataclass(frozen=True)
class Look:
    """One way to look at a patient."""

    mirrored: bool = False
    shift: tuple[int, int, int] = (0, 0, 0)
    """Whole voxels along X, Y and Z."""


LOOKS = (
    Look(),
    Look(mirrored=True),
    Look(shift=(1, 1, 1)),
    Look(mirrored=True, shift=(-1, -1, -1)),
    Look(shift=(-1, 1, -1)),
    Look(mirrored=True, shift=(1, -1, 1)),
    Look(shift=(2, -2, -2)),
    Look(mirrored=True, shift=(-2, 2, 2)),
)
"""In the order in which they are taken; the first is the plain one."""
USUAL = 2
"""Looks that are taken unless others are asked for: the paper's largest network then takes 75 s on 2 cores."""

Network = Callable[[Tensor, Tensor], Tensor]
"""Inputs (1, C, X, Y, Z) and brain (1, 1, X, Y, Z) -> image (1, 1, X, Y, Z)."""


@dataclass(frozen=True)
class Looked:
    """What came of all looks, both (1, 1, X, Y, Z) float32."""

    image: Tensor
    spread: Tensor | None
    """Standard deviation over looks and networks; None of a single look."""
    earlier: dict[int, Tensor | None] = field(default_factory=dict)
    """The spread after fewer looks, where that was asked for."""


def look(
    networks: Sequence[Network], inputs: Tensor, brain: Tensor, looks: int = USUAL, *, at: Collection[int] = ()
) -> Looked:
    """The image and its spread over the first `looks` of `LOOKS` by each network, and that after fewer of them, `at`.

    Only sums are kept, so that memory does not grow with the number of looks. Raises ValueError for a number of looks
    that there are not.
    """
    if not 1 <= looks <= len(LOOKS):
        raise ValueError(f"--looks {looks}: from 1 to {len(LOOKS)} are possible")
    image = torch.zeros_like(inputs[:, :1])
    offset = torch.zeros_like(image)
    sums = {count: (torch.zeros_like(image), torch.zeros_like(image)) for count in sorted({looks, *at})}
    for number, network in enumerate(networks):
        plain = network(inputs, brain).to(image.device)
        image += plain / len(networks)
        if number == 0:
            offset = plain  # sums of small differences: nothing is lost to rounding
        for place, one in enumerate(LOOKS[:looks]):
            seen = plain if one == Look() else _taken(network, one, inputs, brain, plain)
            for count, (total, squares) in sums.items():
                if place < count:
                    total += seen - offset
                    squares += (seen - offset) ** 2
    spreads = {count: _deviation(*parts, len(networks) * count) for count, parts in sums.items()}
    return Looked(image, spreads.pop(looks), spreads)


def _deviation(total: Tensor, squares: Tensor, count: int) -> Tensor | None:
    """Standard deviation of `count` values by their sum and squares; None of one."""
    return None if count == 1 else ((squares - total**2 / count).clamp(min=0) / (count - 1)).sqrt()


def _taken(network: Network, one: Look, inputs: Tensor, brain: Tensor, plain: Tensor) -> Tensor:
    """One look, brought back to the patient's place; what was moved out of the volume is as in the plain look."""
    seen = network(_there(inputs, one, BACKGROUND), _there(brain, one, False)).to(plain.device)
    back = moved(seen, tuple(-step for step in one.shift), float("nan"))
    back = back.flip(LEFT_RIGHT) if one.mirrored else back
    return torch.where(back.isnan(), plain, back)


def _there(volume: Tensor, one: Look, fill: float) -> Tensor:
    return moved(volume.flip(LEFT_RIGHT) if one.mirrored else volume, one.shift, fill)


def moved(volume: Tensor, shift: tuple[int, ...], fill: float) -> Tensor:
    """The volume (B, C, X, Y, Z) moved by whole voxels, what comes in from outside being `fill`."""
    result = torch.full_like(volume, fill)
    target, source = [slice(None)] * 2, [slice(None)] * 2
    for step, size in zip(shift, volume.shape[2:]):
        target.append(slice(max(step, 0), size + min(step, 0)))
        source.append(slice(max(-step, 0), size - max(step, 0)))
    result[tuple(target)] = volume[tuple(source)]
    return result
