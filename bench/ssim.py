"""Speed of our SSIM loss against MONAI's `SSIMLoss`, forward and backward, and its memory at full size.

    python bench/ssim.py [--repeats 3] [--threads 2]

Line 1: the two run alternately on one 80 x 96 x 80 volume; medians, and a comparison of values and gradients.
Line 2: ours on 160 x 192 x 160; peak memory is the largest growth of the process, without the inputs.
Measured figures are in bench/README.md.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable

import lab  # noqa: F401 - before torch: its threads then wait without spinning, as in a study

# isort: split
import psutil
import torch
from torch import Tensor

from lab.evaluation.ssim import ssim

SMALL, FULL = (80, 96, 80), (160, 192, 160)


def ours(prediction: Tensor, target: Tensor) -> Tensor:
    return 1 - ssim(prediction, target).mean()


def volumes(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 1, *shape, generator=generator) * 2 - 1
    noise = 0.3 * torch.randn(target.shape, generator=generator)
    return (target + noise).clamp(-1, 1).requires_grad_(), target


def step(loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> tuple[float, float, Tensor]:
    """Seconds, value and gradient of one forward and backward pass."""
    prediction.grad = None
    start = time.perf_counter()
    value = loss(prediction, target)
    value.backward()
    seconds = time.perf_counter() - start
    assert prediction.grad is not None
    return seconds, value.item(), prediction.grad


def full_size(repeats: int) -> str:
    prediction, target = volumes(FULL)
    step(ours, *volumes(SMALL))  # loads the libraries' work spaces
    before = psutil.Process().memory_info().rss
    times = [step(ours, prediction, target)[0] for _ in range(repeats + 1)][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    volume = prediction.numel() * prediction.element_size()
    return (
        f"SSIM loss, {' x '.join(map(str, FULL))}: ours {statistics.median(times):.3f} s, peak memory "
        f"{peak - before:,} bytes ({(peak - before) / 2**20:.0f} MiB, {(peak - before) / volume:.0f} volumes)"
    )


def against_monai(repeats: int) -> str:
    from monai.losses import SSIMLoss

    monai = SSIMLoss(spatial_dims=3, data_range=2.0)
    prediction, target = volumes(SMALL)
    rounds = []
    for _ in range(repeats + 1):  # the first round warms up
        rounds.append((step(monai, prediction, target), step(ours, prediction, target)))
    theirs_s, ours_s = (statistics.median(one[i][0] for one in rounds[1:]) for i in (0, 1))
    (_, theirs_value, theirs_grad), (_, ours_value, ours_grad) = rounds[-1]
    gradient = ((ours_grad - theirs_grad).abs().max() / theirs_grad.abs().max()).item()
    return (
        f"SSIM loss, {' x '.join(map(str, SMALL))}, forward + backward: {theirs_s / ours_s:.0f} x faster than MONAI "
        f"({theirs_s:.3f} s -> {ours_s:.4f} s; values differ by {abs(ours_value - theirs_value):.1e}, "
        f"gradients by {gradient:.1e} of the largest)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    memory = full_size(arguments.repeats)  # first: the peak of a process never falls
    print(against_monai(arguments.repeats), memory, sep="\n")


if __name__ == "__main__":
    main()
