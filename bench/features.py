"""Speed of a case's radiomic features against plain pyradiomics with the same parameter file.

    python bench/features.py [--cases 2] [--repeats 3] [--processes 2]

Phantom patients of 160 x 192 x 160 voxels of 1 mm, three sequences each, 1,116 features a sequence (original, LoG 1, 3
and 5 mm, wavelets) and 14 of the shape. Plain pyradiomics runs on one sequence after the other with the whole image,
and may use all cores where its filters can. Ours starts with an empty cache, and its time includes writing files and
starting processes. The two run alternately; figures are medians of elapsed time and of processor time, which depends
less on other jobs of the machine. The largest relative difference of the results is printed too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lab.data.cohort import TUMOUR, Cohort
from lab.radiomics.features.cohort_features import measure_cohort
from lab.radiomics.features.image_features import load_extractor, to_images

SEQUENCES = ("T1", "T2", "FLAIR")


def plain(cohort: Cohort) -> dict[str, dict[str, float]]:
    """Features by case and name, by straightforward use of pyradiomics."""
    extractor = load_extractor()
    found: dict[str, dict[str, float]] = {}
    for case_id in cohort.index.index:
        image, mask = cohort.load(case_id)
        tumour = (mask & TUMOUR) > 0
        for number, sequence in enumerate(SEQUENCES):
            values = extractor.execute(*to_images(image[number], tumour, cohort.spacing_mm))
            found.setdefault(case_id, {}).update({f"{sequence}_{name}": float(one) for name, one in values.items()})
    return found


def ours(cohort: Cohort, processes: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as cache:
        return measure_cohort(cohort, SEQUENCES, Path(cache), processes=processes).table.to_dict("index")


def largest_difference(found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]], kind: str) -> float:
    return max(
        abs(values[name] - expected[case_id][name]) / max(abs(expected[case_id][name]), 1e-12)
        for case_id, values in found.items()
        for name in values
        if kind in name and not name.startswith("MASK")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()

    from preparation import processor_seconds  # not at the top: our workers import this file when they start

    from lab.config import DataConfig
    from lab.data.prepare import prepare
    from lab.phantom.cohort import write_cohort

    with tempfile.TemporaryDirectory() as folder:
        scans = write_cohort(Path(folder) / "scans", subjects=arguments.cases, seed=0, spacing_mm=1.0)
        cohort = prepare(scans, Path(folder) / "cohort", DataConfig(spacing_mm=1.0, allow_one_class=True))
        ways: dict[str, Callable[[], dict[str, dict[str, float]]]] = {
            "plain": lambda: plain(cohort),
            "ours": lambda: ours(cohort, arguments.processes),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        results = {}
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                start = time.perf_counter(), processor_seconds()
                results[name] = way()
                times[name].append((time.perf_counter() - start[0], processor_seconds() - start[1]))
        voxels = np.mean([np.count_nonzero(cohort.load(case_id)[1] & TUMOUR) for case_id in cohort.index.index])
    wall, work_s = (
        {name: statistics.median(one[i] for one in found) / arguments.cases for name, found in times.items()}
        for i in (0, 1)
    )
    print(
        f"features, {arguments.cases} cases of 3 sequences at 1 mm, tumours of {voxels / 1000:.0f} ml, "
        f"{arguments.processes} processes: {wall['plain'] / wall['ours']:.2f} x as fast as plain pyradiomics "
        f"({wall['plain']:.2f} s -> {wall['ours']:.2f} s a case; processors' work {work_s['plain']:.2f} s -> "
        f"{work_s['ours']:.2f} s)"
    )
    for kind in ("original", "wavelet", "log-sigma"):
        print(f"largest relative difference, {kind}: {largest_difference(results['ours'], results['plain'], kind):.1e}")


if __name__ == "__main__":
    main()
