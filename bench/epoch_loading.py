"""Time for one epoch of batches, without a network, against MONAI's datasets and loaders.

    python bench/epoch_loading.py [--subjects 12] [--spacing 2] [--repeats 5]

The cohort is the phantom. An epoch is every case once, left-right flipped at random, two a batch: three inputs, target
and four masks. MONAI's datasets keep the output of their deterministic transforms in memory (CacheDataset, no workers,
since only the flip is left to compute) or on disk (PersistentDataset, two workers); ours hold float16 and bit flags.
The first epoch fills all of them and is not counted. All run in turn, one thread each; figures are medians. Then the
first epoch of a process, which checks the voxels of each file against their SHA-256, against a later one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lab.config import DataConfig
from lab.data.batches import CaseStore, plan_epoch, unpack_masks
from lab.data.cohort import Cohort
from lab.data.prepare import prepare
from lab.io import case_file as storage
from lab.phantom.cohort import write_cohort

BATCH = 2


def ours(cohort: Cohort, *, resident: bool) -> Callable[[int], float]:
    cases = list(cohort.index.index)
    store = CaseStore(cohort, cases, inputs=("T1", "T2", "FLAIR"), target="T1GD", resident=resident)

    def epoch(number: int) -> float:
        plan = plan_epoch(len(store), batch_size=BATCH, flip="random", seed=0, epoch=number)
        return sum(batch.inputs[0, 0, 0, 0, 0].item() for batch in store.batches(plan))

    return epoch


def monai(cohort: Cohort, cache: Path | None) -> Callable[[int], float]:
    from monai.data import CacheDataset, DataLoader, PersistentDataset
    from monai.transforms import Compose, Lambda, RandFlipd

    def load(item: dict[str, str]) -> dict[str, Any]:
        image, flags = cohort.load(item["case"])
        values = torch.from_numpy(image.astype("float32"))
        masks = {name: mask[0] for name, mask in unpack_masks(torch.from_numpy(flags.copy())[None, None]).items()}
        return {"inputs": values[:3], "target": values[3:], **masks}

    keys = ["inputs", "target", "brain", "tumour", "enhancement", "expert"]
    steps = Compose([Lambda(load), RandFlipd(keys, prob=0.5, spatial_axis=0)])
    items = [{"case": case} for case in cohort.index.index]
    if cache is None:
        loader = DataLoader(CacheDataset(items, steps, progress=False), batch_size=BATCH, shuffle=True, num_workers=0)
    else:
        data = PersistentDataset(items, steps, cache_dir=cache)
        loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    return lambda _: sum(batch["inputs"][0, 0, 0, 0, 0].item() for batch in loader)


def first_epochs(cohort: Cohort, repeats: int) -> tuple[float, float]:
    """Seconds of a first epoch from memory-mapped files, with the check of their voxels and without; medians."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        for check in times:
            if check:
                storage.checked.clear()
            start = time.perf_counter()
            ours(cohort, resident=False)(0)
            times[check].append(time.perf_counter() - start)
    return statistics.median(times[True]), statistics.median(times[False])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--spacing", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scans = write_cohort(work / "scans", subjects=arguments.subjects, seed=0, spacing_mm=arguments.spacing)
        settings = DataConfig(spacing_mm=arguments.spacing, allow_one_class=True)
        cohort = prepare(scans, work / "cohort", settings)
        epochs = {
            "resident": ours(cohort, resident=True),
            "memory-mapped": ours(cohort, resident=False),
            "CacheDataset": monai(cohort, None),
            "PersistentDataset": monai(cohort, work / "cache"),
        }
        times: dict[str, list[float]] = {name: [] for name in epochs}
        for number in range(arguments.repeats + 1):
            for name, epoch in epochs.items():
                start = time.perf_counter()
                epoch(number)
                times[name].append(time.perf_counter() - start)
        checked, unchecked = first_epochs(cohort, arguments.repeats)
        seconds = {name: statistics.median(found[1:]) for name, found in times.items()}
    shape = " x ".join(map(str, cohort.shape))
    for mine, theirs in (("resident", "CacheDataset"), ("memory-mapped", "PersistentDataset")):
        print(
            f"one epoch of {arguments.subjects} cases, {shape}: {mine} {seconds[theirs] / seconds[mine]:.1f} x as "
            f"fast as MONAI's {theirs} ({seconds[theirs]:.3f} s -> {seconds[mine]:.3f} s)"
        )
    print(
        f"the first epoch of a process, which checks each file: {checked / unchecked:.1f} x as long as without "
        f"({unchecked:.3f} s -> {checked:.3f} s), {1000 * (checked - unchecked) / arguments.subjects:.1f} ms a case"
    )


if __name__ == "__main__":
    main()
