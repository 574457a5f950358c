"""Settings and input files of a WORC experiment: unambiguous ids, and feature names that WORC can group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab.data.cohort import TUMOUR, Cohort
from lab.io.scan import write_scan
from lab.io.sealed_json import fingerprint
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
from lab.radiomics.worc.process import Workplace
from lab.radiomics.worc.settings import LABEL, WorcSettings, configuration

VERSION = 1  # increase it when the same settings and features give another result
SOFTWARE = ("WORC", "scikit-learn", "xgboost", "imbalanced-learn", "numpy", "scipy")

MIN_PATIENTS = 10  # WORC refuses fewer patients
MIN_TRAIN = 4  # training cases per class; with fewer, an inner split may lack a class
OWN_NAME = re.compile(r"[^_]+_([^_]+)_(shape|shape2D|firstorder|glcm|glrlm|glszm|gldm|ngtdm)_[^_]+$")
TEXTURE = re.compile("GLCM(?!MS)|GLRLM|GLSZM|GLDM|NGTDM", re.IGNORECASE)
KINDS = {"shape": "sf", "firstorder": "hf"}  # feature class of pyradiomics -> WORC's prefix; texture is `tf`


@dataclass(frozen=True, kw_only=True)
class WorcPlan:
    """The request of a WORC experiment, and the paths of its files."""

    dataset: Dataset
    splits: tuple[Split, ...]
    base: Path
    settings: WorcSettings
    cohort: Cohort | None
    sequences: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Our names of the features."""
        return [str(column) for column in self.dataset.features.columns]

    @cached_property
    def shared(self) -> list[Any]:
        """Everything that determines the result of all splits; neither workers nor time limit do."""
        settings = asdict(replace(self.settings, workers=1, timeout_s=1.0))
        images = [self.cohort.digest if self.cohort else "", self.sequences]
        values = pd.util.hash_pandas_object(self.dataset.features).to_numpy().tolist()
        software = [(name, version(name)) for name in SOFTWARE]
        labels = self.dataset.labels.to_dict()
        return [VERSION, settings, images, self.dataset.digest, self.columns, values, labels, software]

    def key(self, *splits: Split) -> str:
        """Digest of everything that determines the result of these splits."""
        shared = fingerprint(self.shared, length=32)
        return fingerprint([shared, [(split.repeat, split.fold, split.train, split.test) for split in splits]], 32)

    def record_path(self, split: Split) -> Path:
        """Path of a split's result."""
        return self.base / "splits" / f"{stem(split)}.json"

    def place(self, name: str) -> Workplace:
        """The workplace of one process, with its log."""
        return Workplace(folder=self.base / "work" / name, log=self.base / "logs" / f"{name}.log")

    def job(self, inputs: Inputs, **more: Any) -> dict[str, Any]:
        """The part that all jobs of `lab.radiomics.worc.child` share, with `more` added."""
        changes = configuration(self.settings, complete=bool(self.dataset.features.notna().all(axis=None)))
        files = {"patients": str(inputs.patients), "features": str(inputs.features)}
        cases = {"cases": list(inputs.codes.values()), "y": inputs.labels, "labels": worc_names(self.columns)}
        return {**files, **cases, "ensemble": self.settings.ensemble, "changes": changes, **more}


def stem(split: Split) -> str:
    """A split's name in file names: "repeat-2-fold-3"."""
    return f"repeat-{split.repeat}-fold-{split.fold}"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Files of one experiment, and the mapping between our ids and WORC's."""

    folder: Path
    codes: dict[str, str]  # case id -> id inside WORC: of one length, so that none is part of another, and in no path
    labels: list[int]

    @property
    def features(self) -> Path:
        """Path of an `.npz` file with the array `values` (cases, features)."""
        return self.folder / "features.npz"

    @property
    def patients(self) -> Path:
        """Path of a CSV file with ids and labels in WORC's format."""
        return self.folder / "labels.csv"

    def splits(self, name: str, splits: Sequence[Split]) -> Path:
        """Write splits with WORC's columns `0_train`, `0_test`, `1_train`, ...; returns the path."""
        columns = {}
        for number, split in enumerate(splits):
            for part, cases in (("train", split.train), ("test", split.test)):
                columns[f"{number}_{part}"] = pd.Series([self.codes[case] for case in cases])
        path = self.folder / f"{name}.csv"
        pd.DataFrame(columns).to_csv(path, index=False)
        return path


def check_cases(dataset: Dataset, splits: Sequence[Split]) -> None:
    """Raises ValueError if WORC would refuse the cases, or if an inner split could lack a class."""
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
                found = f"{few} of {len(labels)} cases to {what} WORC on are of one class, at least {least} are needed"
                raise ValueError(f"{split.name}: {found}; take fewer folds, or more patients")
        known = np.isfinite(dataset.features.loc[list(split.train)]).any()
        if not known.all():
            raise ValueError(f"{split.name}: feature {known.index[~known][0]} has no value in any training case")


def write_inputs(dataset: Dataset, folder: Path) -> Inputs:
    """Write features and labels to `folder`; `Inputs.splits` writes the splits."""
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
    """Short names of features by WORC's groups and position, `tf_wavelet_GLCM_00017`: WORC copies all in every fit."""
    return [_worc_name(column, position) for position, column in enumerate(columns)]


def _own_parts(column: str) -> tuple[str, str]:
    """Image type and class of a feature by our or pyradiomics' name; of any other the nearest group that WORC searches.

    Groups without a counterpart in pyradiomics are switched off (`GROUPS`), so PREDICT's features count as histogram,
    texture or shape.
    """
    found = OWN_NAME.match(column) or OWN_NAME.match(f"own_{column}")  # pyradiomics' names lack the sequence
    if found:
        return found[1], found[2]
    texture = TEXTURE.search(column)
    return "original", texture[0] if texture else "shape" if column.startswith("sf_") else "firstorder"


def our_name(name: str, columns: Sequence[str]) -> str:
    """The column of a name from `worc_names`, to which WORC may have added a suffix: `..._00017_M0`.

    Names of features that WORC measured itself stay as they are, whatever number they hold.
    """
    number = next((int(part) for part in name.split("_")[3:] if part.isdigit() and len(part) == 5), len(columns))
    known = number < len(columns) and name.startswith(_worc_name(columns[number], number))
    return columns[number] if known else name


def _worc_name(column: str, position: int) -> str:
    image_type, kind = _own_parts(column)
    group = "wavelet" if image_type.startswith("wavelet") else "log" if image_type.startswith("log") else "original"
    return f"{KINDS.get(kind, 'tf')}_{group}_{kind.upper()}_{position:05d}"


def write_images(cohort: Cohort, codes: dict[str, str], sequences: Sequence[str], folder: Path) -> None:
    """A folder per case with `<sequence>.nii.gz`, `mask.nii.gz`. Raises ValueError for a sequence the cohort lacks."""
    affine = np.diag([cohort.spacing_mm] * 3 + [1.0])
    for case, code in codes.items():
        image, mask = cohort.load(case)
        own = folder / code
        own.mkdir(parents=True, exist_ok=True)
        write_scan(own / "mask.nii.gz", ((mask & TUMOUR) > 0).astype(np.uint8), affine)
        for sequence in sequences:
            values = np.asarray(image[cohort.channel(sequence)], np.float32)
            write_scan(own / f"{sequence}.nii.gz", values, affine)
