"""What a study is, and a study made out on one cohort: plain data that a worker process can be handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from lab.config import Config
from lab.data.cohort import Cohort
from lab.track.store import RUNS
from lab.track.trials import Queue

Settings = Mapping[str, Any]
"""Settings of one trial that differ from the study's, by dotted name."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a script in `studies/` defines. The functions must be importable, since workers are processes."""

    name: str
    question: str
    grid: dict[str, Settings]
    """Label of each trial of the grid and its settings."""
    search: Callable[[optuna.Trial, Config], Settings] | None = None
    """Draws the settings of a trial of the guided search round the best of the grid."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study on one cohort with all settings made out; what a worker gets."""

    study: Study
    config: Config
    cohort: Cohort
    split: pd.DataFrame
    key: str
    parent: str

    @property
    def folder(self) -> Path:
        """Locks and checkpoints of the study."""
        return RUNS / "work" / f"{self.study.name}-{self.key}"

    def checkpoint(self, run_id: str) -> Path:
        """Where a trial that is being trained is saved after every epoch."""
        return self.folder / f"{run_id}.checkpoint"

    def queue(self, phase: str) -> Queue:
        """The trials of `grid` or `search`."""
        objective = self.config.study.objective
        return Queue(
            name=f"{self.study.name}-{self.key}-{phase}",
            direction="maximize" if "ssim" in objective else "minimize",
            folder=self.folder / phase,
            seed=self.config.train.seed,
            prune=phase == "search" and self.config.study.prune,
        )
