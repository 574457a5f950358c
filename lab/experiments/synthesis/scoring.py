"""Predictions and scores of a study's networks and baselines on its test patients."""

from __future__ import annotations

from ast import literal_eval
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from lab.config import Config, override
from lab.data.batches import Batch, CaseStore, Prediction, image_of, map_of
from lab.data.cohort import Cohort
from lab.evaluation.evaluate import evaluate, evaluate_inside, means
from lab.evaluation.place.voxel_counts import at_thresholds, choose_thresholds
from lab.experiments.plan import Plan
from lab.experiments.synthesis.configurations import ABOUT, fold_of
from lab.experiments.synthesis.trial import patch_edge, tile, used
from lab.inference.tiling import predict_named
from lab.synthesis.baselines import BASELINES, Predictor, fit_baselines
from lab.synthesis.device import Arithmetic
from lab.synthesis.networks import given
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.models.network import Package, download_package
from lab.tracking.run import Run

NETWORK_BYTES, IMAGE_BYTES = 2 << 30, 1 << 30
"""Networks and predictions of test patients up to these total sizes stay in memory until the study ends; others are
loaded and predicted again."""


class Scorer:
    """Predictions and scores at a study's end; loads each network once and fits each fold's baselines once.

    Predictions of test patients stay, so that the figures of slices need no second prediction.
    """

    def __init__(self, plan: Plan, arithmetic: Arithmetic) -> None:
        self.plan, self.arithmetic = plan, arithmetic
        data = plan.config.data
        self.smallest_patch = smallest_patch(plan)
        self._baselines = [
            fit_baselines(plan.cohort, plan.cases("train", fold), inputs=data.inputs, target=data.target)
            for fold in range(len(plan.splits))
        ]
        self._thresholds: dict[tuple[str, int], dict[str, float]] = {}
        """Of each baseline and fold, chosen on its validation patients."""
        self._packages: dict[str, Package] = {}
        self._bytes = 0
        self._volumes: dict[tuple[str, str], Volumes] = {}
        """Run id and case id -> its prediction."""

    def package(self, run: Run) -> Package:
        """The network of a run, with its contract."""
        if run.id in self._packages:
            return self._packages[run.id]
        package = download_package(run.tags[Tag.MODEL])
        size = bytes_of(package.network)
        if self._bytes + size <= NETWORK_BYTES:
            self._packages[run.id] = package
            self._bytes += size
        return package

    def cases_of(self, run: Run, part: str = "test", *, patch: int | None = None) -> CaseStore:
        """The cases of one part of a run's fold, as its network reads them."""
        inputs = trial_settings(self.plan.config, run).data.inputs
        cohort, device = self.as_read(run), self.arithmetic.device
        return self.cases(part, fold_of(run), inputs=inputs, device=device, patch=patch, cohort=cohort)

    def network(self, run: Run) -> Predictor:
        """The network of a run as a function of a batch."""
        placed = self.arithmetic.place(self.package(run).network)
        window = tile(trial_settings(self.plan.config, run), self.plan.cohort)

        def predict(batch: Batch) -> Prediction:
            how = {"brain": batch.masks["brain"], "arithmetic": self.arithmetic, "window": window}
            with given(placed, partial(self.plan.cohort.clinical, batch.case_ids)):
                return predict_named(placed, batch.inputs, **how)

        return predict

    def as_read(self, run: Run) -> Cohort:
        """The cohort as the network of a run reads it."""
        known = self.package(run).known.get("normalise")
        if known is None:
            return self.plan.cohort
        from lab.data.normalisation import Normalisation

        return replace(self.plan.cohort, normalisation=Normalisation.read(known))

    def baselines(self, part: str, fold: int) -> dict[str, tuple[Predictor, CaseStore]]:
        """Name of each baseline -> its predictor, and the cases of one part with the inputs that it takes."""
        inputs = self.plan.config.data.inputs
        return {
            name: (predict, self.cases(part, fold, inputs=BASELINES[name].inputs or inputs))
            for name, predict in self._baselines[fold].items()
        }

    def cases(
        self,
        part: str,
        fold: int,
        *,
        inputs: tuple[str, ...],
        device: torch.device | str = "cpu",
        patch: int | None = None,
        cohort: Cohort | None = None,
    ) -> CaseStore:
        """The cases of one part of a fold, whole or in patches; `cohort` is the study's as a network reads it."""
        return CaseStore(
            cohort or self.plan.cohort,
            self.plan.cases(part, fold),
            inputs=inputs,
            target=self.plan.config.data.target,
            device=device,
            patch=patch,
            resident=False,
        )

    def score(self, run: Run) -> None:
        """Score one network on the test patients of its fold and log the scores to its run.

        Where the study has patches, the network is also scored inside the smallest. A network trained on patches is
        also scored inside its own, of which it then sees nothing else, as in the paper.
        """
        plan, network = self.plan, self.network(run)

        def predict(batch: Batch) -> Prediction:
            prediction = network(batch)
            self._keep(run, batch, prediction)
            return prediction

        edges = [None] if self.smallest_patch is None else [None, self.smallest_patch]
        chosen = choose_thresholds(run.read_table(artifacts.VAL_PATIENTS))
        table, *inside = evaluate_inside(predict, self.cases_of(run), edges, chosen)
        run.log_table(with_groups(table, plan.cohort.index), artifacts.TEST_PATIENTS)
        for same_voxels in inside:
            run.log_table(same_voxels, artifacts.TEST_SAME_VOXELS)
            edge = patch_edge(trial_settings(plan.config, run).train, plan.cohort.spacing_mm)
            own = table if edge is None else evaluate(network, self.cases_of(run, patch=edge))
            run.log_table(own, artifacts.TEST_OWN_PATCH)
        run.log_metrics_once(means(table, "test"), known_by="test/mae_image")
        run.set_tags({Tag.TESTED: "yes"})

    def baseline_tables(self, part: str, edges: list[int | None]) -> list[pd.DataFrame]:
        """The baselines' figures for every patient of one part, over all folds, a table per edge of the scored cube.

        Thresholds are chosen on the validation patients, whose table has to be asked for first.
        """
        found: dict[str, list[list[pd.DataFrame]]] = {}
        for fold in range(len(self.plan.splits)):
            for name, (baseline, cases) in self.baselines(part, fold).items():
                chosen = self._thresholds.get((name, fold))
                tables = evaluate_inside(baseline, cases, edges, chosen)
                if part == "val":
                    chosen = self._thresholds[name, fold] = choose_thresholds(tables[0])
                    tables = [at_thresholds(table, chosen) for table in tables]
                named = [table.assign(trial=name, label=name, model=None, loss=None) for table in tables]
                found.setdefault(name, []).append(named)
        return [
            pd.concat([named[place] for folds in found.values() for named in folds], ignore_index=True)
            for place in range(len(edges))
        ]

    def true_scans(self) -> pd.DataFrame:
        """Scores of the true scans as if they were synthetic: those of a perfect network, its threshold chosen too."""

        def scored(part: str, fold: int, thresholds: dict[str, float] | None = None) -> pd.DataFrame:
            cases = self.cases(part, fold, inputs=self.plan.config.data.inputs)
            return evaluate(lambda batch: batch.target, cases, thresholds)

        folds = range(len(self.plan.splits))
        tables = [scored("test", fold, choose_thresholds(scored("val", fold))) for fold in folds]
        return pd.concat(tables, ignore_index=True)

    def volumes_by_network(self, run: Run, case: str) -> Volumes:
        """The prediction of one whole test case by the network of a run."""
        known = self._volumes.get((run.id, case))
        return self.volumes(self.network(run), self.cases_of(run), case) if known is None else known

    def volumes(self, predict: Predictor, cases: CaseStore, case: str) -> Volumes:
        """The prediction of one case."""
        return Volumes.of(predict(cases.batch([cases.case_ids.index(case)])))

    def _keep(self, run: Run, batch: Batch, prediction: Prediction) -> None:
        volumes = Volumes.of(prediction)
        if (len(self._volumes) + 1) * volumes.nbytes <= IMAGE_BYTES:
            self._volumes[run.id, batch.case_ids[0]] = volumes


