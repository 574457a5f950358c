"""Speed of `prepare`, from scans to network inputs, against a pipeline of MONAI transforms.

    python bench/preparation.py [--subjects 5] [--repeats 3] [--processes 2]

Scans are phantom patients of 197 x 233 x 189 voxels of 1 mm, as EGD has them, with five files each. The MONAI pipeline:
load, RAS, voxel size, crop to the foreground, z-score of the nonzero voxels, clip at 4 sigma and scale to [-1, 1], pad
or crop to the grid, save as float16. Ours also masks the brain by the atlas, marks the enhancement, checks the scans,
writes an index and fsyncs. MONAI's processes are forked with everything imported; our time includes their start. The
two run alternately; figures are medians, at 1 mm and at 2 mm, of elapsed time and of processor time, which depends less
on other jobs of the machine.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from lab.config import DataConfig, grid_shape
from lab.data.prepare import prepare
from lab.phantom.cohort import write_cohort

SEQUENCES = ("T1", "T2", "FLAIR", "T1GD")


def transforms(spacing_mm: float) -> Any:
    """Plain MONAI pipeline, from five paths to tensors on the grid."""
    warnings.simplefilter("ignore")  # MONAI warns of missing readers that are not needed here
    logging.disable(logging.WARNING)
    from monai import transforms as mt

    keys, shape = [*SEQUENCES, "MASK"], grid_shape(DataConfig(), spacing_mm)
    modes = [*["bilinear"] * 4, "nearest"]
    return mt.Compose(
        [
            mt.LoadImaged(keys, reader="NibabelReader"),
            mt.EnsureChannelFirstd(keys),
            mt.Orientationd(keys, axcodes="RAS", labels=None),
            mt.Spacingd(keys, pixdim=(spacing_mm,) * 3, mode=modes),
            mt.CropForegroundd(keys, source_key="T1", allow_smaller=True),
            mt.NormalizeIntensityd(SEQUENCES, nonzero=True),
            mt.ScaleIntensityRanged(SEQUENCES, a_min=-4, a_max=4, b_min=-1, b_max=1, clip=True),
            mt.ResizeWithPadOrCropd(keys, spatial_size=shape),
            mt.ConcatItemsd(SEQUENCES, name="image", dim=0),
        ]
    )


def prepare_one(job: tuple[Path, Path, float]) -> None:
    """Prepare one subject with MONAI, in a worker."""
    import torch  # not at the top: our workers import this file when they start

    folder, out, spacing_mm = job
    torch.set_num_threads(1)
    item = transforms(spacing_mm)({name: folder / f"{name}.nii.gz" for name in (*SEQUENCES, "MASK")})
    image, mask = item["image"].as_tensor().half(), item["MASK"].as_tensor().byte()
    torch.save({"image": image, "mask": mask}, out / f"{folder.name}.pt")


def monai(scans: Path, out: Path, spacing_mm: float, processes: int) -> None:
    out.mkdir()
    jobs = [(folder, out, spacing_mm) for folder in sorted((scans / "SUBJECTS").iterdir())]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        pool.map(prepare_one, jobs, chunksize=1)
        pool.close()
        pool.join()


def ours(scans: Path, out: Path, spacing_mm: float, processes: int) -> None:
    prepare(scans, out, DataConfig(spacing_mm=spacing_mm, allow_one_class=True), processes=processes)


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    transforms(1.0)  # import before the clock starts
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scans = write_cohort(
            work / "scans", subjects=arguments.subjects, seed=0, spacing_mm=1.0, processes=arguments.processes
        )
        for spacing_mm in (1.0, 2.0):
            times: dict[str, list[tuple[float, float]]] = {"ours": [], "monai": []}
            for _ in range(arguments.repeats):
                for name, way in (("ours", ours), ("monai", monai)):
                    start = time.perf_counter(), processor_seconds()
                    way(scans, work / name, spacing_mm, arguments.processes)
                    times[name].append((time.perf_counter() - start[0], processor_seconds() - start[1]))
                    shutil.rmtree(work / name)
            wall, work_s = (
                {name: statistics.median(one[i] for one in found) / arguments.subjects for name, found in times.items()}
                for i in (0, 1)
            )
            print(
                f"preparation, {arguments.subjects} subjects to {spacing_mm:g} mm, {arguments.processes} processes: "
                f"{wall['monai'] / wall['ours']:.2f} x as fast as MONAI's transforms ({wall['monai']:.2f} s -> "
                f"{wall['ours']:.2f} s a subject; processors' work {work_s['monai']:.2f} s -> {work_s['ours']:.2f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
