"""Speed of a case's radiomic features against plain pyradiomics with the same parameter file.

    python bench/features.py [--cases 2] [--repeats 3] [--processes 2]

Phantom patients of 160 x 192 x 160 voxels of 1 mm, three sequences each, 1,116 features a sequence (original, LoG 1, 3
and 5 mm, wavelets) and 14 of the shape; then a real patient of 240 x 240 x 155 voxels where the cases of
`../shared/cases` are there. Plain pyradiomics runs on one sequence after the other with the whole image, and may use
all cores where its filters can. Ours starts with an empty cache, and its time includes writing files and starting
processes. The two run alternately; figures are medians of elapsed time and of processor time, which depends less on
other jobs of the machine. The largest relative difference of the results is printed too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # our workers import this file when they start, as they do a command's, which imports late
    from lab.data.cohort import Cohort

SEQUENCES = ("T1", "T2", "FLAIR")
REAL = Path(__file__).parents[2] / "shared" / "cases" / "brats2023-1mm" / "BraTS-SSA-00037-000"


def plain(cohort: Cohort) -> dict[str, dict[str, float]]:
    """Features by case and name, by straightforward use of pyradiomics."""
    from lab.data.cohort import TUMOUR
    from lab.radiomics.features.image_features import load_extractor, to_images

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
    from lab.radiomics.features.cohort_features import measure_cohort

    with tempfile.TemporaryDirectory() as cache:
        return measure_cohort(cohort, SEQUENCES, Path(cache), processes=processes).table.to_dict("index")


def largest_difference(found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]], kind: str) -> float:
    return max(
        abs(values[name] - expected[case_id][name]) / max(abs(expected[case_id][name]), 1e-12)
        for case_id, values in found.items()
        for name in values
        if kind in name and not name.startswith("MASK")
    )


def compare(name: str, cohort: Cohort, repeats: int, processes: int) -> None:
    """Print how much faster ours is, and the largest differences."""
    from preparation import processor_seconds

    ways: dict[str, Callable[[], dict[str, dict[str, float]]]] = {
        "plain": lambda: plain(cohort),
        "ours": lambda: ours(cohort, processes),
    }
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    results = {}
    for _ in range(repeats):
        for way, measure in ways.items():
            start = time.perf_counter(), processor_seconds()
            results[way] = measure()
            times[way].append((time.perf_counter() - start[0], processor_seconds() - start[1]))
    cases = len(cohort.index)
    wall, work_s = (
        {way: statistics.median(one[i] for one in found) / cases for way, found in times.items()} for i in (0, 1)
    )
    print(
        f"{name}, {cases} x 3 sequences, tumours of {cohort.index['tumour_ml'].mean():.0f} ml, {processes} processes, "
        f"plain pyradiomics against ours:"
    )
    for what, found in (("processors' work", work_s), ("by the clock", wall)):
        print(
            f"  {what}: {found['plain']:.2f} s -> {found['ours']:.2f} s a case, {found['plain'] / found['ours']:.2f} x"
        )
    for kind in ("original", "wavelet", "log-sigma"):
        print(
            f"  largest relative difference, {kind}: {largest_difference(results['ours'], results['plain'], kind):.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()

    from lab.config import DataConfig
    from lab.data.prepare import prepare
    from lab.phantom.cohort import write_cohort

    with tempfile.TemporaryDirectory() as folder:
        scans = {"phantom": write_cohort(Path(folder) / "phantom", subjects=arguments.cases, seed=0, spacing_mm=1.0)}
        if REAL.is_dir():
            scans["real"] = Path(folder) / "real"
            scans["real"].mkdir()
            (scans["real"] / REAL.name).symlink_to(REAL)
        else:
            print(f"no real patient: {REAL} is not here")
        for name, path in scans.items():
            cohort = prepare(path, Path(folder) / f"{name}-cohort", DataConfig(spacing_mm=1.0, allow_one_class=True))
            compare(name, cohort, arguments.repeats, arguments.processes)


if __name__ == "__main__":
    main()
