"""The prepared cohort on disk: index, classes, split by patient, digest; complete once it has `manifest.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lab.config import COVARIATES
from lab.io.case_file import BRAIN, ENHANCEMENT, EXPERT, TUMOUR, file_sha256, read_case
from lab.io.sealed_json import fingerprint, read_sealed

if TYPE_CHECKING:
    from lab.data.normalisation import Normalisation

__all__ = ["BRAIN", "ENHANCEMENT", "EXPERT", "TUMOUR", "Cohort", "is_cohort", "open_cohort", "split_patients"]

FORMAT = "gadfree prepared cohort"
PARTS = ("train", "val", "test")
COLUMNS = {  # columns of `index.csv`; an empty cell is unknown
    "case_id": "string",
    "patient_id": "string",
    "status": "string",
    "reason": "string",
    "enhancing": "Int64",
    "enhancing_by": "string",
    "label_book": "string",
    "tumour_ml": "Float64",
    "label_enhancing_ml": "Float64",
    "rule_enhancing_ml": "Float64",
    "brain_ml": "Float64",
    "brain_outside_ml": "Float64",
    "grade": "Int64",
    "age": "Float64",
    "sex": "string",
    "idh": "Int64",
    "codeletion": "Int64",
    "vendor": "string",
    "field_strength_t": "Float64",
    "remarks": "string",
    "duplicate_of": "string",
    "sha256": "string",
}


@dataclass(frozen=True)
class Cohort:
    """Prepared cases of one recipe, or a part of them."""

    path: Path
    index: pd.DataFrame  # used cases, indexed by case id, with the other columns of `COLUMNS`; `enhancing` is bool,
    # False where `enhancing_by` is `unknown`
    manifest: dict[str, Any]
    normalisation: Normalisation | None = None  # of a network's inputs; None leaves the prepared z-scores

    @property
    def channels(self) -> tuple[str, ...]:
        """Sequences along the first axis of an image."""
        return tuple(self.manifest["channels"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (X, Y, Z) of every case."""
        x, y, z = self.manifest["shape"]
        return x, y, z

    @property
    def spacing_mm(self) -> float:
        """Edge of a voxel."""
        return float(self.manifest["spacing_mm"])

    @property
    def phantom(self) -> bool:
        """Whether these are digital phantoms, not patients."""
        return bool(self.manifest["phantom"])

    @property
    def dataset(self) -> str:
        """Title of the data set: "EGD", "BraTS 2023"; "scans of unknown origin" where the manifest has none."""
        layout = self.manifest.get("layout")
        if not layout:
            return "scans of unknown origin"
        from lab.data.layouts.find import LAYOUTS  # a late import: it reads scans

        return LAYOUTS[layout].title if layout in LAYOUTS else str(layout)

    @property
    def name(self) -> str:
        """The data set and the folder of the scans: "BraTS 2023 (brats2023-2mm)"."""
        folder = Path(self.manifest.get("source") or self.path).name
        return f"{self.dataset} ({folder})" if self.manifest.get("layout") else folder

    @cached_property
    def digest(self) -> str:
        """32 hex digits over settings and contents; a part of a cohort has another digest than the whole."""
        whole = self.manifest["digest"]
        if len(self.index) == self.manifest["counts"]["used"]:
            return whole
        return fingerprint([whole, sorted(self.index.index)], length=32)

    def labelled(self, case_id: str) -> bool:
        """Whether a case has an expert's label of enhancement."""
        return "expert" in str(self.index.loc[case_id, "enhancing_by"])

    def labelled_by(self) -> str:
        """What says that a tumour enhances: `expert label`, `paper's rule`, or both where some cases have no label."""
        return " or ".join(sorted(self.index["enhancing_by"].unique()))

    def channel(self, sequence: str) -> int:
        """Position of a sequence along the first axis, in any capitals. Raises ValueError."""
        names = [name.upper() for name in self.channels]
        if sequence.upper() not in names:
            known = ", ".join(self.channels)
            raise ValueError(f"{self.path} has no {sequence} (channels: {known}); prepare it with --inputs")
        return names.index(sequence.upper())

    def clinical(self, case_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Age, sex, grade, IDH and 1p/19q of each case by name, None for unknown."""
        rows = self.index.reindex(columns=list(COVARIATES)).loc[list(case_ids)].astype(object)
        return [dict(zip(COVARIATES, row)) for row in rows.where(rows.notna(), None).to_numpy()]

    def load(self, case_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Image (C, X, Y, Z) float16 in [-1, 1] and mask (X, Y, Z) uint8 of flags, both read-only views of the file.

        With a `normalisation` the image is a copy, normalised by it.
        A process checks the voxels against the index on its first load of a case. Raises KeyError for an unknown case,
        ValueError for a missing, damaged or altered file.
        """
        if case_id not in self.index.index:
            raise KeyError(f"{case_id} is not among the {len(self.index)} cases of {self.path}")
        path = case_path(self.path, case_id)
        image, mask = read_case(path, case_id, self.index.at[case_id, "sha256"])
        if image.shape != (len(self.channels), *self.shape) or mask.shape != self.shape:
            found = f"an image of {image.shape} and a mask of {mask.shape} voxels"
            expected = f"manifest.json says {len(self.channels)} channels of {self.shape}"
            raise ValueError(f"{path} holds {found}, {expected}; run prepare again")
        return image if self.normalisation is None else self.normalisation.apply(image, self.channels), mask

    def split(self, fractions: tuple[float, float, float], seed: int) -> pd.DataFrame:
        """Table `case_id, patient_id, enhancing, split`, sorted by case id; see `split_patients`."""
        return self._table(split_patients(self._patients(), fractions, seed))

    def folds(self, count: int, fractions: tuple[float, float, float], seed: int) -> list[pd.DataFrame]:
        """A table as from `split` for each fold of a cross-validation; see `fold_patients`."""
        return [self._table(parts) for parts in fold_patients(self._patients(), count, fractions, seed)]

    def balanced(self, seed: int) -> Cohort:
        """The cohort with equal classes: some patients of the larger go. Raises ValueError where one is empty."""
        patients = self._patients()
        classes = [np.sort(np.array(patients.index[patients == enhancing])) for enhancing in (False, True)]
        size = min(len(members) for members in classes)
        if size == 0:
            count = f"{int(patients.sum())} of {len(patients)} patients enhance"
            raise ValueError(f"{self.path}: {count}; there is nothing to balance")
        rng = np.random.default_rng([seed, 1])
        kept = np.concatenate([rng.permutation(members)[:size] for members in classes])
        return dataclasses.replace(self, index=self.index[self.index["patient_id"].isin(kept)])

    def _table(self, parts: dict[str, str]) -> pd.DataFrame:
        """The part of every case, from the part of every patient."""
        table = self.index[["patient_id", "enhancing"]].sort_index().reset_index()
        table["split"] = table["patient_id"].map(parts)
        return table

    def _patients(self) -> pd.Series:
        """Whether each patient enhances, by patient id."""
        return self.index.groupby("patient_id")["enhancing"].any()


def case_path(folder: Path, case_id: str) -> Path:
    """Path of a prepared case in a cohort's folder."""
    return folder / "cases" / f"{case_id}.safetensors"


def is_cohort(path: Path) -> bool:
    """Whether `path` is a completely prepared cohort, possibly with a damaged manifest."""
    manifest = Path(path) / "manifest.json"
    try:
        return read_sealed(manifest).get("format") == FORMAT
    except OSError:
        return False
    except ValueError:
        return (Path(path) / "cases").is_dir()


def open_cohort(path: Path) -> Cohort:
    """The prepared cohort in `path`. Raises FileNotFoundError, and ValueError where unfinished, altered or damaged."""
    from lab.data.prepare_worker import VERSION  # it reads scans, which training does not need

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not is_cohort(path):
        begun = (path / "cases").is_dir()
        hint = "its preparation did not finish; run prepare again" if begun else "no manifest.json in it"
        raise ValueError(f"{path} is not a prepared cohort ({hint})")
    manifest = read_sealed(path / "manifest.json")
    if manifest.get("version") != VERSION or "tables" not in manifest:
        raise ValueError(f"{path} was prepared by another version of this program, with other cases; run prepare again")
    for file, digest in ((path / name, digest) for name, digest in manifest["tables"].items()):
        if not file.is_file():
            raise ValueError(f"{file} is missing; run prepare again")
        if file_sha256(file) != digest:
            raise ValueError(
                f"{file} was changed after the cohort was prepared, by hand or by a spreadsheet program; put the old "
                "file back, or correct the table of the scans and run prepare again"
            )
    table = read_index(path / "index.csv")
    used = table[table["status"] == "used"].drop(columns=["status", "reason"])
    absent = [case_id for case_id in used["case_id"] if not case_path(path, case_id).is_file()]
    if absent:
        raise ValueError(f"{case_path(path, absent[0])} is missing; put it back or run prepare again")
    used["enhancing"] = used["enhancing"].fillna(0).astype(bool)
    return Cohort(path, used.set_index("case_id"), manifest)


def read_index(path: Path) -> pd.DataFrame:
    """`index.csv` with all subjects, used and left out. Raises ValueError where it is missing or damaged."""
    try:
        table = pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values=[""], encoding="utf-8")
        return table[list(COLUMNS)]
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; run prepare again") from None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); run prepare again") from None


