"""Registry of losses by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.config import LossConfig
from lab.evaluation.ssim import WINDOW
from lab.synthesis.losses import image_losses as losses
from lab.synthesis.losses.image_losses import Loss


@dataclass(frozen=True, kw_only=True)
class LossSpec:
    """A loss and the fields of `LossConfig` that it takes."""

    make: Callable[..., Loss]
    settings: tuple[str, ...] = ()
    """Fields of `LossConfig`, which are `make`'s arguments."""
    least_edge: int = 1
    """Minimum edge of a patch, in voxels."""


def plain(loss: Loss, *, least_edge: int = 1) -> LossSpec:
    """The spec of a loss without settings."""
    return LossSpec(make=lambda: loss, least_edge=least_edge)


LOSSES: dict[str, LossSpec] = {
    "L1": plain(losses.l1),
    "L2": plain(losses.l2),
    "L1_brain": plain(losses.l1_brain),
    "L2_brain": plain(losses.l2_brain),
    "L1_tumour": plain(losses.l1_tumour),
    "L2_tumour": plain(losses.l2_tumour),
    "L1_enhancement": plain(losses.l1_enhancement),
    "L2_enhancement": plain(losses.l2_enhancement),
    "SSIM": plain(losses.ssim_loss, least_edge=WINDOW),
    "mix": LossSpec(make=losses.mix, settings=("mix_weights",), least_edge=WINDOW),
}


def make_loss(config: LossConfig) -> Loss:
    """The loss of a config. Raises ValueError for an unknown name or settings that the loss refuses."""
    if config.name not in LOSSES:
        raise ValueError(f"There is no loss '{config.name}'; choose from {', '.join(LOSSES)}.")
    spec = LOSSES[config.name]
    return spec.make(*(getattr(config, name) for name in spec.settings))
