"""Time for random changes of training images, against MONAI's transforms of the same kinds.

    python bench/augmentation.py [--cases 209] [--repeats 3]

Two batches of four cases of random voxels with a brain and four masks: cubes of 32 x 32 x 21 voxels and patches of 64 x
64 x 64. Ours is `augment` with its default strengths, on the whole batch. MONAI's is a `Compose` for each case:
rotation, scale and elastic deformation in one resampling (`Rand3DElasticd`, images and target linear, masks nearest),
then gamma, bias field, gain, offset, blur and noise of the inputs, each always on. MONAI blends background into the
brain's rim, its gamma, bias field, blur and noise are the same for all inputs of a case, and it loses no sequence. Both
take turns, one thread each; figures are medians of processor time. Then the seconds that an epoch of `--cases` cubes
takes longer.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from lab.config import AugmentConfig
from lab.data.augment import augment
from lab.data.batches import FLAGS, Batch

CASES = 4
CUBES, PATCHES = ((32, 32, 21), 1.875), ((64, 64, 64), 1.0)
"""Voxels, and their edge in millimetres."""
STRENGTHS = AugmentConfig()


def made_batch(shape: tuple[int, int, int]) -> Batch:
    """Random voxels in a brain that touches the sides."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij"))
    brain = (grid.square().sum(0) < 1.5).expand(CASES, 1, *shape)
    images = torch.where(brain, torch.rand(CASES, 4, *shape, generator=generator) * 1.8 - 0.9, -1.0)
    masks = {name: brain & (grid[0] > 0.2 * number) for number, name in enumerate(FLAGS)}
    seeds = tuple((0, case) for case in range(CASES))
    return Batch(images[:, :3], images[:, 3:], masks, tuple("abcd"), seeds)


def monai(batch: Batch, spacing_mm: float) -> Callable[[], Any]:
    from monai.transforms import (
        Compose,
        Rand3DElasticd,
        RandAdjustContrastd,
        RandBiasFieldd,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )

    angle, masks = math.radians(STRENGTHS.rotation_degrees), list(batch.masks)
    keys, always = ["inputs", "target", *masks], {"keys": ["inputs"], "prob": 1.0}
    blur = (0.01, STRENGTHS.blur_mm / spacing_mm)
    steps = Compose(
        [
            Rand3DElasticd(
                keys,
                sigma_range=(5, 8),
                magnitude_range=(0, 100),
                prob=1.0,
                rotate_range=(angle,) * 3,
                scale_range=(STRENGTHS.scale,) * 3,
                mode=["bilinear", "bilinear", *["nearest"] * len(masks)],
                padding_mode="border",
            ),
            RandAdjustContrastd(**always, gamma=(1 / (1 + STRENGTHS.gamma), 1 + STRENGTHS.gamma)),
            RandBiasFieldd(**always, coeff_range=(0, STRENGTHS.bias)),
            RandScaleIntensityd(**always, factors=STRENGTHS.gain, channel_wise=True),
            RandShiftIntensityd(**always, offsets=STRENGTHS.offset, channel_wise=True),
            RandGaussianSmoothd(**always, sigma_x=blur, sigma_y=blur, sigma_z=blur),
            RandGaussianNoised(**always, std=STRENGTHS.noise),
        ]
    )
    whole = {
        "inputs": batch.inputs,
        "target": batch.target,
        **{name: mask.float() for name, mask in batch.masks.items()},
    }
    items = [{key: value[case] for key, value in whole.items()} for case in range(CASES)]

    def run() -> dict[str, torch.Tensor]:
        changed = [steps(dict(item)) for item in items]
        return {key: torch.stack([one[key] for one in changed]) for key in keys}

    return run


def ours(batch: Batch, spacing_mm: float) -> Callable[[], Any]:
    return lambda: augment(batch, STRENGTHS, spacing_mm=spacing_mm, t1=0)


def seconds(runs: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Medians of runs that take turns, in processor seconds; the first round is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for found, run in zip(times, runs):
            start = time.process_time()
            run()
            found.append(time.process_time() - start)
    return [statistics.median(found[1:]) for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=209)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for shape, spacing_mm in (CUBES, PATCHES):
        batch = made_batch(shape)
        mine, theirs = seconds([ours(batch, spacing_mm), monai(batch, spacing_mm)], arguments.repeats)
        print(
            f"{CASES} x {' x '.join(map(str, shape))}: {theirs / mine:.1f} x as fast as MONAI "
            f"({theirs:.3f} s -> {mine:.3f} s)"
        )
        if (shape, spacing_mm) == CUBES:
            print(f"an epoch of {arguments.cases} cubes takes {mine / CASES * arguments.cases:.1f} s longer")


if __name__ == "__main__":
    main()
