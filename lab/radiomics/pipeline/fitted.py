"""The fitted classifier for new patients: prediction with interval and Mahalanobis distance, saving and loading.

On disk it is `model.skops`, read without unpickling and with trusted types only, and `final.json`, readable text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import platform
import warnings
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from scipy.special import expit
from sklearn.pipeline import Pipeline
from skops.io.exceptions import UntrustedTypesFoundException

from lab.io.case_file import file_sha256, write_atomically
from lab.io.sealed_json import parse_json, seal, unseal
from lab.radiomics.assess.outer_estimate import UNKNOWN, OuterEstimate
from lab.radiomics.pipeline.cleaning import finite
from lab.radiomics.pipeline.ensemble import Ensemble, single
from lab.radiomics.pipeline.mahalanobis import FAR, MahalanobisDistance
from lab.radiomics.pipeline.search_space import Params
from lab.radiomics.pipeline.steps import pipeline_score
from lab.stats.intervals import Z
from lab.stats.platt import Line

MODEL, FACTS = "model.skops", "final.json"
TRUSTED = (  # types that a model may hold beyond skops' own list; a file with any other type is not opened
    "lab.radiomics.pipeline.cleaning.MedianImputer",
    "lab.radiomics.pipeline.cleaning.Scaler",
    "lab.radiomics.pipeline.combat.ComBat",
    "sklearn.tree._tree.Tree",
)
SOFTWARE = ("scikit-learn", "skops", "numpy", "pandas", "pyradiomics")
FORMAT, SINGLE = 2, 1  # a model file's format; before averages it held one pipeline
DISTANCE = ("mean", "sd", "precision", "reference")
PERFORMANCE = ("auc", "auc_low", "auc_high", "calibration_slope", "prevalence")
"""Facts about the classifier that stand in every row of its predictions."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Properties of a final classifier, as values that JSON can hold."""

    event: str
    features: tuple[str, ...]  # columns that `predict` needs, including the batch column
    combat: str
    averaged: tuple[Params, ...]  # the settings whose calibrated logits are averaged, the best first
    inner_auc: float  # mean over inner folds, of the best of many trials, so biased upwards; quote `outer`
    threshold: float
    patients: int
    events: int
    dataset: str
    digest: str
    phantom: bool
    parameters_sha256: str  # digest of the file of feature settings; "" if none was given
    spacing_mm: float | None  # voxel size at which the features were measured
    covers: str  # what the interval of a prediction covers, in words
    outer: OuterEstimate | None = None  # performance of such classifiers on held-out patients; None if it is unknown

    @property
    def caution(self) -> str:
        """Warning to show beside every prediction, or ""."""
        return UNKNOWN if self.outer is None else self.outer.doubt

    def as_dict(self) -> dict[str, Any]:
        """Plain values for users of the model, with the outer AUC and without the inner one."""
        known = dataclasses.asdict(self)
        outer = known.pop("outer") or {item.name: None for item in dataclasses.fields(OuterEstimate)}
        known.pop("inner_auc")
        known |= {"params": self.averaged[0], "averaged": len(self.averaged)}
        return {**known, **outer, "prevalence": self.prevalence, "caution": self.caution}

    @property
    def prevalence(self) -> float:
        """Share of the training patients with the event."""
        return self.events / self.patients

    def describe(self) -> str:
        """Performance on held-out patients and the prevalence in training, to tell beside every prediction."""
        known = "AUC on held-out patients unknown" if self.outer is None else self.outer.describe()
        share = f"{self.events} of {self.patients} patients ({self.prevalence:.0%})"
        return f"{known}; in training {share} were {self.event}"


