"""Patches, flips and batches: a cohort that fits stays on the device, a larger one is read one batch ahead."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, Cohort
from lab.io.case_file import CORE, clear_without_target
from lab.io.grid import core_mask

FLAGS = {"brain": BRAIN, "tumour": TUMOUR, "enhancement": ENHANCEMENT, "expert": EXPERT, "core": CORE}
FLIPS = ("both", "random", "none")
BACKGROUND = -1.0
RESIDENT_SHARE = 0.4  # of the free memory; the rest is for weights and activations
MOST_CENTRES = 4096
"""Voxels of each region of a case from which random patches take their centres."""

Window = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Batch:
    """Some cases, ready for a network."""

    inputs: Tensor  # (B, C, X, Y, Z) float32 in [-1, 1]
    target: Tensor  # (B, 1, X, Y, Z) float32 in [-1, 1]
    masks: dict[str, Tensor]  # each (B, 1, X, Y, Z) bool; `enhancing` as `enhancing_mask`, `core` as `tumour_core`
    case_ids: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...] = ()
    """Seed of the random draws of each case: seed, epoch, case, flipped, number of its showing."""
    t1: Tensor | None = None  # (B, 1, X, Y, Z) without random changes of intensity; None where it is not an input


Prediction = Tensor | Mapping[str, Tensor]
"""Of a predictor: the image (B, 1, X, Y, Z), or `image` and maps as large: `probability` of enhancement in [0, 1],
`tumour` and `core`, those of the tumour and its core, `spread` between samples."""


def image_of(prediction: Prediction) -> Tensor:
    """The image of a prediction, (B, 1, X, Y, Z)."""
    return prediction if isinstance(prediction, Tensor) else prediction["image"]


def map_of(prediction: Prediction, name: str) -> Tensor | None:
    """A map beside the image, (B, 1, X, Y, Z); None where only an image is predicted, or no such map."""
    return None if isinstance(prediction, Tensor) else prediction.get(name)


def unpack_masks(flags: Tensor) -> dict[str, Tensor]:
    """Bit flags (B, 1, X, Y, Z) uint8 as one boolean mask per region."""
    return {name: (flags & bit) != 0 for name, bit in FLAGS.items()}


def enhancing_mask(flags: np.ndarray, *, labelled: bool) -> np.ndarray:
    """What truly enhances (X, Y, Z) in bit flags: by the expert, else where the tumour does by the paper's rule."""
    return (flags & EXPERT) != 0 if labelled else (flags & (TUMOUR | ENHANCEMENT)) == (TUMOUR | ENHANCEMENT)


