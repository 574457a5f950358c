"""Time to score one 160 x 192 x 160 case with all metrics, against plain MONAI, scikit-image and SciPy.

    python bench/scorecard.py [--repeats 3] [--case FOLDER]

Ours is `evaluate` as studies call it: reading the case, the paper's metrics with SSIM, the enhancement scorecard,
midline, noise floor and artefacts. The other side computes the same figures from their definitions with the libraries'
functions on the whole volume, the straightforward way; its time excludes the midline slab. Both use one thread and run
alternately; figures are medians. The case is a phantom at 1 mm, or the first one of a prepared cohort. Measured figures
are in bench/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import lab  # noqa: F401 - before torch: its threads then wait without spinning, as in a study

# isort: split
import numpy as np
import torch
from monai.metrics import DiceMetric
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.metrics import structural_similarity
from sklearn.metrics import precision_score, recall_score

from lab.config import DataConfig
from lab.data.batches import CaseStore
from lab.data.cohort import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, Cohort, open_cohort
from lab.data.prepare import prepare
from lab.evaluation.evaluate import evaluate
from lab.evaluation.midline import midline_slab
from lab.io.case_file import clear_without_target
from lab.phantom.cohort import write_cohort

THRESHOLD, ENHANCING_ML, TOLERANCE_MM, LEAST_ML = 0.3, 0.5, 3.0, 0.05


def phantom(folder: Path) -> Cohort:
    write_cohort(folder / "tree", subjects=1, seed=4, spacing_mm=1.0, processes=1)
    return prepare(folder / "tree", folder / "prepared", DataConfig(spacing_mm=1.0, allow_one_class=True), processes=1)


def paper_metrics(image: np.ndarray, truth: np.ndarray, flags: np.ndarray) -> dict[str, float]:
    mean, whole = structural_similarity(
        image + 1, truth + 1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0, full=True
    )
    maps = {"mae": np.abs(image - truth), "mse": (image - truth) ** 2, "ssim": whole}
    figures = {"mae_image": maps["mae"].mean(), "mse_image": maps["mse"].mean(), "ssim_image": mean}
    for region, bit in {"brain": BRAIN, "tumour": TUMOUR}.items():
        figures |= {f"{kind}_{region}": values[(flags & bit) > 0].mean() for kind, values in maps.items()}
    tumour, enhancing = (flags & TUMOUR) > 0, (flags & ENHANCEMENT) > 0
    parts = [maps["mae"][part].mean() for part in (tumour & enhancing, tumour & ~enhancing) if part.any()]
    return figures | {"mae_balanced": float(np.mean(parts))}


def enhancement(
    image: np.ndarray, t1: np.ndarray, truth: np.ndarray, flags: np.ndarray, spacing: float, noise: float
) -> dict[str, float]:
    voxel_ml, reach = spacing**3 / 1000, max(TOLERANCE_MM / spacing, 1)
    brain, tumour = (flags & BRAIN) > 0, (flags & TUMOUR) > 0

    def widen(mask: np.ndarray) -> np.ndarray:
        return ndimage.distance_transform_edt(~mask) <= reach + 1e-6 if mask.any() else mask

    def pieces(mask: np.ndarray) -> list[np.ndarray]:
        regions = regionprops(label(mask, connectivity=3))
        return [region.coords for region in regions if region.area * voxel_ml >= LEAST_ML]

    near = widen(tumour) & brain
    predicted = (image - t1 > THRESHOLD) & near
    drawn = pieces(predicted)
    drawn_mask = np.zeros_like(brain)
    for coords in drawn:
        drawn_mask[tuple(coords.T)] = True
    levels = np.sort((image - t1)[near])[::-1]
    figures = {
        "ml_predicted": predicted.sum() * voxel_ml,
        "enhancement_level": float(levels[int(np.ceil(ENHANCING_ML / voxel_ml - 1e-6)) - 1]),
    }
    for name, true in {"rule": (truth - t1 > THRESHOLD) & near, "expert": ((flags & EXPERT) > 0) & near}.items():
        real = pieces(true)
        beside, beside_true = widen(drawn_mask), widen(true)
        found = sum(beside[tuple(coords.T)].any() for coords in real)
        dice = DiceMetric()(*(torch.from_numpy(mask[None, None]).float() for mask in (predicted, true))).item()
        shown, contrast = ((volume - t1)[true].mean() if true.any() else np.nan for volume in (image, truth))
        away = [(volume - t1)[brain & ~near].mean() for volume in (image, truth)]
        figures |= {
            f"ml_{name}": true.sum() * voxel_ml,
            f"dice_{name}": dice,
            f"sensitivity_{name}": recall_score(true[brain], predicted[brain], zero_division=np.nan),
            f"precision_{name}": precision_score(true[brain], predicted[brain], zero_division=np.nan),
            f"lesions_{name}": len(real),
            f"found_{name}": found,
            f"false_{name}": sum(not beside_true[tuple(coords.T)].any() for coords in drawn),
            f"contrast_{name}": shown / contrast,
            f"cnr_{name}": (shown - away[0]) / noise,
            f"cnr_true_{name}": (contrast - away[1]) / noise,
        }
    fissure = midline_slab(brain, spacing) & ~near
    true, predicted = (truth - t1 > THRESHOLD) & brain, (image - t1 > THRESHOLD) & fissure
    parts = {"true": true & fissure, "predicted": predicted, "false": predicted & ~widen(true)}
    return figures | {f"midline_ml_{name}": part.sum() * voxel_ml for name, part in parts.items()}


def noise_of(truth: np.ndarray, brain: np.ndarray) -> float:
    def blocks(*kernels: list[float]) -> np.ndarray:
        result = truth
        for axis, kernel in enumerate(kernels):
            result = ndimage.correlate1d(result, kernel, axis=axis, origin=-1)
        return result

    inside = ndimage.binary_erosion(brain, np.ones((2, 2, 2)), origin=-1)
    low, high = blocks(*[[1, 1]] * 3), blocks(*[[-1, 1]] * 3)
    slope = np.zeros_like(low)
    for axis in range(3):
        steps = []
        for by in (2, -2):
            step = np.abs(np.roll(low, by, axis) - low)
            steps.append(np.where(np.roll(inside, by, axis) & inside, step, 0))
        slope += np.maximum(*steps) ** 2
    smooth = inside & (slope <= np.median(slope[inside]))
    return float(np.median(np.abs(high[smooth]))) / 0.6744897501960817 / np.sqrt(8)


def artefacts(image: np.ndarray, truth: np.ndarray, brain: np.ndarray, noise: float) -> dict[str, float]:
    low, high = np.array([1, 4, 6, 4, 1]) / 16, np.array([1, -4, 6, -4, 1]) / 16
    within = ndimage.binary_erosion(brain, np.ones((5, 5, 5)))
    start = [int(np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))[0]) for axis in range(3)]
    cells = tuple(slice(first % 2, None, 2) for first in start)

    def checkerboard(volume: np.ndarray) -> float:
        energy = 0.0
        for alternates in product((False, True), repeat=3):
            amplitude = volume
            for axis, here in enumerate(alternates):
                amplitude = ndimage.correlate1d(amplitude, high if here else low, axis=axis)
            amplitude, mask = amplitude[cells], within[cells]
            axes = [axis for axis, here in enumerate(alternates) if here]
            for axis in axes:
                both = np.roll(mask, 3, axis) & mask
                energy += (np.roll(amplitude, 3, axis) * amplitude)[both].mean() / len(axes)
        return float(np.sqrt(max(energy, 0)))

    inner = ndimage.binary_erosion(brain)
    shown, real = (sum(part[inner] ** 2 for part in np.gradient(volume)).mean() for volume in (image, truth))
    return {
        "checkerboard": checkerboard(image),
        "checkerboard_true": checkerboard(truth),
        "sharpness": np.sqrt(shown / (real - 1.5 * noise**2)),
    }


def by_hand(cohort: Cohort, case: str, image: np.ndarray) -> dict[str, float]:
    volumes, mask = cohort.load(case)
    flags = clear_without_target(mask)
    t1, truth = (volumes[cohort.channel(name)].astype(np.float32) for name in ("T1", "T1GD"))
    brain = (flags & BRAIN) > 0
    noise = noise_of(truth, brain)
    return {
        **paper_metrics(image, truth, flags),
        **enhancement(image, t1, truth, flags, cohort.spacing_mm, noise),
        "noise_sd": noise,
        **artefacts(image, truth, brain, noise),
    }


def timed(task: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    figures = task()
    return time.perf_counter() - start, figures


def compare(cohort: Cohort, repeats: int) -> str:
    case = str(cohort.index.index[0])
    store = CaseStore(cohort, [case], inputs=("T1",), target="T1GD", resident=False)
    batch = store.batch([0])
    rng = np.random.default_rng(0)
    soft = ndimage.gaussian_filter(batch.target[0, 0].numpy(), 0.7) + rng.normal(0, 0.01, cohort.shape)
    image = np.where(batch.masks["brain"][0, 0], soft, -1).clip(-1, 1).astype(np.float32)
    synthesis = torch.from_numpy(image)[None, None]

    def ours() -> dict[str, float]:
        return evaluate(lambda _: synthesis, store).iloc[0].to_dict()

    rounds = [(timed(ours), timed(lambda: by_hand(cohort, case, image))) for _ in range(repeats + 1)][1:]
    ours_s, theirs_s = (statistics.median(one[side][0] for one in rounds) for side in (0, 1))
    mine, plain = rounds[-1][0][1], rounds[-1][1][1]
    shared = [name for name, value in plain.items() if np.isfinite(value) and np.isfinite(mine[name])]
    apart = max(shared, key=lambda name: abs(mine[name] - plain[name]) / max(abs(plain[name]), 1e-3))
    size = " x ".join(map(str, cohort.shape))
    return (
        f"scoring {case}, {size}, one thread: ours {ours_s:.2f} s, plain libraries {theirs_s:.1f} s, "
        f"{theirs_s / ours_s:.1f} x; {len(shared)} figures compared, most apart {apart} "
        f"({mine[apart]:.6g} and {plain[apart]:.6g})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", type=Path, help="a prepared cohort, whose first case is scored")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cohort = open_cohort(arguments.case) if arguments.case else phantom(Path(folder))
        print(compare(cohort, arguments.repeats))


if __name__ == "__main__":
    main()
