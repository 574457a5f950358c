"""The average of several fitted pipelines, calibrated and combined on the logit scale; a single one is its own average.

The pipelines share the steps that no param changes, which are fitted once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from lab.radiomics.pipeline.steps import CLEAN, ORDER, pipeline_score
from lab.stats.platt import Line

AS_IT_IS = Line(slope=1.0, intercept=0.0)
"""The line of a single pipeline, whose score is calibrated only once."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Fitted pipelines whose calibrated logits are averaged."""

    clean: Pipeline
    """The steps that all share: features as measured -> complete features in their own units."""
    members: tuple[Pipeline, ...]
    """The other steps of each pipeline, the best one first."""
    lines: tuple[Line, ...]
    """Score of each member -> its calibrated logit."""

    @property
    def features(self) -> list[str]:
        """Names of the features that any member's classifier reads."""
        return list(dict.fromkeys(name for member in self.members for name in selected(member)))

    def known(self, cases: pd.DataFrame) -> pd.DataFrame:
        """Those features of cases in their own units, harmonised and without missing values."""
        return self.clean.transform(cases)[self.features]

    def decision_function(self, cases: pd.DataFrame) -> np.ndarray:
        """(cases,) unbounded scores, higher for label 1."""
        seen = self.clean.transform(cases)
        return mean_logits(self.lines, [pipeline_score(member, seen) for member in self.members])

    def pruned(self) -> Ensemble:
        """An ensemble that needs only the features it reads and gives the same scores."""
        clean = [(name, step) for name, step in self.clean.steps if hasattr(step, "PER_COLUMN")]
        members = []
        for member in self.members:
            scale, names = member.named_steps["scale"], selected(member)
            members.append(Pipeline([("scale", _restricted(scale, names)), member.steps[-1]]))
        shared = Pipeline([(name, _restricted(step, self.features)) for name, step in clean])
        return Ensemble(clean=shared, members=tuple(members), lines=self.lines)


def fit_ensemble(
    pipelines: Sequence[Pipeline], lines: Sequence[Line], cases: pd.DataFrame, labels: np.ndarray
) -> Ensemble:
    """Fit unfitted pipelines, which differ in their params alone, to cases (cases, features) and labels (cases,).

    `lines` are those of scores minus their mean over the training cases, unless there is only one: an SVM with a small
    C has an intercept of its own in every fit, far larger than the spread of its scores.
    """
    clean = pipelines[0][: len(CLEAN)]
    seen = clean.fit_transform(cases, labels)
    ordered: dict[str, tuple[Pipeline, pd.DataFrame]] = {}
    members, own_lines = [], []
    for pipeline, line in zip(pipelines, lines, strict=True):
        order, last = pipeline[len(CLEAN) : len(CLEAN) + len(ORDER)], pipeline[len(CLEAN) + len(ORDER) :]
        key = repr([(name, step.get_params()) for name, step in order.steps])
        if key not in ordered:
            ordered[key] = order, order.fit_transform(seen, labels)
        order, values = ordered[key]
        members.append(Pipeline([*order.steps, *last.fit(values, labels).steps]))
        centre = pipeline_score(last, values).mean() if len(pipelines) > 1 else 0.0
        own_lines.append(Line(slope=line.slope, intercept=float(line.intercept - line.slope * centre)))
    return Ensemble(clean=clean, members=tuple(members), lines=tuple(own_lines))


def single(pipeline: Pipeline) -> Ensemble:
    """The ensemble of one fitted pipeline, also a pruned one."""
    first = [name for name, _ in pipeline.steps].index("scale")
    return Ensemble(clean=pipeline[:first], members=(pipeline[first:],), lines=(AS_IT_IS,))


def mean_logits(lines: Sequence[Line], scores: Iterable[np.ndarray]) -> np.ndarray:
    """Mean of the members' calibrated logits, from the scores of each, of any shape."""
    return np.mean([line.logits(values) for line, values in zip(lines, scores, strict=True)], axis=0)


def selected(member: Pipeline) -> list[str]:
    """Names of the features that the classifier of a member, also a pruned one, reads."""
    return list(member.steps[-2][1].columns_)


def _restricted(step: Any, names: list[str]) -> Any:
    """A fitted step with some of its columns."""
    found = copy.copy(step)
    place = {name: position for position, name in enumerate(step.columns_)}
    for attribute in step.PER_COLUMN:
        setattr(found, attribute, np.ascontiguousarray(getattr(step, attribute)[..., [place[n] for n in names]]))
    found.columns_ = list(names)
    return found
