"""WORC's result as an MLflow run, its failure told, and the page on which all methods stand side by side.

WORC itself is run in tests/radiomics/worc/test_worc.py; here it answers at once.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.config import ClassifierConfig, DataConfig, FeatureConfig, PhantomConfig, RadiomicsConfig
from lab.experiments.radiomics import compare_study, worc_study
from lab.experiments.radiomics.worc_study import preset, run_worc_study, without_ours
from lab.radiomics.assess.assess import YOUDEN
from lab.radiomics.baselines import OURS, WORC
from lab.radiomics.worc.results import WorcResult
from lab.radiomics.worc.run import WorcFailed
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import connect, find_experiment

SETTINGS = RadiomicsConfig(
    data=DataConfig(spacing_mm=8.0, processes=1),
    phantom=PhantomConfig(subjects=30),
    classifier=ClassifierConfig(
        folds=2, repeats=1, trials=1, inner_folds=2, classifiers=("svm",), stability=0.0, workers=1
    ),
    radiomics=FeatureConfig(parameters=Path(__file__).parents[1] / "support" / "few_features.yaml"),
)
QUICK = preset(quick=True, search=4)
pytestmark = pytest.mark.slow


def answer(dataset, splits, folder, settings, **_) -> WorcResult:
    """What WORC would give if it knew a little."""
    folder = Path(folder) / "features"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / "logs" / "said.txt").write_text("as WORC wrote it")
    rng = np.random.default_rng(0)
    parts, workflows, seconds = [], [], []
    for split in splits:
        labels = dataset.labels[list(split.test)].to_numpy()
        place = {"repeat": split.repeat, "fold": split.fold}
        parts.append(
            pd.DataFrame(
                {
                    "method": WORC,
                    **place,
                    "case_id": list(split.test),
                    "patient_id": dataset.patients[list(split.test)].to_numpy(),
                    "label": labels,
                    "score": np.clip(0.2 * labels + rng.uniform(0.1, 0.7, len(labels)), 0, 1),
                    "threshold": 0.5,
                    "train": len(split.train),
                    "test": len(split.test),
                }
            )
        )
        kinds = {"classifier": "SVM", "selection": "none", "scaling": "z_score", "resampling": "", "imputation": ""}
        workflows.append({**place, "rank": 1, "inner_score": 0.7, **kinds, "parameters": "{}"})
        seconds.append({**place, "seconds": 1.5})
    return WorcResult(
        predictions=pd.concat(parts, ignore_index=True),
        chosen=pd.DataFrame({"feature": ["T1_original_firstorder_Mean"], "splits": [1.0], "members": [0.5]}),
        workflows=pd.DataFrame(workflows),
        seconds=pd.DataFrame(seconds),
        log=folder / "logs",
    )


@pytest.fixture
def knowing(monkeypatch, no_drawing, few_refits):
    monkeypatch.setattr(worc_study, "run_worc", answer)


def test_its_result_is_a_run_with_its_own_words(knowing, capsys):
    parent = run_worc_study(SETTINGS, QUICK)
    found = connect().get_run(parent)
    assert found.info.status == "FINISHED"
    assert found.data.tags["mlflow.source.name"] == "radiomics/run_worc.py"
    assert found.data.params["worc.search"] == "4"
    assert "WORC has an AUC of" in found.data.tags[Tag.NOTE]
    assert found.data.tags[Tag.NOTE].startswith("| ![ROC](")
    assert Run(parent).read_text("worc/logs/said.txt") == "as WORC wrote it"
    assert Run(parent).read_table("tables/worc_workflows.csv")["classifier"].unique().tolist() == ["SVM"]
    splits = Run(parent).children()
    assert len(splits) == 2
    assert {one.params["classifier"] for one in splits} == {"SVM"}
    facts = json.loads(Run(parent).read_text("classifier.json"))
    assert "stability" not in facts  # of our own pipeline, of which nothing is here
    settings = facts["settings"]
    assert (settings["workflows"], settings["ensemble"], settings["folds"]) == ("4", "the best 4", "2")
    assert not {"trials", "inner_folds", "stability", "combat"} & set(settings)
    accuracy = Run(parent).read_table("tables/accuracy.csv")
    assert accuracy["method"].unique().tolist() == [WORC, f"{WORC}, {YOUDEN}"]
    assert "WORC on 2 splits, 4 workflows each" in capsys.readouterr().out
    assert run_worc_study(SETTINGS, QUICK) == parent
    assert len(Run(parent).children()) == 2


def test_its_failure_is_a_failed_run_with_its_reason(monkeypatch):
    def failing(*_, **__):
        raise WorcFailed("WORC ended without its outputs: no feature was left; the whole log: worc.log")

    monkeypatch.setattr(worc_study, "run_worc", failing)
    other = preset(quick=True, search=3)
    with pytest.raises(ValueError, match=r"no feature was left; the whole log: worc.log"):
        run_worc_study(SETTINGS, other)
    (failed,) = connect().search_runs([find_experiment("worc")], "attributes.status = 'FAILED'")
    assert "no feature was left" in failed.data.tags["failure"]


def test_all_methods_on_one_page(knowing):
    parent = compare_study.run_compare_study(SETTINGS, QUICK)
    found = Run(parent).read_table("tables/performance.csv")
    assert found["method"].tolist()[:2] == [OURS, WORC]
    assert set(found["method"]) >= {"tumour volume", "T1 only"}
    tests = Run(parent).read_table("tables/comparisons.csv")
    assert {(row.reference, row.method) for row in tests.itertuples()} >= {(OURS, WORC), (WORC, "tumour volume")}
    tags = connect().get_run(parent).data.tags
    assert connect().get_run(tags["worc_run"]).data.params["worc.search"] == "4"
    for part in (tags["classifier_run"], tags["worc_run"]):
        assert Run(part).has_file("report.html")
        assert connect().get_run(part).info.status == "FINISHED"
    page = Run(parent).read_text("report.html")
    assert "WORC" in page
    assert "tumour volume" in page


def test_worc_shares_its_run_whoever_starts_it():
    """What only our own pipeline has does not make another WORC experiment."""
    other = RadiomicsConfig(
        classifier=ClassifierConfig(trials=99, average=3, stability=0.5, classifiers=("svm",), combat="vendor")
    )
    assert without_ours(other) == without_ours(RadiomicsConfig())


def test_presets():
    assert (preset(quick=False, search=None).search, preset(quick=True, search=None).search) > (1, 1)
    few = preset(quick=True, search=3, seed=7)
    assert (few.search, few.ensemble, few.seed) == (3, 3, 7)
    assert preset(quick=False, search=None, route="images").route == "images"


@pytest.mark.parametrize("name", ["run_worc", "compare", "extract"])
def test_scripts_answer_with_one_line(name, capsys, tmp_path, monkeypatch):
    path = Path(__file__).parents[2] / "radiomics" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    assert module.main(["--data.path", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "nowhere" in said
