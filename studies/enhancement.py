"""Which training method draws enhancement where it is?

    python studies/enhancement.py                    the embedded phantom, a quarter of an hour on 2 cores
    python studies/enhancement.py --data PATH        EGD, BraTS, a CSV of paths or a prepared cohort
    ... --methods supervised place-and-draw          some of the methods, 7 minutes; each has its settings,
                                                     --place-and-draw.steps
    ... --as-long-as place-and-draw                  an equal training time in place of equally many epochs
    ... --repeats 3 --folds 5                        several seeds, and every patient tested once

Fixed:   cohort, split, loss L1_brain, number of epochs or training time, seed
Varied:  the training method, each with the network that it needs, else model 0. `supervised` with model 0 and L1_brain
         is the paper's. Each method has its own optimiser, augmentation, and whole volumes or random cubes
Score:   voxel AUC in and near the validation patients' tumours ranks the trials: of the probability of enhancement
         where a method states one, else of the drawn contrast. Test patients are scored at the end, each method beside
         the strongest baseline, with intervals
Paper:   no figure says where it enhances; the paper names a GAN among its suggestions for further work
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.cli.study_command import run_study, settings_for
from lab.config import Config
from lab.synthesis.methods import METHODS

if TYPE_CHECKING:
    from lab.experiments.plan import Plan

QUESTION = "Which training method draws enhancement where it is?"
PAPER = "supervised"
DEMO: dict[str, Any] = {
    "phantom.subjects": 96,
    "data.split": (0.75, 0.08, 0.17),
    "train.epochs": 20,
    "train.learning_rate": 4e-3,
    "augment.use": "off",
    "place_unet.filters": 8,
    "place_unet.image_filters": 8,
    "place_unet.mirrored": False,
    "place_and_draw.steps": 700,
    "place_and_draw.warm_up": 20,
    "place_and_draw.average": 0.97,
}
"""Settings on the phantom, for minutes on 2 cores: many patients, small networks that learn fast, no augmentation."""
CUBE_MM = 96.0
"""Edge of the training cubes of methods that take random ones, unless --train.patch-mm names another."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enhancement(Config):
    """Which training method draws enhancement where it is?"""

    methods: tuple[str, ...] = tuple(METHODS)
    """Methods to compare."""
    as_long_as: str = ""
    """Method whose training time the others get, early stopping aside; by default all have equally many epochs."""


def grid(settings: Enhancement) -> dict[str, dict[str, Any]]:
    """Each method with the network that it trains. Raises ValueError for an unknown method."""
    if settings.as_long_as and settings.as_long_as not in settings.methods:
        raise ValueError(f"--as-long-as {settings.as_long_as}: choose one of --methods, {', '.join(settings.methods)}")
    found = {}
    for method in settings.methods:
        spec = METHODS.find(method)
        cube = CUBE_MM if spec.patch_sampling == "random" else None
        found[label(method, settings) + as_long(method, settings)] = {
            "train.method": method,
            "model.id": spec.network or settings.model.id,
            "train.patch_mm": settings.train.patch_mm or cube,
            "train.epochs": settings.train.epochs,
        }
    return found


def label(method: str, settings: Config) -> str:
    """A method's name; the paper's is named by its network and its loss."""
    return f"{settings.model.id.replace('model-', 'model ')}, {settings.loss.name}" if method == PAPER else method


def as_long(method: str, settings: Enhancement) -> str:
    """What a label says of the training time; empty for the method that sets it, and for equally many epochs."""
    return f", as long as {settings.as_long_as}" if settings.as_long_as not in ("", method) else ""


def equal_time(plan: Plan, *, reference: str) -> dict[str, Mapping[str, Any]]:
    """The grid with the epochs that take each method as long as the one with the label `reference`."""
    from lab.experiments.synthesis.equal_time import with_equal_time  # late, so that --help answers

    return with_equal_time(plan, {name: reference for name in plan.study.grid if name != reference})


def main() -> int:
    """Run the study, or continue it."""
    settings = settings_for(
        Enhancement,
        sys.argv[1:],
        varied={"train.method": "--methods"},
        changes={"study.objective": "val/voxel_auc"},
        demo=DEMO,
        registry=True,
    )
    reference = label(settings.as_long_as, settings)
    return run_study(
        settings,
        name="enhancement",
        question=QUESTION,
        grid=lambda: grid(settings),
        series="label",
        complete=functools.partial(equal_time, reference=reference) if reference else None,
    )


if __name__ == "__main__":
    sys.exit(main())
