"""Would a faulty scan be noticed? Faults planted on patients whose scans are sound, and the share that is.

The faults themselves are in `lab.evaluation.faults`. The reference of the training patients knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from lab.data.case import REFERENCE
from lab.data.cohort import Cohort
from lab.evaluation.faults import (
    Case,
    blurred,
    contrast_agent,
    copied,
    dark_lobe,
    empty,
    inverted,
    missing_half,
    missing_lobe,
    missing_slab,
    noisy,
    scaled,
    shaded,
    skull,
    swapped,
    thick,
    upside_down,
)
from lab.io.files import canonical
from lab.qc.image_quality import measure
from lab.qc.ood import Judgement, Likeness

Plant = Callable[[Case, np.random.Generator], Case | None]
NONE = "none"
"""The row of patients as they are: what is seen there is a false alarm."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong with a scan."""

    what: str
    """In words."""
    plant: Plant
    """The case with the fault; None where a case does not have what it needs."""
    suspects: tuple[str, ...]
    """What a user ought to be told of: any of these keys of `lab.qc.hard_limits.SUSPECTS`."""


FAULTS: dict[str, Fault] = {
    "T1 and T2 swapped": Fault(
        what="T1 given as T2 and T2 as T1", plant=partial(swapped, "T1", "T2"), suspects=("swapped",)
    ),
    "T2 and FLAIR swapped": Fault(
        what="T2 given as FLAIR and FLAIR as T2", plant=partial(swapped, "T2", "FLAIR"), suspects=("swapped",)
    ),
    "T1 and FLAIR swapped": Fault(
        what="T1 given as FLAIR and FLAIR as T1", plant=partial(swapped, "T1", "FLAIR"), suspects=("swapped",)
    ),
    "T2 a copy of FLAIR": Fault(what="FLAIR given as T2 too", plant=copied, suspects=("same scan",)),
    "T1 with contrast agent": Fault(
        what="T1GD given as T1",
        plant=contrast_agent,
        suspects=(
            "contrast agent",
            "other contrast",
        ),
    ),
    "T1 inverted": Fault(what="a T1 of reversed contrast", plant=partial(inverted, "T1"), suspects=("other contrast",)),
    "T2 inverted": Fault(what="a T2 of reversed contrast", plant=partial(inverted, "T2"), suspects=("other contrast",)),
    "one sequence empty": Fault(
        what="nothing but noise in one sequence",
        plant=empty,
        suspects=(
            "nothing but noise",
            "unmeasurable",
        ),
    ),
    "skull left": Fault(
        what="skull and scalp in the brain mask",
        plant=partial(skull, False),
        suspects=(
            "no brain",
            "skull",
        ),
    ),
    "skull partly left": Fault(
        what="skull and scalp of one side in the brain mask",
        plant=partial(skull, True),
        suspects=(
            "skull",
            "no brain",
        ),
    ),
    "lobe missing": Fault(what="a lobe outside the brain mask", plant=missing_lobe, suspects=("part missing",)),
    "lobe without signal": Fault(
        what="a lobe in the mask, dark in every sequence", plant=dark_lobe, suspects=("part dark",)
    ),
    "slab missing": Fault(what="the top or bottom quarter not scanned", plant=missing_slab, suspects=("part missing",)),
    "half missing": Fault(
        what="the left or right half not scanned",
        plant=missing_half,
        suspects=(
            "no brain",
            "part missing",
        ),
    ),
    "upside down": Fault(what="bottom and top exchanged", plant=upside_down, suspects=("turned",)),
    "SNR 20": Fault(
        what="Rician noise of a twentieth of the median",
        plant=partial(noisy, 20.0),
        suspects=("noise",),
    ),
    "SNR 10": Fault(what="Rician noise of a tenth of the median", plant=partial(noisy, 10.0), suspects=("noise",)),
    "SNR 5": Fault(
        what="Rician noise of a fifth of the median",
        plant=partial(noisy, 5.0),
        suspects=(
            "noise",
            "nothing but noise",
        ),
    ),
    "SNR 2": Fault(
        what="Rician noise of half the median",
        plant=partial(noisy, 2.0),
        suspects=(
            "noise",
            "nothing but noise",
        ),
    ),
    "blurred": Fault(what="smoothed by a Gaussian of 1.2 voxels", plant=blurred, suspects=("blurred",)),
    "thick slices": Fault(
        what="axial slices of 6 mm and three voxels at least",
        plant=thick,
        suspects=(
            "thick slices",
            "blurred",
        ),
    ),
    "bias field": Fault(
        what="a shading that doubles the signal across the brain",
        plant=shaded,
        suspects=(
            "shading",
            "other contrast",
        ),
    ),
    "brain of 0.9": Fault(
        what="a child's brain, 0.9 of the size along each axis", plant=partial(scaled, 0.9), suspects=("small brain",)
    ),
    "brain of 0.8": Fault(
        what="a small child's brain, 0.8 of the size along each axis",
        plant=partial(scaled, 0.8),
        suspects=("small brain",),
    ),
}
"""Name -> fault. None of them is among what the measures were fitted on."""


