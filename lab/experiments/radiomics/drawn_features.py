"""Features of drawn images and probability maps for the classifier: does drawing help?

The networks of a study with folds draw every patient out of fold: a patient's image and map come from a network that
was neither trained nor chosen on this patient. Within a split of the classifier the networks that drew its training
patients have learned from scans of its test patients, with contrast agent, as networks of other folds do. No feature of
a patient depends on that patient's own scan with contrast agent, nor on the classifier's label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lab.config import ClassifierConfig
from lab.data.cohort import TUMOUR, Cohort
from lab.data.source import Say
from lab.experiments.radiomics.experiment import ExperimentData
from lab.experiments.radiomics.synthesis_baseline import network_runs
from lab.inference.calibrate import check_fits, predicted_cases
from lab.inference.load import Networks, from_packages
from lab.io.case_file import write_atomically
from lab.io.files import plural
from lab.io.pool import run_all
from lab.io.sealed_json import fingerprint
from lab.radiomics.baselines import with_drawn
from lab.radiomics.dataset import Dataset
from lab.radiomics.features.case_features import measure_part, software
from lab.radiomics.features.image_features import PARAMETERS, load_extractor
from lab.radiomics.features.masks import PERTURBATIONS
from lab.synthesis.device import choose, use_threads
from lab.tracking.artifacts import SPLIT, TEST_PATIENTS, Tag
from lab.tracking.models.network import download_package
from lab.tracking.run import Run

MAPS = {"drawn": "drawn image", "probability": "probability map"}
"""Prefix of the features of a map -> what a method that reads them is called after."""
PLAIN = "none"
"""Name of the mask as it is, among `PERTURBATIONS`."""
CAUTION = (
    "Drawn images and probability maps come from networks that were not trained or chosen on the patient; they have "
    "learned from scans with contrast agent of other patients, a split's test patients among them."
)


@dataclass(frozen=True, kw_only=True)
class MapsJob:
    """The measurement of one case's maps, to run in its own process."""

    maps: Mapping[str, np.ndarray]
    """Prefix -> map (X, Y, Z)."""
    tumour: np.ndarray
    """The mask (X, Y, Z) bool."""
    spacing_mm: float
    perturbations: Sequence[str]
    parameters: Path

    def run(self) -> dict[str, dict[str, float]]:
        """Mask perturbation -> features; those of a map that cannot be measured are missing."""
        extractor = load_extractor(self.parameters)
        found: dict[str, dict[str, float]] = {}
        for name in self.perturbations:
            tumour = PERTURBATIONS[name](self.tumour)
            features: dict[str, float] = {}
            for part, values in self.maps.items():
                try:
                    features |= measure_part(part, values, tumour, self.spacing_mm, extractor)
                except ValueError:
                    continue  # as a map that is 0 all over the tumour
            found[name] = features
        return found


def drawn_datasets(name: str, data: ExperimentData, cache: Path, say: Say = print) -> dict[str, Dataset]:
    """Method -> the classifier's data set with the features of one kind of map beside its own.

    `name` is as in `synthetic_scores`; the networks of its first seed draw. Measured features are kept in the folder
    `cache`. Raises ValueError where the study is of another cohort, or a patient has no network that has not seen them.
    """
    dataset = data.dataset
    tables = [
        measured_maps(run, cases, data, cache, say) for run, cases in out_of_fold(name, dataset, data.cohort).items()
    ]
    whole = pd.concat(tables).set_index(["perturbation", "case_id"])
    found = {}
    for part, title in MAPS.items():
        columns = [column for column in whole if column.startswith(f"{part}_")]
        if columns:
            plain = whole.loc[PLAIN, columns].loc[dataset.features.index]
            changed = {
                mask: table.join(whole.loc[mask, columns].loc[table.index]) for mask, table in dataset.perturbed.items()
            }
            found[with_drawn(title)] = dataclasses.replace(
                dataset, features=dataset.features.join(plain), perturbed=changed
            )
    return found


