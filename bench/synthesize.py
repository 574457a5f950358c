"""Time for a new patient at the paper's size, from files to files, against MONAI's sliding window.

    python bench/synthesize.py [--model 1] [--width 64] [--looks 2] [--precision auto] [--repeats 3]

The patient is a phantom at 1 mm, the grid 160 x 192 x 160, the weights are random; none of this changes the time. First
the network alone: the whole volume at once, as in `python -m lab synthesize` where memory allows, against
`monai.inferers.sliding_window_inference` with windows of 128 voxels that overlap by half. The two run alternately;
figures are medians. Then the whole command, with its seconds and peak memory.
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
from torch import Tensor

from lab.config import DataConfig
from lab.data.layouts.find import find_subjects
from lab.deploy.patient_folder import write_patient
from lab.inference.load import from_packages
from lab.inference.settings import How
from lab.inference.tiling import choose_way, predict_by, predict_image
from lab.phantom.cohort import write_cohort
from lab.synthesis.device import choose, use_threads
from lab.synthesis.networks.paper import build
from lab.tracking.models.network import Package

SHAPE, WINDOW = (160, 192, 160), (128, 128, 128)


def package(model: int, width: int) -> Package:
    """A network of the paper with random weights, and the contract of a cohort at 1 mm."""
    data = DataConfig()
    names = ("clip_sigma", "enhancement_threshold", "enhancing_ml")
    preparation = {name: getattr(data, name) for name in names} | {"brain_mask": "mni152"}
    network = build(model, in_channels=3, width=width, depth=4, seed=0).eval()
    known = {
        "model": {"id": model, "width": width},
        "inputs": ["T1", "T2", "FLAIR"],
        "target": "T1GD",
        "spacing_mm": 1.0,
        "shape": list(SHAPE),
        "preparation": preparation,
        "layout": "egd",
        "cohort_digest": "bench",
        "phantom": True,
    }
    return Package(network=network, known=known, weights_sha256="", package_sha256="", calibration={})


def seconds_of(work: Callable[[], Tensor]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--looks", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="leave the comparison with MONAI out")
    arguments = parser.parse_args()
    use_threads(1)
    arithmetic = choose("auto", arguments.precision)
    made = package(arguments.model, arguments.width)
    network = arithmetic.place(made.network)
    print(f"model {arguments.model}, width {arguments.width}, {arithmetic.name}, {torch.get_num_threads()} threads")

    if not arguments.alone:
        inputs = torch.rand(1, 3, *SHAPE) * 2 - 1
        brain = torch.ones(1, 1, *SHAPE, dtype=torch.bool)
        way = choose_way(network, SHAPE, arithmetic)
        whole: list[float] = []
        sliding: list[float] = []
        given: dict[str, Any] = {"brain": brain, "arithmetic": arithmetic}
        for _ in range(arguments.repeats + 1):
            whole.append(seconds_of(lambda: predict_by(network, inputs, way=way, **given)[0]))
            sliding.append(seconds_of(lambda: predict_image(network, inputs, window=WINDOW, **given)))
        ours, theirs = (statistics.median(times[1:]) for times in (whole, sliding))
        print(f"network alone: {way.kind} {ours:.1f} s, MONAI's {theirs:.1f} s, ratio {theirs / ours:.1f}")

    with tempfile.TemporaryDirectory() as scratch:
        tree = write_cohort(Path(scratch) / "tree", subjects=1, seed=0, spacing_mm=1.0, processes=1)
        (subject,) = find_subjects(tree, "egd")
        networks = from_packages([(made, {"model": "bench"})], arithmetic)
        how = How(looks=arguments.looks, precision=arguments.precision)
        for number in range(2):
            report = write_patient(subject, networks, Path(scratch) / str(number), how, arithmetic)
        seconds = report["seconds"]
        other = seconds["prepare"] + seconds["rest"]
        print(
            f"a patient, {arguments.looks} looks: {seconds['total']:.1f} s (network {seconds['network']:.1f}, the rest "
            f"{other:.1f}), peak memory {report['peak_memory_mb'] / 1024:.1f} GiB"
        )


if __name__ == "__main__":
    main()