class Volumes(NamedTuple):
    """What a prediction says of its first case; arrays (X, Y, Z) float32."""

    image: np.ndarray
    probability: np.ndarray | None
    """Of enhancement; None where none is stated."""

    @classmethod
    def of(cls, prediction: Prediction) -> Volumes:
        """From a prediction on any device."""
        stated = map_of(prediction, "probability")
        probability = None if stated is None else stated[0, 0].float().cpu().numpy()
        return cls(image_of(prediction)[0, 0].float().cpu().numpy(), probability)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.image.nbytes * (1 if self.probability is None else 2)


def with_groups(table: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """A table of cases with the cohort's columns (scanner, grade, age) for the model card's groups."""
    known = [name for name in ABOUT if name in index and index[name].notna().any()]
    return table.join(index[known], on="case_id")


def bytes_of(network: nn.Module) -> int:
    """Size of a network's weights in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def trial_settings(config: Config, run: Run) -> Config:
    """Config of a run for inference: with its patch size, inputs and number of training patients."""
    own: dict[str, Any] = {"train.patch_mm": None, "train.patients": None, "data.inputs": config.data.inputs}
    return override(config, {name: read_param(run, name, usual) for name, usual in own.items()})


def read_param(run: Run, name: str, usual: Any) -> Any:
    """A setting of a run as a value: a number, a tuple of texts, None; `usual` where it was not logged."""
    return literal_eval(run.params[name]) if name in run.params else usual


def smallest_patch(plan: Plan) -> int | None:
    """Edge in voxels of the smallest training patch round tumours; None without such patches.

    Networks that train on random patches have no patch of a test patient in which they could be scored.
    """
    trials = (used(override(plan.config, dict(settings))) for settings in plan.study.grid.values())
    centred = (trial.train for trial in trials if trial.train.patch_sampling == "centre")
    edges = (patch_edge(train, plan.cohort.spacing_mm) for train in centred)
    return min((edge for edge in edges if edge is not None), default=None)
