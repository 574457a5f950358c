"""A study's definition, and its plan on one cohort: plain data that a worker process can receive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from lab.config import Config
from lab.data.cohort import Cohort
from lab.evaluation.figures import spec_of
from lab.experiments.queue import Queue
from lab.tracking.run import Run
from lab.tracking.store import RUNS

SEARCH_TRIALS = 20
PHASES = ("grid", "search", "confirm")
"""In their order. `confirm` trains the search's winner with the other seeds and folds."""
Settings = Mapping[str, Any]
"""Settings of one trial that differ from the study's, by dotted name."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Definition of a study in `studies/`. Workers are processes, so its functions must be importable."""

    name: str
    question: str
    grid: dict[str, Settings]
    """Label of each network of the grid -> its settings."""
    search: Callable[[optuna.Trial, Config], Settings] | None = None
    """Draws the settings of a trial of the guided search, around the best of the grid."""
    series: str = "model.id"
    """Setting that distinguishes networks of the same loss in figures; `label` for the label itself."""
    complete: Callable[[Plan], dict[str, Settings]] | None = None
    """The grid once the cohort is known, from the plan with the grid above; None for a grid that needs no cohort."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One network to train: its label, settings, seed and fold."""

    name: str
    label: str
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study on one cohort with all settings resolved, as sent to workers."""

    study: Study
    config: Config
    cohort: Cohort
    splits: tuple[pd.DataFrame, ...]
    """The split, or one for each fold: columns case_id, patient_id, enhancing, split."""
    key: str
    parent: Run
    winner: dict[str, Settings] = field(default_factory=dict)
    """Label and settings of the guided search's best trial, once it is known."""

    @property
    def folder(self) -> Path:
        """Folder of the study's locks and checkpoints."""
        return RUNS / "work" / f"{self.study.name}-{self.key}"

    @property
    def lower(self) -> bool:
        """Whether lower values of the objective are better."""
        return spec_of(self.config.study.objective.rpartition("/")[2]).direction != "higher"

    def slots(self, phase: str) -> list[Slot]:
        """Networks to train in a phase whose settings are known before it starts.

        `grid`: its networks, each with every seed and on every fold. `confirm`: the same for the search's winner,
        without the seed and fold that the search itself has trained.
        """
        if phase == "confirm":
            return self._repeated(self.winner)[1:]
        labels = list(self.study.grid)[: self.config.study.trials]
        return self._repeated({label: self.study.grid[label] for label in labels})

    def names(self, phase: str) -> list[str]:
        """Names of a phase's slots; those of the guided search get their settings when they are drawn."""
        if phase != "search":
            return [slot.name for slot in self.slots(phase)]
        if not self.config.study.search or self.study.search is None:
            return []
        wanted, grid = self.config.study.trials, len({slot.label for slot in self.slots("grid")})
        count = SEARCH_TRIALS if wanted is None else max(0, wanted - grid)
        return [f"search {number + 1:02d}" for number in range(count)]

    def once(self, settings: Settings) -> Settings:
        """Settings with the first seed on the first fold, as the guided search trains them."""
        return {"train.seed": self.config.train.seed, **settings, "study.fold": 0}

    def _repeated(self, networks: Mapping[str, Settings]) -> list[Slot]:
        """Each network with every seed and on every fold, all of them once before any of them twice.

        Names leave out the first seed, so that repeats can be added to a study without any.
        """
        slots = []
        for repeat in range(self.config.study.repeats):
            for fold in range(len(self.splits)):
                for label, settings in networks.items():
                    seed = settings.get("train.seed", self.config.train.seed) + repeat
                    name = label + (f", seed {seed}" if repeat else "")
                    name += f", fold {fold + 1}" if self.config.study.folds else ""
                    fixed = {"train.seed": seed, "study.fold": fold}
                    slots.append(Slot(name=name, label=label, settings={**settings, **fixed}))
        return slots

    def cases(self, part: str, fold: int = 0) -> list[str]:
        """Case ids of one part of the split."""
        split = self.splits[fold]
        return split.loc[split["split"] == part, "case_id"].tolist()

    def checkpoint(self, run: Run) -> Path:
        """Checkpoint of a trial in training, written after every epoch."""
        return self.folder / f"{run.id}.checkpoint"

    def queue(self, phase: str) -> Queue:
        """Queue of `grid`, `search` or `confirm` (the search's winner with the other seeds and folds)."""
        return Queue(
            name=f"{self.study.name}-{self.key}-{phase}",
            direction="minimize" if self.lower else "maximize",
            folder=self.folder / phase,
            seed=self.config.train.seed,
            prune=phase == "search" and self.config.study.prune,
        )


def varied(networks: Iterable[Settings]) -> list[str]:
    """Names of the settings that a study varies, in order of first appearance."""
    return list(dict.fromkeys(name for settings in networks for name in settings))


def with_fewer(split: pd.DataFrame, count: int | None, seed: int) -> pd.DataFrame:
    """A split (of `Cohort.split`) with `count` of its training patients, drawn at random; None keeps all.

    The patients of a smaller count are among those of a larger, and each count has about the same share that enhance.
    Raises ValueError where there are fewer than `count`.
    """
    if count is None:
        return split
    enhancing = split[split["split"] == "train"].groupby("patient_id")["enhancing"].any()
    if not 1 <= count <= len(enhancing):
        raise ValueError(f"--train.patients {count}: from 1 to {len(enhancing)} training patients are possible")
    rng = np.random.default_rng([seed, 3])
    places: dict[str, float] = {}
    for value in (False, True):
        members = rng.permutation(np.sort(np.array(enhancing.index[enhancing == value])))
        places |= {patient: (place + 0.5) / len(members) for place, patient in enumerate(members)}
    kept = sorted(places, key=lambda patient: places[patient])[:count]
    return split[(split["split"] != "train") | split["patient_id"].isin(kept)].reset_index(drop=True)
