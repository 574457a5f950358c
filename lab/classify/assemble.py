"""A prepared cohort -> what a classifier learns from: features measured, labels read, nobody lost without a reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from lab.classify.cohort_features import CohortFeatures, measure_cohort
from lab.classify.dataset import CLINICAL, Dataset
from lab.classify.features import PARAMETERS, load_extractor
from lab.classify.labels import read_labels
from lab.classify.perturb import PERTURBATIONS
from lab.config import ClassifierConfig, DataConfig, fingerprint
from lab.data.cohort import Cohort
from lab.data.prepare import Progress


def assemble(
    cohort: Cohort, data: DataConfig, settings: ClassifierConfig, cache: Path, *, progress: Progress | None = None
) -> Dataset:
    """Features, labels and clinical columns of every case that has both; the others are in `left_out`.

    With a stability filter the features of some cases are measured under changed masks too. Raises ValueError or an
    OSError as `read_labels` and `measure_cohort` do, and where a patient has two labels.
    """
    labels = read_labels(cohort, settings.label, file=settings.labels, enhancing_ml=data.enhancing_ml)
    found = measure_cohort(cohort, data.inputs, cache, processes=data.processes, progress=progress)
    cases = sorted(set(found.table.index) & set(labels.values.index))
    if not cases:
        raise ValueError(f"{cohort.path}: no case has both features and a label")
    table = cohort.index.loc[cases, [name for name in ("patient_id", *CLINICAL) if name in cohort.index]].copy()
    table.index = pd.Index(cases, name="case_id")
    table.insert(1, "label", labels.values.loc[cases].to_numpy(int))
    mixed = table.groupby("patient_id")["label"].nunique()
    if (mixed > 1).any():
        raise ValueError(
            f"patient {mixed.index[mixed > 1][0]} has scans with label 0 and scans with label 1; "
            "leave one kind out with a column of your own (--labels)"
        )
    dataset = Dataset(
        features=found.table.loc[cases],
        table=table,
        event=labels.event,
        name=cohort.name,
        phantom=cohort.phantom,
        digest=fingerprint([cohort.digest, PARAMETERS.read_text(), data.inputs, table["label"].to_dict()], length=32),
        left_out=labels.missing | found.left_out,
        perturbed=_perturbed(cohort, data, settings, cache, cases, progress) if settings.stability > 0 else {},
    )
    return dataset.shuffled(settings.seed) if settings.shuffle_labels else dataset


def _perturbed(
    cohort: Cohort,
    data: DataConfig,
    settings: ClassifierConfig,
    cache: Path,
    cases: list[str],
    progress: Progress | None,
) -> dict[str, pd.DataFrame]:
    """Features under every mask of `PERTURBATIONS` of the cases drawn for it, those that bear them all."""
    count = min(settings.stability_cases, len(cases))
    drawn = sorted(np.random.default_rng([settings.seed, 5]).choice(cases, count, replace=False))
    part = dataclasses.replace(cohort, index=cohort.index.loc[drawn])
    tables: dict[str, CohortFeatures] = {}
    for number, name in enumerate(PERTURBATIONS):

        def tell(done: int, total: int, line: str, number: int = number, name: str = name) -> None:
            if progress and "left out" not in line:  # such a mask is not of a case that is left out
                progress(number * total + done, len(PERTURBATIONS) * total, f"mask {name}, {line}")

        how = {"perturbation": name, "processes": data.processes, "progress": tell}
        tables[name] = measure_cohort(part, data.inputs, cache, **how)  # type: ignore[arg-type]
    bear = [case for case in drawn if all(case in found.table.index for found in tables.values())]
    if len(bear) < 2:
        raise ValueError(
            f"the stability filter needs two cases that bear every changed mask, {len(bear)} do; "
            "take finer voxels, or --classifier.stability 0"
        )
    return {name: found.table.loc[bear] for name, found in tables.items()}


def feature_settings() -> dict[str, str]:
    """What computes the features, for the record."""
    extractor = load_extractor()
    types = [f"{name} {own}" if own else name for name, own in extractor.enabledImagetypes.items()]
    return {"image types": ", ".join(types), "classes": ", ".join(extractor.enabledFeatures)} | {
        name: str(extractor.settings.get(name)) for name in ("binCount", "binWidth", "minimumROISize")
    }