def cases_of(cohort: Cohort, case_ids: Sequence[str], inputs: Sequence[str], target: str) -> Iterator[Case]:
    """Prepared patients one by one, with the channels that a new patient of a model would have."""
    names = {canonical(name): name for name in (*inputs, REFERENCE)}
    channels = tuple(names.values())
    places = [cohort.channel(name) for name in channels]
    for case_id in case_ids:
        image, masks = cohort.load(case_id)
        yield Case(
            image=image[places],
            masks=np.asarray(masks),
            channels=channels,
            spacing_mm=cohort.spacing_mm,
            clip_sigma=float(cohort.manifest["settings"]["clip_sigma"]),
            contrast=np.asarray(image[cohort.channel(target)]),
        )


def score_faults(
    cases: Iterable[Case],
    likeness: Likeness,
    rng: np.random.Generator,
    *,
    faults: Mapping[str, Fault] = FAULTS,
    planted_on: int | None = None,
) -> pd.DataFrame:
    """A row for patients as they are ("none") and one for each fault, with the share of cases that is noticed.

    Columns: `fault`, `what`; `n` cases; `seen`, the share that is unlike or refused, and of it `warned` (unlike) and
    `refused`; `named`, the share of all whose reasons name the fault. Rates are NaN where n is 0.

    Args:
        cases: patients none of whom the reference was fitted on.
        likeness: the reference.
        rng: where lobes lie, how thick a skull is, and noise.
        faults: those to plant.
        planted_on: how many cases get faults, the first ones; all by default. False alarms are counted on all cases.
    """
    found: dict[str, list[Judgement]] = {NONE: [], **{name: [] for name in faults}}
    for number, case in enumerate(cases):
        found[NONE].append(judge(case, likeness))
        for name, fault in faults.items() if planted_on is None or number < planted_on else ():
            faulty = fault.plant(case, rng)
            if faulty is not None:
                found[name].append(judge(faulty, likeness))
    rows = []
    for name, judgements in found.items():
        count = len(judgements)
        levels = [judgement.level for judgement in judgements]
        wanted = set() if name == NONE else set(faults[name].suspects)
        named = sum(bool(wanted & set(judgement.suspects)) for judgement in judgements)
        warned, refused = (levels.count(level) / count if count else np.nan for level in ("unlike", "refused"))
        rows.append(
            {
                "fault": name,
                "what": "the patients as they are" if name == NONE else faults[name].what,
                "n": count,
                "seen": warned + refused,
                "warned": warned,
                "refused": refused,
                "named": named / count if count and wanted else np.nan,
            }
        )
    return pd.DataFrame(rows)


def judge(case: Case, likeness: Likeness) -> Judgement:
    """The judgement of a case."""
    return likeness.judge(measure(case.image, case.masks, case.channels, case.spacing_mm))