def split_patients(enhancing: pd.Series, fractions: tuple[float, float, float], seed: int) -> dict[str, str]:
    """Part (train, val or test) of each patient, drawn at random and stratified by `enhancing` (bool by patient id).

    Sizes follow the fractions by largest remainder. With three patients or more no part with a fraction above 0 is
    empty, and with three or more in the smaller class each such part has one of them. Raises ValueError for wrong
    fractions.
    """
    check_fractions(fractions)
    rng = np.random.default_rng(seed)
    classes = sorted((np.sort(np.array(enhancing.index[enhancing == value])) for value in (False, True)), key=len)
    sizes = _apportion(len(enhancing), np.array(fractions))
    smaller = np.minimum(_apportion(len(classes[0]), sizes / max(1, sizes.sum())), sizes)
    parts: dict[str, str] = {}
    for members, counts in zip(classes, (smaller, sizes - smaller)):
        names = np.repeat(PARTS, counts)
        parts |= dict(zip(rng.permutation(members), names))
    return parts


def fold_patients(
    enhancing: pd.Series, count: int, fractions: tuple[float, float, float], seed: int
) -> list[dict[str, str]]:
    """Part of each patient in each of `count` folds: every patient is in `test` once.

    Folds are stratified by `enhancing` (bool by patient id) and differ by one patient at most. The other patients are
    split into `train` and `val` by the first two fractions. Raises ValueError for fewer than 2 folds or too few
    patients.
    """
    check_fractions(fractions)
    most = len(enhancing) - 2
    if not 2 <= count <= most:
        raise ValueError(f"--folds {count}: from 2 to {most} are possible with {len(enhancing)} patients")
    if min(fractions[:2]) <= 0:
        raise ValueError(f"--data.split {fractions}: folds need a share of train and of val patients")
    rng = np.random.default_rng([seed, 2])
    dealt = np.concatenate([rng.permutation(np.sort(np.array(enhancing.index[enhancing == v]))) for v in (True, False)])
    shares = (fractions[0] / sum(fractions[:2]), fractions[1] / sum(fractions[:2]), 0.0)
    folds = []
    for fold in range(count):
        tested = dict.fromkeys(dealt[fold::count], "test")
        rest = split_patients(enhancing.drop(index=list(tested)), shares, seed + 1 + fold)
        folds.append(rest | tested)
    return folds


def check_fractions(fractions: tuple[float, float, float]) -> None:
    """Raises ValueError unless these are three parts of 1."""
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"--split {fractions} must be three fractions (train, val, test) that add up to 1")


def _apportion(count: int, fractions: np.ndarray) -> np.ndarray:
    """Sizes of the parts of `count` by largest remainder; from 3 on, no part with a fraction above 0 is empty."""
    exact = count * fractions
    sizes = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(sizes - exact, kind="stable")
    sizes[order[: count - sizes.sum()]] += 1
    if count >= 3:
        for part in np.flatnonzero((sizes == 0) & (fractions > 0)):
            sizes[sizes.argmax()] -= 1
            sizes[part] += 1
    return sizes
