"""What WORC reads: cases under ids that it cannot mistake, features under names that it can group, splits, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lab.data.cohort import TUMOUR, Cohort
from lab.io.scan import write_scan
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
from lab.radiomics.worc.settings import LABEL

MIN_PATIENTS = 10
"""WORC refuses fewer."""
MIN_TRAIN = 4
"""Training cases of either class below which inner splits run out of one."""
KINDS = {"shape": "sf", "firstorder": "hf"}
"""pyradiomics' feature class -> how WORC marks its group; all others are texture, `tf`."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Files for one experiment, and the way back from WORC's ids to ours."""

    folder: Path
    codes: dict[str, str]
    """Case id -> id inside WORC: of one length, so that none is a part of another, and of no path."""
    labels: list[int]

    @property
    def features(self) -> Path:
        """Array `values` (cases, features) of an `.npz` file."""
        return self.folder / "features.npz"

    @property
    def patients(self) -> Path:
        """Id and label, as WORC wants them."""
        return self.folder / "labels.csv"

    def splits(self, name: str, splits: Sequence[Split]) -> Path:
        """Write splits as WORC's columns `0_train`, `0_test`, `1_train`, ..."""
        columns = {}
        for number, split in enumerate(splits):
            for part, cases in (("train", split.train), ("test", split.test)):
                columns[f"{number}_{part}"] = pd.Series([self.codes[case] for case in cases])
        path = self.folder / f"{name}.csv"
        pd.DataFrame(columns).to_csv(path, index=False)
        return path


def check(dataset: Dataset, splits: Sequence[Split]) -> None:
    """Raises ValueError where WORC would refuse, or search on inner splits without a class."""
    patients = dataset.patients.nunique()
    if patients < MIN_PATIENTS:
        raise ValueError(f"{dataset.name} has {patients} patients with features and a label; WORC needs {MIN_PATIENTS}")
    if not splits:
        raise ValueError("no split to train WORC on")
    for split in splits:
        for what, cases, least in (("train", split.train, MIN_TRAIN), ("test", split.test, 1)):
            labels = dataset.labels.loc[list(cases)]
            few = int(min((labels == 0).sum(), (labels == 1).sum()))
            if few < least:
                raise ValueError(
                    f"{split.name}: {few} of {len(labels)} cases to {what} WORC on are of one class, at least {least} "
                    "are needed; take fewer folds, or more patients"
                )
        known = np.isfinite(dataset.features.loc[list(split.train)]).any()
        if not known.all():
            raise ValueError(f"{split.name}: feature {known.index[~known][0]} has no value in any training case")


def write_inputs(dataset: Dataset, folder: Path) -> Inputs:
    """Write features and labels; splits follow when their names are known."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = [str(case) for case in dataset.features.index]
    digits = max(4, len(str(len(cases))))
    letter = next((letter for letter in "pqvwxyz" if f"{letter}0" not in str(folder).lower()), "p")
    codes = {case: f"{letter}{number:0{digits}d}" for number, case in enumerate(cases, start=1)}
    inputs = Inputs(folder=folder, codes=codes, labels=[int(label) for label in dataset.labels])
    np.savez(inputs.features, values=dataset.features.to_numpy(np.float64))
    pd.DataFrame({"Patient": list(codes.values()), LABEL: inputs.labels}).to_csv(inputs.patients, index=False)
    return inputs


def worc_names(columns: Sequence[str]) -> list[str]:
    """Names by which WORC's group-wise selection knows our features: `tf_wavelet_GLCM_00017`.

    Short, because WORC copies all names for every patient in every fit; the number is the column's position.
    """
    names = []
    for position, column in enumerate(columns):
        _, image_type, kind, _ = [*column.split("_", 3), "", "", ""][:4]
        group = "wavelet" if image_type.startswith("wavelet") else "log" if image_type.startswith("log") else "original"
        names.append(f"{KINDS.get(kind, 'tf')}_{group}_{kind.upper()}_{position:05d}")
    return names


def our_name(name: str, columns: Sequence[str]) -> str:
    """The column that a name of `worc_names` stands for, to which WORC may have added the source: `..._00017_M0`."""
    number = next((part for part in name.split("_")[3:] if part.isdigit() and len(part) == 5), "")
    return columns[int(number)] if number else name


def write_images(cohort: Cohort, codes: dict[str, str], sequences: Sequence[str], folder: Path) -> None:
    """A folder for each case with `<sequence>.nii.gz` and `mask.nii.gz`, on the grid of the prepared cohort.

    Raises ValueError for a sequence that the cohort does not have.
    """
    affine = np.diag([cohort.spacing_mm] * 3 + [1.0])
    for case, code in codes.items():
        image, mask = cohort.load(case)
        own = folder / code
        own.mkdir(parents=True, exist_ok=True)
        write_scan(own / "mask.nii.gz", ((mask & TUMOUR) > 0).astype(np.uint8), affine)
        for sequence in sequences:
            values = np.asarray(image[cohort.channel(sequence)], np.float32)
            write_scan(own / f"{sequence}.nii.gz", values, affine)
