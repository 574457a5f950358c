"""Patches, flips and batches on the device.

A cohort that fits stays on the device from the first epoch; a larger one is read from its memory-mapped files, one
batch ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor

from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, Cohort
from lab.io.case_file import clear_without_target

FLAGS = {"brain": BRAIN, "tumour": TUMOUR, "enhancement": ENHANCEMENT, "expert": EXPERT}
FLIPS = ("both", "random", "none")
RESIDENT_SHARE = 0.4  # of the free memory; the rest is for weights and activations


@dataclass(frozen=True)
class Batch:
    """Some cases, ready for a network."""

    inputs: Tensor  # (B, C, X, Y, Z) float32 in [-1, 1]
    target: Tensor  # (B, 1, X, Y, Z) float32 in [-1, 1]
    masks: dict[str, Tensor]  # each (B, 1, X, Y, Z) bool
    case_ids: tuple[str, ...]


Prediction = Tensor | Mapping[str, Tensor]
"""Of a predictor: the image (B, 1, X, Y, Z), or `image` and `probability`, that of enhancement in [0, 1], as large."""


def image_of(prediction: Prediction) -> Tensor:
    """The image of a prediction, (B, 1, X, Y, Z)."""
    return prediction if isinstance(prediction, Tensor) else prediction["image"]


def probability_of(prediction: Prediction) -> Tensor | None:
    """The stated probability of enhancement, (B, 1, X, Y, Z) in [0, 1]; None where only an image is predicted."""
    return None if isinstance(prediction, Tensor) else prediction.get("probability")


def unpack_masks(flags: Tensor) -> dict[str, Tensor]:
    """Bit flags (B, 1, X, Y, Z) uint8 as one boolean mask per region."""
    return {name: (flags & bit) != 0 for name, bit in FLAGS.items()}


def free_memory(device: torch.device) -> int:
    """Free bytes on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)  # includes reclaimable file cache


def patch_window(mask: np.ndarray, edge: int | None) -> tuple[slice, slice, slice]:
    """The cube of `edge` voxels around the tumour's centre of mass, shifted to lie inside the volume.

    `mask` holds the bit flags (X, Y, Z); without a tumour the brain's centre is taken. An axis shorter than `edge` is
    taken whole.
    """
    if edge is None:
        return tuple(slice(0, size) for size in mask.shape)  # type: ignore[return-value]
    region = mask & TUMOUR if (mask & TUMOUR).any() else mask & BRAIN
    centre = [round(float(axis.mean())) for axis in np.nonzero(region)]
    starts = [min(max(c - edge // 2, 0), max(size - edge, 0)) for c, size in zip(centre, mask.shape)]
    return tuple(slice(s, min(s + edge, size)) for s, size in zip(starts, mask.shape))  # type: ignore[return-value]


class CaseStore:
    """Cases of a cohort, resident on the device if they fit, else read case by case."""

    def __init__(
        self,
        cohort: Cohort,
        case_ids: Sequence[str],
        *,
        inputs: Sequence[str],
        target: str,
        device: torch.device | str = "cpu",
        patch: int | None = None,
        resident: bool | None = None,
    ) -> None:
        """`patch` is the edge in voxels; `resident` None decides by the free memory.

        Raises ValueError for no cases, and where the cohort lacks a channel or a case.
        """
        self.cohort, self.case_ids = cohort, tuple(case_ids)
        unknown = [case for case in self.case_ids if case not in cohort.index.index]
        if unknown or not self.case_ids:
            raise ValueError(f"{cohort.path}: {f'no case {unknown[0]}' if unknown else 'no cases were asked for'}")
        self.channels = [cohort.channel(name) for name in (*inputs, target)]
        names = [name.upper() for name in inputs]
        self.t1 = names.index("T1") if "T1" in names else None
        """Position of the T1 among the inputs; None where it is not one of them."""
        self.device, self.patch = torch.device(device), patch
        voxels = int(np.prod([min(patch or size, size) for size in cohort.shape]))
        self.bytes = len(self.case_ids) * voxels * (2 * len(self.channels) + 1)
        self.resident = self.bytes < RESIDENT_SHARE * free_memory(self.device) if resident is None else resident
        self._held: list[tuple[Tensor, Tensor]] = []
        if self.resident:
            for i in range(len(self)):
                image, flags = self._read(i)
                self._held.append((image.to(self.device), flags.to(self.device)))

    def __len__(self) -> int:
        return len(self.case_ids)

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        """A case's channels (C + 1, X, Y, Z) float16 and flags (1, X, Y, Z) uint8, 0 where there is no target."""
        image, mask = self.cohort.load(self.case_ids[index])
        mask = clear_without_target(mask)
        window = patch_window(mask, self.patch)
        picked = np.stack([image[channel][window] for channel in self.channels])
        return torch.from_numpy(picked), torch.from_numpy(np.ascontiguousarray(mask[window]))[None]

    def batch(self, indices: Sequence[int], flips: Sequence[bool] | None = None) -> Batch:
        """The cases at `indices`, each flipped left-right where `flips` says so."""
        cases = [self._held[i] if self.resident else self._read(i) for i in indices]
        if flips is not None:
            cases = [
                (image.flip(1), flags.flip(1)) if flip else (image, flags) for (image, flags), flip in zip(cases, flips)
            ]
        images, flags = (torch.stack(part).to(self.device) for part in zip(*cases))
        images = images.float()
        return Batch(images[:, :-1], images[:, -1:], unpack_masks(flags), tuple(self.case_ids[i] for i in indices))

    def batches(self, plan: Sequence[Sequence[tuple[int, bool]]]) -> Iterator[Batch]:
        """The planned batches in order; cases on disk are read one batch ahead."""
        jobs = [([i for i, _ in entries], [flip for _, flip in entries]) for entries in plan]
        if self.resident or not jobs:
            yield from (self.batch(*job) for job in jobs)
            return
        with ThreadPoolExecutor(1) as reader:
            waiting = [reader.submit(self.batch, *job) for job in jobs[:1]]
            for job in [*jobs[1:], None]:
                ready = waiting.pop()
                batch = ready.result()
                if job is not None:
                    waiting.append(reader.submit(self.batch, *job))
                yield batch


def plan_epoch(cases: int, *, batch_size: int, flip: str, seed: int, epoch: int) -> list[list[tuple[int, bool]]]:
    """Batches of an epoch as lists of (case, flipped): a pure function of its arguments.

    `flip` is `both` (each case both ways, 2N entries), `random` (one way at random) or `none`. Raises ValueError for
    another `flip` and for a batch size below one.
    """
    if flip not in FLIPS or batch_size < 1:
        raise ValueError(f"flip {flip!r} has to be one of {', '.join(FLIPS)}, batch size {batch_size} at least 1")
    generator = np.random.default_rng((seed, epoch))
    if flip == "both":
        entries = [(i, turned) for i in range(cases) for turned in (False, True)]
    elif flip == "random":
        entries = [(i, bool(turned)) for i, turned in enumerate(generator.random(cases) < 0.5)]
    else:
        entries = [(i, False) for i in range(cases)]
    order = generator.permutation(len(entries))
    return [[entries[i] for i in order[at : at + batch_size]] for at in range(0, len(entries), batch_size)]