def out_of_fold(name: str, dataset: Dataset, cohort: Cohort) -> dict[Run, list[str]]:
    """Runs of a network, one for each fold, and the cases of the data set that each has not seen.

    Raises ValueError as `drawn_datasets`.
    """
    first: dict[int, Run] = {}
    for run in network_runs(name):
        if run.has_file(TEST_PATIENTS):
            first.setdefault(int(run.tags.get(Tag.FOLD, 1)), run)
    found: dict[Run, list[str]] = {}
    for run in first.values():
        if run.tags.get(Tag.COHORT) != cohort.digest:
            raise ValueError(
                f"--synthesis {name}: its networks learned from another cohort (digest "
                f"{str(run.tags.get(Tag.COHORT))[:12]}, here {cohort.digest[:12]}); run the study on these patients "
                "with the same preparation"
            )
        split = run.read_table(SPLIT)
        unseen = set(split.loc[split["split"] == "test", "case_id"].astype(str))
        found[run] = [case for case in dataset.table.index if case in unseen]
    covered = {case for cases in found.values() for case in cases}
    missing = [case for case in dataset.table.index if case not in covered]
    if missing:
        raise ValueError(
            f"--synthesis {name}: {len(missing)} of {plural(len(dataset.table), 'case')}, such as {missing[0]}, have "
            "no network that has not seen them; --drawn needs a study with --folds, come to its end"
        )
    return found


def measured_maps(run: Run, cases: Sequence[str], data: ExperimentData, cache: Path, say: Say) -> pd.DataFrame:
    """Features of the maps that a run's network draws of cases: columns perturbation, case_id, and the features."""
    package = download_package(run.tags[Tag.MODEL])
    perturbed = {case for table in data.dataset.perturbed.values() for case in table.index}
    masks = [PLAIN, *(name for name in data.dataset.perturbed if name != PLAIN)]
    parameters = data.settings.radiomics.parameters or PARAMETERS
    recipe = [package.weights_sha256, data.cohort.digest, parameters.read_text(), software(), list(cases)]
    file = cache / f"drawn-{fingerprint([*recipe, sorted(perturbed), masks], length=20)}.csv"
    if file.is_file():
        return pd.read_csv(file, dtype={"case_id": str})
    use_threads(1)
    arithmetic = choose("auto", "auto")
    networks: Networks = from_packages([(package, {"model": run.tags[Tag.MODEL], "run_id": run.id})], arithmetic)
    check_fits(networks, data.cohort)
    jobs: dict[str, MapsJob] = {}
    for case in predicted_cases(networks, data.cohort, cases, arithmetic, [1]):
        maps = {"drawn": case.image, "probability": case.place}
        jobs[case.case_id] = MapsJob(
            maps={name: one for name, one in maps.items() if one is not None},
            tumour=(case.flags & TUMOUR) > 0,
            spacing_mm=data.cohort.spacing_mm,
            perturbations=masks if case.case_id in perturbed else [PLAIN],
            parameters=parameters,
        )
    say(f"  measuring what {run.name} drew of {plural(len(jobs), 'case')} that it had not seen")
    rows = [
        {"perturbation": mask, "case_id": case, **features}
        for case, found in run_all(jobs, data.settings.classifier.workers)
        for mask, features in (found or {PLAIN: {}}).items()
    ]
    table = pd.DataFrame(rows).sort_values(["perturbation", "case_id"], ignore_index=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, table.to_csv(index=False).encode())
    return table


def drawn_methods(
    name: str, data: ExperimentData, cache: Path, say: Say = print
) -> dict[str, tuple[Dataset, ClassifierConfig]]:
    """Method -> data set and settings, those of our classifier, for `run_splits`. Raises as `drawn_datasets`."""
    found = drawn_datasets(name, data, cache, say)
    return {method: (dataset, data.settings.classifier) for method, dataset in found.items()}
