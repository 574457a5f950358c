"""Assembly of a classifier's data set from a prepared cohort: features, labels and the reasons for exclusions."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.config import ClassifierConfig, DataConfig, FeatureConfig
from lab.data.cohort import Cohort
from lab.data.prepare import Progress
from lab.io.sealed_json import fingerprint
from lab.radiomics.dataset import CLINICAL, Dataset
from lab.radiomics.features.cohort_features import measure_cohort
from lab.radiomics.features.feature_table import read_features
from lab.radiomics.features.image_features import PARAMETERS, load_extractor
from lab.radiomics.features.stability import measure_perturbed
from lab.radiomics.labels import read_labels


def assemble(
    cohort: Cohort,
    data: DataConfig,
    settings: ClassifierConfig,
    cache: Path,
    *,
    progress: Progress | None = None,
    radiomics: FeatureConfig | None = None,
    say: Callable[[str], None] = print,
) -> Dataset:
    """Features, labels and clinical columns of every case that has both; `left_out` holds the reasons for the others.

    With a stability filter, some cases are also measured under perturbed masks. `radiomics` names a table of features
    or a parameter file. Raises as `labelled`, `measure_cohort`, `read_features`.
    """
    radiomics = radiomics or FeatureConfig()
    bare = labelled(cohort, data, settings, lambda _: None)  # load_data has already reported problems
    how: dict[str, Any] = {"processes": data.processes}
    how |= {"parameters": radiomics.parameters} if radiomics.parameters else {}
    if radiomics.features is not None:
        found = read_features(radiomics.features, cohort, label=settings.label, say=say)
        source: str = fingerprint(pd.util.hash_pandas_object(found.table).tolist() + list(found.table), length=32)
    else:
        found = measure_cohort(cohort, data.inputs, cache, progress=progress, **how)
        source = (radiomics.parameters or PARAMETERS).read_text()
    cases = [case for case in bare.table.index if case in set(found.table.index)]
    if not cases:
        raise ValueError(f"{cohort.path}: no case has both features and a label")
    features = found.table.loc[cases]
    features.index = pd.Index(cases, name="case_id")
    table = bare.table.loc[cases]
    perturbed: dict[str, pd.DataFrame] = {}
    if settings.stability > 0 and radiomics.features is None:
        count = min(settings.stability_cases, len(cases))
        sample = sorted(np.random.default_rng([settings.seed, 5]).choice(cases, count, replace=False))
        part = dataclasses.replace(cohort, index=cohort.index.loc[sample])

        def tell(done: int, total: int, line: str) -> None:
            if progress and "left out" not in line:  # a failed perturbed mask does not exclude the case
                progress(done, total, line)

        perturbed = measure_perturbed(part, data.inputs, cache, progress=tell, **how)
    dataset = dataclasses.replace(
        bare,
        features=features,
        table=table,
        digest=fingerprint([cohort.digest, source, data.inputs, table["label"].to_dict()], length=32),
        left_out=bare.left_out | found.left_out,
        perturbed=perturbed,
    )
    return dataset.shuffled(settings.seed) if settings.shuffle_labels else dataset


def labelled(
    cohort: Cohort, data: DataConfig, settings: ClassifierConfig, say: Callable[[str], None] = print
) -> Dataset:
    """Cases with a label and their clinical columns, without features, which take long. Raises as `read_labels`."""
    labels = read_labels(cohort, settings.label, file=settings.labels, enhancing_ml=data.enhancing_ml, say=say)
    cases = sorted(labels.values.index)
    table = cohort.index.loc[cases, [name for name in ("patient_id", *CLINICAL) if name in cohort.index]].copy()
    for name in table.columns.drop("patient_id"):  # unknown is NaN, in plain types that every library accepts
        number = pd.api.types.is_numeric_dtype(table[name])
        table[name] = table[name].to_numpy(float if number else object, na_value=np.nan)
    table.index = pd.Index(cases, name="case_id")
    table.insert(1, "label", labels.values.loc[cases].to_numpy(int))
    patient = table.groupby("patient_id")["label"].transform("max")
    other = table.index[table["label"] < patient]  # one label per patient: positive when any of its scans is
    table = table.drop(other)
    unlike = dict.fromkeys(other, "another scan of the patient has label 1, which is the patient's")
    return Dataset(
        features=pd.DataFrame(index=table.index),
        table=table,
        event=labels.event,
        name=cohort.name,
        phantom=cohort.phantom,
        digest="",
        left_out=labels.missing | unlike,
    )


def feature_settings(radiomics: FeatureConfig | None = None) -> dict[str, str]:
    """Settings of the feature extraction, for the run's record."""
    if radiomics is not None and radiomics.features is not None:
        return dict.fromkeys(("image types", "classes", "binCount"), f"those of {radiomics.features.name}")
    extractor = load_extractor((radiomics and radiomics.parameters) or PARAMETERS)
    types = [
        f"{name} ({'; '.join(f'{key} {_listed(value)}' for key, value in own.items())})" if own else name
        for name, own in extractor.enabledImagetypes.items()
    ]
    return {"image types": ", ".join(types), "classes": ", ".join(extractor.enabledFeatures)} | {
        name: str(extractor.settings.get(name)) for name in ("binCount", "binWidth", "minimumROISize")
    }


def _listed(value: object) -> str:
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)
