"""From three images to a synthetic one, whole or in overlapping tiles."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.synthesis.device import Arithmetic
from lab.synthesis.networks.paper import BACKGROUND


@torch.no_grad()
def synthesise(
    network: nn.Module,
    inputs: Tensor,
    *,
    brain: Tensor,
    arithmetic: Arithmetic,
    window: tuple[int, int, int] | None = None,
    overlap: float = 0.5,
) -> Tensor:
    """Synthetic images (B, 1, X, Y, Z) float32 for inputs (B, C, X, Y, Z) in [-1, 1] and their `brain` mask.

    Outside the brain the result is background, -1, as everywhere in a prepared cohort. The paper did the same: its
    errors over the image are its errors over the brain times 0.39, the brain's share of the grid, for losses that never
    saw the background too.

    Without `window` the whole volume goes through at once. With it, windows of that many voxels slide over the volume
    and are blended with Gaussian weights, so that no seam shows; that is how a network trained on patches is used.
    """
    network.eval()
    if window is None or all(edge >= size for edge, size in zip(window, inputs.shape[2:])):
        return torch.where(brain, arithmetic.run(network, inputs), BACKGROUND)
    from monai.inferers import sliding_window_inference  # slow to import, and needed for tiles only

    blended = sliding_window_inference(
        inputs,
        roi_size=[min(edge, size) for edge, size in zip(window, inputs.shape[2:])],
        sw_batch_size=1,
        predictor=lambda tile: arithmetic.run(network, tile),
        overlap=overlap,
        mode="gaussian",
        padding_mode="constant",
        cval=BACKGROUND,
    )
    assert isinstance(blended, Tensor)
    return torch.where(brain, blended, BACKGROUND)