def tumour_core(flags: np.ndarray, enhancing: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The tumour's core (X, Y, Z) in bit flags: by the expert where there is a label, else that of `core_mask`."""
    core = (flags & CORE) != 0
    return core if core.any() else core_mask(enhancing, (flags & TUMOUR) != 0, spacing_mm)


def free_memory(device: torch.device) -> int:
    """Free bytes on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)  # includes reclaimable file cache


def patch_window(mask: np.ndarray, edge: int | None) -> Window:
    """The cube of `edge` voxels around the tumour's centre of mass, shifted to lie inside the volume.

    `mask` holds the bit flags (X, Y, Z); without a tumour the brain's centre is taken. An axis shorter than `edge` is
    taken whole.
    """
    if edge is None:
        return tuple(slice(0, size) for size in mask.shape)  # type: ignore[return-value]
    region = mask & TUMOUR if (mask & TUMOUR).any() else mask & BRAIN
    return window_round([round(float(axis.mean())) for axis in np.nonzero(region)], edge, mask.shape)


def window_round(centre: Sequence[int], edge: int, shape: Sequence[int]) -> Window:
    """The cube of `edge` voxels around a voxel, shifted to lie inside a volume of this shape."""
    starts = [min(max(c - edge // 2, 0), max(size - edge, 0)) for c, size in zip(centre, shape)]
    return tuple(slice(s, min(s + edge, size)) for s, size in zip(starts, shape))  # type: ignore[return-value]


def patch_centres(mask: np.ndarray) -> list[np.ndarray]:
    """Flat indices of voxels that enhance, of other tumour and of other brain, evenly thinned to `MOST_CENTRES` each.

    A voxel enhances by the expert's label where there is one, else where the tumour does by the paper's rule.
    """
    tumour = (mask & TUMOUR) != 0
    expert = (mask & EXPERT) != 0
    enhancing = expert if expert.any() else tumour & ((mask & ENHANCEMENT) != 0)
    regions = (enhancing, tumour & ~enhancing, ((mask & BRAIN) != 0) & ~tumour & ~enhancing)
    found = [np.flatnonzero(region) for region in regions]
    return [flat[np.linspace(0, len(flat) - 1, min(len(flat), MOST_CENTRES)).astype(int)] for flat in found]


def draw_centre(centres: Sequence[np.ndarray], shares: Sequence[float], seed: Sequence[int]) -> int | None:
    """Flat index of a random voxel: its region by `shares`, of those that the case has; None where it has none."""
    weights = np.array([share * (len(flat) > 0) for share, flat in zip(shares, centres)])
    if weights.sum() == 0:
        return None
    generator = np.random.default_rng(seed)
    return int(generator.choice(centres[generator.choice(len(centres), p=weights / weights.sum())]))


def inside(window: Window, shape: Sequence[int]) -> tuple[Window, list[int]]:
    """The part of a window that lies in a volume, and the voxels missing on its sides, in the order of `F.pad`."""
    part = tuple(slice(max(s.start, 0), min(s.stop, size)) for s, size in zip(window, shape))
    missing = [(p.start - s.start, s.stop - p.stop) for s, p in zip(window, part)]
    return part, [side for pair in reversed(missing) for side in pair]  # type: ignore[return-value]


def padded(image: Tensor, flags: Tensor, missing: list[int]) -> tuple[Tensor, Tensor]:
    """Channels and flags with background on their sides, `missing` in the order of `F.pad`."""
    if not any(missing):
        return image, flags
    return F.pad(image, missing, value=BACKGROUND), F.pad(flags, missing)


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
        margin: int = 0,
        shares: Sequence[float] | None = None,
        resident: bool | None = None,
    ) -> None:
        """`patch` is the edge in voxels; `resident` None decides by the free memory.

        Patches lie round the tumour's centre, or with `shares` round random voxels of the regions of `patch_centres`.
        `margin` more voxels are read on each side of a patch, as background where they lie outside the volume.
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
        self.labelled = [cohort.labelled(case) for case in self.case_ids]
        self.margin = margin if patch else 0
        self.shares = shares if patch else None
        held = cohort.shape if self.shares else [size + 2 * self.margin for size in self.shape]
        self.bytes = len(self.case_ids) * int(np.prod(held)) * (2 * len(self.channels) + 1)
        self.resident = self.bytes < RESIDENT_SHARE * free_memory(self.device) if resident is None else resident
        self._centred: dict[int, tuple[Window, list[np.ndarray]]] = {}
        self._held: list[tuple[Tensor, Tensor]] = []
        if self.resident:
            for i in range(len(self)):
                whole = tuple(slice(0, size) for size in cohort.shape)
                image, flags = self._read(i, whole if self.shares else self._window(i, ()))  # type: ignore[arg-type]
                self._held.append((image.to(self.device), flags.to(self.device)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of a training image: the patch, or the whole volume."""
        x, y, z = (min(self.patch or size, size) for size in self.cohort.shape)
        return x, y, z

    def __len__(self) -> int:
        return len(self.case_ids)

    def _window(self, index: int, seed: Sequence[int]) -> Window:
        """The part of a case that is read, which may reach beyond the volume; without a seed it is the tumour's."""
        shape = self.cohort.shape
        if self.patch is None:
            return tuple(slice(0, size) for size in shape)  # type: ignore[return-value]
        if index not in self._centred:  # reads the whole mask, once
            mask = clear_without_target(self.cohort.load(self.case_ids[index])[1])
            self._centred[index] = patch_window(mask, self.patch), patch_centres(mask) if self.shares else []
        window, centres = self._centred[index]
        centre = draw_centre(centres, self.shares, (*seed, 1)) if self.shares and seed else None
        if centre is not None:
            window = window_round([int(at) for at in np.unravel_index(centre, shape)], self.patch, shape)
        return tuple(slice(s.start - self.margin, s.stop + self.margin) for s in window)  # type: ignore[return-value]

    def _read(self, index: int, window: Window) -> tuple[Tensor, Tensor]:
        """A window of a case from its file: channels (C + 1, X, Y, Z) float16 and flags (1, X, Y, Z) uint8.

        Flags are 0 where there is no target. A core that no expert labelled is that of the tumour in the window.
        """
        image, mask = self.cohort.load(self.case_ids[index])
        part, missing = inside(window, self.cohort.shape)
        picked = torch.from_numpy(np.stack([image[channel][part] for channel in self.channels]))
        flags = clear_without_target(mask[part])
        enhancing = enhancing_mask(flags, labelled=self.labelled[index])
        core = tumour_core(flags, enhancing, self.cohort.spacing_mm)
        return padded(picked, torch.from_numpy(flags | (CORE * core).astype(np.uint8))[None], missing)

    def _case(self, index: int, seed: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A case's training image and flags, from the device or from its file."""
        if not self.resident:
            return self._read(index, self._window(index, seed))
        image, flags = self._held[index]
        if self.shares is None:
            return image, flags
        part, missing = inside(self._window(index, seed), self.cohort.shape)
        return padded(image[:, *part], flags[:, *part], missing)

    def batch(
        self,
        indices: Sequence[int],
        flips: Sequence[bool] | None = None,
        seeds: Sequence[tuple[int, ...]] = (),
    ) -> Batch:
        """The cases at `indices`, each flipped left-right where `flips` says so; `seeds` are those of `batches`."""
        cases = [self._case(i, seed) for i, seed in zip(indices, seeds or [()] * len(indices))]
        if flips is not None:
            cases = [(one.flip(1), two.flip(1)) if flip else (one, two) for (one, two), flip in zip(cases, flips)]
        images, flags = (torch.stack(part).to(self.device) for part in zip(*cases))
        images, masks = images.float(), unpack_masks(flags)
        labelled = torch.tensor([self.labelled[i] for i in indices], device=self.device).view(-1, 1, 1, 1, 1)
        masks["enhancing"] = torch.where(labelled, masks["expert"], masks["enhancement"] & masks["tumour"])
        case_ids = tuple(self.case_ids[i] for i in indices)
        t1 = None if self.t1 is None else images[:, self.t1 : self.t1 + 1]
        return Batch(images[:, :-1], images[:, -1:], masks, case_ids, tuple(seeds), t1)

    def batches(self, plan: Sequence[Sequence[tuple[int, bool]]], key: Sequence[int] = ()) -> Iterator[Batch]:
        """The planned batches in order; cases on disk are read one batch ahead.

        `key`, the numbers of seed and epoch, makes the seeds of random draws.
        """
        showings: Counter[tuple[int, bool]] = Counter()

        def seed(entry: tuple[int, bool]) -> tuple[int, ...]:
            showings[entry] += 1
            return (*key, *map(int, entry), showings[entry])

        jobs = [
            ([i for i, _ in entries], [flip for _, flip in entries], [seed(entry) for entry in entries] if key else ())
            for entries in plan
        ]
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


def plan_epoch(
    cases: int, *, batch_size: int, flip: str, seed: int, epoch: int, showings: int = 1
) -> list[list[tuple[int, bool]]]:
    """Batches of an epoch as lists of (case, flipped): a pure function of its arguments.

    `flip` is `both` (each case both ways, 2N entries), `random` (one way at random) or `none`; all this `showings`
    times. Raises ValueError for
    another `flip` and for a batch size below one.
    """
    if flip not in FLIPS or batch_size < 1:
        raise ValueError(f"flip {flip!r} has to be one of {', '.join(FLIPS)}, batch size {batch_size} at least 1")
    generator = np.random.default_rng((seed, epoch))
    shown = [i for _ in range(showings) for i in range(cases)]
    if flip == "both":
        entries = [(i, turned) for i in shown for turned in (False, True)]
    elif flip == "random":
        entries = [(i, bool(turned)) for i, turned in zip(shown, generator.random(len(shown)) < 0.5)]
    else:
        entries = [(i, False) for i in shown]
    order = generator.permutation(len(entries))
    return [[entries[i] for i in order[at : at + batch_size]] for at in range(0, len(entries), batch_size)]
