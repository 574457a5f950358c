"""Voxelwise boosting as a baseline of the classifier: does the tumour enhance, judged voxel by voxel?

In each split gradient boosting learns from voxels inside the masks of the training patients which of them enhance, by
the features and with the trees of `lab.synthesis.boosting`. A test patient's score is the probability that the least
enhancing volume (`--data.enhancing-ml`) of the tumour reaches, as that of networks which state a probability; nothing
is chosen on a test patient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.data.cohort import BRAIN, TUMOUR, Cohort
from lab.data.source import Say
from lab.evaluation.enhancement import enhancement_level
from lab.experiments.radiomics.experiment import Experiment, ExperimentData
from lab.io.case_file import clear_without_target, write_atomically
from lab.io.files import one_line, plural
from lab.io.pool import run_all
from lab.radiomics.baselines import BOOSTING
from lab.radiomics.splits import Split, predictions_table
from lab.synthesis.boosting import Voxels, depth_mm, enhancing_mask, voxel_features

LABELS = ("enhancement", "expert", "rule")
"""Labels that say of each voxel whether it enhances."""
MOST = 3_000
"""Most voxels of a tumour that are measured, drawn at random."""


@dataclass(frozen=True, kw_only=True)
class TumourVoxels:
    """Voxels of one tumour."""

    features: NDArray[np.float32]
    """(N, F)."""
    enhances: NDArray[np.bool_]
    """(N,)."""
    share: float
    """Share of the tumour's voxels that these are."""


@dataclass(frozen=True, kw_only=True)
class VoxelJob:
    """The measurement of one tumour's voxels, to run in its own process."""

    cohort: Cohort
    """The cohort, with only this case in its index."""
    inputs: tuple[str, ...]
    by_rule: bool
    """Whether the paper's rule says what enhances, also where there is an expert's label."""

    @cached_property
    def case_id(self) -> str:
        """Id of the case."""
        return str(self.cohort.index.index[0])

    def run(self) -> TumourVoxels | str:
        """The voxels, or why there are none."""
        cohort, spacing_mm = self.cohort, self.cohort.spacing_mm
        try:
            image, mask = cohort.load(self.case_id)
        except (ValueError, OSError) as error:
            return one_line(error)
        flags = clear_without_target(mask)
        brain, tumour = (flags & BRAIN) != 0, (flags & TUMOUR) != 0
        inside = tumour[brain]
        if not inside.any():
            return "no tumour mask"
        labelled = not self.by_rule and cohort.labelled(self.case_id)
        enhances = enhancing_mask(flags, spacing_mm, labelled=labelled)[brain][inside]
        sequences = np.asarray(image[[cohort.channel(name) for name in self.inputs]], np.float32)
        features = voxel_features(sequences, brain, spacing_mm)[inside]
        features = np.column_stack([features, depth_mm(tumour, brain, spacing_mm)[inside]])
        where = np.arange(len(features))
        if len(where) > MOST:
            where = np.sort(np.random.default_rng(0).choice(where, MOST, replace=False))
        return TumourVoxels(features=features[where], enhances=enhances[where], share=len(where) / len(features))


def boosting_left_out(data: ExperimentData) -> dict[str, str]:
    """Its name -> why the data do not allow it; empty if they do."""
    chosen, table = data.settings.classifier, data.settings.radiomics.features
    if table is not None and data.settings.data.path is None:
        return {BOOSTING: "a table of features has no voxels"}
    if chosen.labels is not None or chosen.label not in LABELS:
        return {BOOSTING: f"the label {chosen.label} says nothing about single voxels"}
    if chosen.shuffle_labels:
        return {BOOSTING: "voxels keep their labels when those of the patients are shuffled"}
    return {}


def boosting_predictions(experiment: Experiment, say: Say = print) -> pd.DataFrame:
    """Its predictions on all splits, as `Assessment` takes them, kept in the experiment's folder.

    Empty where the data do not allow it.
    """
    data = experiment.data
    if boosting_left_out(data):
        return pd.DataFrame()
    file = experiment.folder / "boosting.csv"
    if not file.is_file():
        say(f"  {BOOSTING} on {plural(len(data.splits), 'split')}")
        voxels = measure_voxels(data, say)
        table = pd.concat([predict_split(data, split, voxels) for split in data.splits], ignore_index=True)
        write_atomically(file, table.to_csv(index=False).encode())
    return pd.read_csv(file, dtype={"case_id": str, "patient_id": str}, float_precision="round_trip")


def measure_voxels(data: ExperimentData, say: Say = print) -> dict[str, TumourVoxels]:
    """Case -> voxels of its tumour; `say` reports the cases without."""
    cohort = data.cohort
    inputs, by_rule = data.settings.data.inputs, data.settings.classifier.label == "rule"
    jobs = {
        case: VoxelJob(
            cohort=dataclasses.replace(cohort, index=cohort.index.loc[[case]]), inputs=inputs, by_rule=by_rule
        )
        for case in data.dataset.table.index
    }
    found = dict(run_all(jobs, data.settings.classifier.workers))
    measured = {}
    for case in jobs:
        voxels = found[case] or "too little memory"
        if isinstance(voxels, str):
            say(f"  {case} is not among the patients of {BOOSTING}: {voxels}")
        else:
            measured[case] = voxels
    return measured


def predict_split(data: ExperimentData, split: Split, voxels: Mapping[str, TumourVoxels]) -> pd.DataFrame:
    """Predictions of a split's test cases by trees that were fitted on its training cases; no threshold."""
    sample = Voxels(data.settings.classifier.seed)
    training = [case for case in split.train if case in voxels]
    for case in training:
        sample.add(case, voxels[case].features, voxels[case].enhances)
    predict = sample.fit(training)
    scores = np.full(len(split.test), np.nan)
    for place, case in enumerate(split.test):
        if case in voxels:
            one = voxels[case]
            least_ml = data.settings.data.enhancing_ml * one.share
            scores[place] = max(0.0, enhancement_level(predict(one.features), data.cohort.spacing_mm, least_ml))
    table = predictions_table(data.dataset, split, scores, method=BOOSTING, threshold=float("nan"))
    return table.dropna(subset=["score"])
