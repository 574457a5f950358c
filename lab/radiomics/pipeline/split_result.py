"""The result of one split of a nested cross-validation, with its JSON format."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from lab.radiomics.pipeline.inner_search import patient_auc
from lab.radiomics.pipeline.search_space import Params
from lab.radiomics.splits import Split
from lab.stats.intervals import hanley_mcneil
from lab.stats.platt import Line

TABLES = ("predictions", "trials", "chosen", "learning")
GAP = 0.2  # inner AUC minus test AUC, averaged over splits; chance and search alone rarely exceed it


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """Result of one finished split."""

    split: Split
    method: str
    predictions: pd.DataFrame  # one row per test case, see `lab.radiomics.splits.predictions_table`
    trials: pd.DataFrame
    inner_auc: float  # AUC over inner folds
    threshold: float
    line: Line  # score -> probability
    chosen: pd.DataFrame  # feature and importance: mean drop of the test AUC when the feature is permuted
    learning: pd.DataFrame  # n (training patients) and score (test AUC); empty if it was not requested
    seconds: float
    averaged: tuple[Params, ...]  # all settings whose calibrated logits are averaged, the best first

    @property
    def params(self) -> Params:
        """The best settings."""
        return self.averaged[0]

    @property
    def test_auc(self) -> float:
        """AUC over the split's test patients."""
        found = self.predictions
        return patient_auc(found["patient_id"].to_numpy(), found["label"].to_numpy(), found["score"].to_numpy())

    @property
    def what(self) -> str:
        """Best classifier, and the number of averaged settings: "svm, first of 10"."""
        return f"{self.params['classifier']}{f', first of {len(self.averaged)}' * (len(self.averaged) > 1)}"

    def to_json(self) -> str:
        """The result as text, with numbers at full precision."""
        record = {item.name: getattr(self, item.name) for item in fields(self)}
        record |= {name: _to_record(record[name]) for name in TABLES}
        record |= {"split": asdict(self.split), "line": asdict(self.line)}
        return json.dumps(record, allow_nan=False, default=_plain)

    @classmethod
    def from_json(cls, text: str) -> SplitResult:
        """The result written by `to_json`. Raises ValueError for any other text."""
        try:
            record = json.loads(text)
            record |= {name: _to_table(record[name]) for name in TABLES}
            before_averages = "averaged" not in record
            record["averaged"] = (record.pop("params"),) if before_averages else tuple(record["averaged"])
            split = {**record["split"], **{part: tuple(record["split"][part]) for part in ("train", "test")}}
            return cls(**{**record, "split": Split(**split), "line": Line(**record["line"])})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the result of a split ({type(error).__name__}: {error})") from None


def suspicion(results: list[SplitResult]) -> str:
    """The reason to distrust the inner AUCs of a cross-validation, or "".

    The gap to the test AUC must exceed both `GAP` and two standard errors of an AUC with so many patients.
    """
    if not results:
        return ""
    inner, test = (float(np.mean([getattr(one, name) for one in results])) for name in ("inner_auc", "test_auc"))
    labels = pd.concat([one.predictions for one in results]).groupby("patient_id")["label"].max()
    events = int(labels.sum())
    error = hanley_mcneil(test, events, len(labels) - events) if 0 < events < len(labels) else 0.0
    if inner - test <= max(GAP, 2 * error):
        return ""
    found = f"The inner AUC is {inner:.2f} but the test AUC {test:.2f} (mean of {len(results)} splits)"
    return f"{found}: a feature may hold the label, or the search is too large for so few patients."


def _to_record(table: pd.DataFrame) -> dict[str, Any]:
    rows = table.astype(object).where(table.notna(), None).to_numpy(object).tolist()
    return {"columns": list(table.columns), "rows": rows}


def _to_table(record: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(record["rows"], columns=record["columns"])
    return table.where(table.notna(), np.nan) if len(table) else table


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