@dataclass(frozen=True, kw_only=True)
class Final:
    """A fitted classifier with everything that a new patient's prediction needs."""

    model: Ensemble
    line: Line
    refits: tuple[tuple[Ensemble, Line], ...]
    distance: MahalanobisDistance
    facts: Facts

    def predict(
        self, features: pd.DataFrame, *, parameters: Path | None = None, spacing_mm: float | None = None
    ) -> pd.DataFrame:
        """One row per case: probability, low, high, positive, novelty, far, strangest, caution, and `PERFORMANCE`.

        The index is that of `features`.

        `positive` is None where `caution` says that the AUC was not shown to be above chance. `novelty` is the share of
        training cases with a smaller Mahalanobis distance to the others, `far` (OOD) means more than 0.975, and
        `strangest` names features beyond 3 SDs and missing ones. Raises ValueError if a column is missing, and if the
        given feature settings or spacing differ from those of training.
        """
        self._check(features, parameters, spacing_mm)
        cases = features[list(self.facts.features)]
        logits = self.line.logits(pipeline_score(self.model, cases))
        draws = np.stack([line.logits(pipeline_score(model, cases)) for model, line in self.refits])  # (refits, cases)
        reach = Z * draws.std(axis=0, ddof=1)
        seen = self.model.known(cases)
        percentiles, names = self.distance.percentiles(seen), np.array(self.distance.features)
        missing = ~np.isfinite(finite(cases[list(names)]))
        outlying = [
            "; ".join([text] * bool(text) + [f"{name} is missing" for name in names[gaps]])
            for text, gaps in zip(self.distance.outlying(seen), missing)
        ]
        probability = expit(logits)
        positive = pd.Series([None] * len(cases), cases.index, dtype=object)
        if not self.facts.caution:
            positive = probability >= self.facts.threshold
        table = {"probability": probability, "low": expit(logits - reach), "high": expit(logits + reach)}
        table |= {"positive": positive, "novelty": percentiles, "far": percentiles > FAR, "strangest": outlying}
        known_facts = self.facts.as_dict()
        table |= {"caution": self.facts.caution} | {name: known_facts[name] for name in PERFORMANCE}
        return pd.DataFrame(table, index=features.index)

    def _check(self, features: pd.DataFrame, parameters: Path | None, spacing_mm: float | None) -> None:
        facts = self.facts
        missing = [name for name in facts.features if name not in features.columns]
        if missing:
            count = f"{len(missing)} of the {len(facts.features)} features of the classifier are missing"
            raise ValueError(f"{count}, such as {missing[0]}: extract them from the sequences that it was trained on")
        if parameters is not None and facts.parameters_sha256 not in ("", file_sha256(parameters)):
            raise ValueError(f"{parameters}: the classifier was trained on features with other settings than these")
        if spacing_mm is not None and facts.spacing_mm is not None and abs(spacing_mm - facts.spacing_mm) > 1e-6:
            what = f"measured at {spacing_mm:g} mm, the classifier was trained at {facts.spacing_mm:g} mm"
            raise ValueError(f"the features were {what}: prepare the case with that spacing")

    def save(self, folder: Path) -> int:
        """Write both files into a folder, created if missing; returns their size in bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self.distance, name) for name in DISTANCE}
        models = [self.model, *(one for one, _ in self.refits)]
        content = {"models": [{"clean": one.clean, "members": list(one.members)} for one in models], "novelty": arrays}
        model = skops.io.dumps(content, compression=zipfile.ZIP_DEFLATED, compresslevel=6)
        record = {
            "format": FORMAT,
            "facts": dataclasses.asdict(self.facts),
            "line": dataclasses.asdict(self.line),
            "refit_lines": [dataclasses.asdict(line) for _, line in self.refits],
            "member_lines": [[dataclasses.asdict(line) for line in one.lines] for one in models],
            "novelty_features": list(self.distance.features),
            "model_sha256": hashlib.sha256(model).hexdigest(),
            "software": {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
        }
        text = json.dumps(seal(record), indent=1, allow_nan=False).encode()
        write_atomically(folder / MODEL, model)
        write_atomically(folder / FACTS, text)
        return len(model) + len(text)

    @classmethod
    def load(cls, folder: Path) -> Final:
        """The classifier written by `save`.

        Raises ValueError, with the file's name, for a file that is not a classifier, was changed or damaged, holds an
        untrusted type, or was written with another minor version of scikit-learn; OSError if it cannot be read. The
        digest detects damage only: against a forger of both files only the list of trusted types protects.
        """
        record = _read_record(folder / FACTS)
        path = folder / MODEL
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != record["model_sha256"]:
            raise ValueError(f"{path}: not the file that {FACTS} beside it was written with; save the classifier again")
        content = _open_model(data, path)
        try:
            facts = {**record["facts"], "features": tuple(record["facts"]["features"])}
            before_averages = record["format"] == SINGLE
            facts["averaged"] = (facts.pop("params"),) if before_averages else tuple(facts["averaged"])
            facts["outer"] = OuterEstimate.read(facts.get("outer"))
            lines = [Line(**line) for line in record["refit_lines"]]
            model, *refits = _models(content, record)
            if len(lines) != len(refits):
                raise ValueError(f"{MODEL} has {len(refits)} refits, and {FACTS} {len(lines)} lines")
            return cls(
                model=model,
                line=Line(**record["line"]),
                refits=tuple(zip(refits, lines)),
                distance=MahalanobisDistance(features=tuple(record["novelty_features"]), **content["novelty"]),
                facts=Facts(**facts),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{folder / FACTS}: not that of a classifier of this program ({error})") from None


def _models(content: dict[str, Any], record: dict[str, Any]) -> list[Ensemble]:
    """The model and its refits from both files. Raises ValueError where these do not fit together."""
    if record["format"] == SINGLE:
        return [single(pipeline) for pipeline in (content["pipeline"], *content["refits"])]
    lines = [tuple(Line(**line) for line in own) for own in record["member_lines"]]
    found = [
        Ensemble(clean=one["clean"], members=tuple(one["members"]), lines=own)
        for one, own in zip(content["models"], lines, strict=True)
    ]
    if any(len(one.members) != len(one.lines) for one in found):
        raise ValueError(f"{MODEL} has other numbers of averaged settings than {FACTS} has lines for them")
    return found


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = unseal(parse_json(path.read_bytes()))
        found, written = record["format"], str(record["software"]["scikit-learn"])
        record["model_sha256"], record["facts"]["features"]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: not the description of a classifier as it was saved ({reason})") from None
    if found not in (FORMAT, SINGLE):
        raise ValueError(f"{path}: format {found}, this program reads {FORMAT}; fit the classifier again")
    here = version("scikit-learn")
    if written.split(".")[:2] != here.split(".")[:2]:
        raise ValueError(f"{path}: written with scikit-learn {written}, here is {here}; install that or fit it again")
    measured, installed = record["software"].get("pyradiomics"), None
    with contextlib.suppress(PackageNotFoundError):
        installed = version("pyradiomics")
    if measured != installed:
        text = f"{path}: trained on features of pyradiomics {measured}, here is {installed or 'none'}"
        warnings.warn(text, stacklevel=3)
    return record


def _renamed(data: bytes) -> bytes:
    """The content of a model file, with today's class names if version 0.4.0 or older wrote it."""
    with zipfile.ZipFile(BytesIO(data)) as file:
        parts = {item: file.read(item) for item in file.infolist()}
    found = BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        for item, content in parts.items():
            schema = item.filename == "schema.json"
            file.writestr(item, content.replace(b"lab.classify.", b"lab.radiomics.pipeline.") if schema else content)
    return found.getvalue()


def _open_model(data: bytes, path: Path) -> dict[str, Any]:
    """The objects of a skops file. Raises ValueError if one has an untrusted type."""
    try:
        content = skops.io.loads(_renamed(data), trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise ValueError(f"{path}: holds types that a classifier has no use for, and is not opened ({error})") from None
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise ValueError(f"{path}: damaged, or not a model file ({type(error).__name__}: {error})") from None
    models = content.get("models", [content]) if isinstance(content, dict) else []
    firsts = [one.get("clean", one.get("pipeline")) for one in models if isinstance(one, dict)]
    if not firsts or not all(isinstance(first, Pipeline) for first in firsts):
        raise ValueError(f"{path}: not a classifier of this program")
    return content
