"""What a WORC experiment is asked for, what decides on its result, and where its parts lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from lab.config import fingerprint
from lab.data.cohort import Cohort
from lab.radiomics.dataset import Dataset
from lab.radiomics.splits import Split
from lab.radiomics.worc.inputs import Inputs, worc_names
from lab.radiomics.worc.process import Workplace
from lab.radiomics.worc.settings import WorcSettings, configuration

VERSION = 1
"""Raise it when the same settings and features give another result."""
SOFTWARE = ("WORC", "scikit-learn", "xgboost", "imbalanced-learn", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is asked for, and where its parts lie."""

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
        """What decides on the result of every split; neither the number of workers nor the time allowed does."""
        settings = asdict(replace(self.settings, workers=1, timeout_s=1.0))
        images = [self.cohort.digest if self.cohort else "", self.sequences]
        values = pd.util.hash_pandas_object(self.dataset.features).to_numpy().tolist()
        software = [(name, version(name)) for name in SOFTWARE]
        labels = self.dataset.labels.to_dict()
        return [VERSION, settings, images, self.dataset.digest, self.columns, values, labels, software]

    def key(self, *splits: Split) -> str:
        """Digest over all that decides on the result of these splits."""
        shared = fingerprint(self.shared, length=32)
        return fingerprint([shared, [(split.repeat, split.fold, split.train, split.test) for split in splits]], 32)

    def record_path(self, split: Split) -> Path:
        """Where the result of a split lies."""
        return self.base / "splits" / f"{stem(split)}.json"

    def place(self, name: str) -> Workplace:
        """A workplace for one process, and its log."""
        return Workplace(folder=self.base / "work" / name, log=self.base / "logs" / f"{name}.log")

    def job(self, inputs: Inputs, **more: Any) -> dict[str, Any]:
        """What every job of `worc_child` is told."""
        return {
            "patients": str(inputs.patients),
            "cases": list(inputs.codes.values()),
            "y": inputs.labels,
            "features": str(inputs.features),
            "labels": worc_names(self.columns),
            "ensemble": self.settings.ensemble,
            "changes": configuration(self.settings, complete=bool(self.dataset.features.notna().all(axis=None))),
            **more,
        }


def stem(split: Split) -> str:
    """A split's name in file names: "repeat-2-fold-3"."""
    return f"repeat-{split.repeat}-fold-{split.fold}"
