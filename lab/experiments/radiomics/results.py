"""Tables, facts and figures that a radiomics experiment logs to its run, as the basis of its report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from lab.config import flatten
from lab.experiments.radiomics.experiment import Experiment, ExperimentData
from lab.experiments.radiomics.voxel_boosting import boosting_left_out
from lab.radiomics.assemble import feature_settings
from lab.radiomics.assess.assess import Assessment, assess
from lab.radiomics.assess.importance import summarise_importances
from lab.radiomics.baselines import OURS, WORC, baselines_left_out, sequences
from lab.radiomics.features.feature_maps import maps_of_top
from lab.radiomics.features.image_features import PARAMETERS
from lab.radiomics.pipeline.search_space import searched
from lab.tracking import artifacts
from lab.tracking.run import Run

SOFTWARE = ("pyradiomics", "WORC", "scikit-learn", "optuna", "numpy", "scipy", "SimpleITK", "mlflow")
DRAWN = 3
"""Number of features drawn over the images."""
OWN = ("importances", "settings", "learning", "worc_features", "worc_workflows")
"""Tables that only some experiments have."""
OURS_ALONE = (
    "trials", "average", "inner_folds", "classifiers", "stability", "stability_cases", "combat", "seed", "without",
)  # fmt: skip
"""Facts and settings of our own search, which WORC does not have."""
FIGURES = {
    "auc": "test/auc",
    "auc_low": "test/auc_low",
    "auc_high": "test/auc_high",
    "auc_splits": "test/auc_splits",
    "auc_splits_low": "test/auc_splits_low",
    "auc_splits_high": "test/auc_splits_high",
    "ap": "test/average_precision",
    "brier": "test/brier",
    "slope": "test/calibration_slope",
}
"""Column of `Assessment.performance` -> the metric that compares runs in MLflow's table."""
RULES = {
    "enhancement": "the expert label of enhancing tumour where the data set has one, else the paper's rule",
    "expert": "the expert label of enhancing tumour",
    "rule": "the paper's rule, T1GD - T1 > 0.3 inside the tumour",
    "grade": "WHO grade IV against II and III",
    "idh": "IDH mutation against wild type",
    "codeletion": "1p/19q codeletion against intact",
}


def save_results(
    experiment: Experiment,
    predictions: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    *,
    main: str = OURS,
    warnings: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Assessment:
    """Assess all predictions and log tables and facts to the experiment's run; returns the assessment.

    `tables` are those that only some experiments have (see `OWN`); `warnings` are shown first in the report. `facts` of
    the experiment replace those of our search; its `settings` stand beside those of data and splits.
    """
    data, run = experiment.data, experiment.run
    groups = data.dataset.table.rename_axis("case_id")
    found = assess(predictions, main=main, seed=data.settings.classifier.seed, groups=groups)
    with tempfile.TemporaryDirectory() as scratch:
        found.write(Path(scratch))
        for name, table in {"predictions": predictions, **tables}.items():
            table.to_csv(Path(scratch) / f"{name}.csv", index=False)
        run.log_folder(Path(scratch), "tables")
    row = found.performance.iloc[0]
    known = experiment_facts(experiment, predictions, main) | {"warnings": list(warnings)}
    known["auc"] = f"{row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f})"
    own = dict(facts or {})
    if main == WORC:  # WORC has its own search
        ours = [name for name in OURS_ALONE if name != "seed"]
        known = {name: value for name, value in known.items() if name not in ours}
        known["settings"] = {name: value for name, value in known["settings"].items() if name not in OURS_ALONE}
    settings = known["settings"] | {name: str(value) for name, value in own.pop("settings", {}).items()}
    known = {name: value for name, value in (known | own).items() if value is not None} | {"settings": settings}
    run.log_json(known, artifacts.CLASSIFIER)
    figures = {name: float(row[column]) for column, name in FIGURES.items() if pd.notna(row.get(column))}
    run.log_metrics_once(figures, known_by="test/auc")
    return found


def draw_features(experiment: Experiment, importances: pd.DataFrame) -> None:
    """Log a picture of the most important features over the images of three patients each; it needs the cohort.

    There is none of features from a table, nor of a filter that cannot be drawn.
    """
    from lab.report.figures.classifier.feature_maps import feature_pictures

    data = experiment.data
    radiomics = data.settings.radiomics
    if importances.empty or radiomics.features is not None or experiment.run.has_file(artifacts.FEATURES):
        return
    top = summarised(importances, data.split_sizes).head(DRAWN)["feature"].tolist()
    parameters = radiomics.parameters or PARAMETERS
    try:
        maps = maps_of_top(data.cohort, data.dataset.features, data.dataset.labels, top, parameters=parameters)
    except ValueError as error:
        if radiomics.parameters is None:
            raise
        print(f"  no picture of the most important features: {error}", flush=True)
        return
    figure = feature_pictures(maps, phantom=data.dataset.phantom, event=data.dataset.event)
    experiment.run.log_figure(figure, artifacts.FEATURES)


def summarised(importances: pd.DataFrame, sizes: tuple[int, float, float]) -> pd.DataFrame:
    """Importances over the splits; `sizes`: number of splits, mean numbers of training and test patients."""
    count, train, test = sizes
    return summarise_importances(importances, splits=count, train=train, test=test)


def experiment_facts(experiment: Experiment, predictions: pd.DataFrame, main: str) -> dict[str, Any]:
    """Facts of the report apart from its tables, as plain values that JSON can hold."""
    data = experiment.data
    dataset, chosen, cohort = data.dataset, data.settings.classifier, data.cohort
    truth = dataset.labels.groupby(dataset.patients).max()
    radiomics = data.settings.radiomics
    settings = feature_settings(radiomics)
    table = radiomics.features
    own_images = table is None or data.settings.data.path is not None
    grid = f"{' x '.join(map(str, cohort.shape))} voxels of {cohort.spacing_mm:g} mm" if own_images else "not known"
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "main": main,
        "phantom": dataset.phantom,
        "dataset": "phantom (simulated)" if dataset.phantom else dataset.name,
        "data_set": cohort.dataset if own_images else cohort.name,
        "label": chosen.label,
        "label_rule": RULES.get(chosen.label, f"column {chosen.label} of {chosen.labels and chosen.labels.name}"),
        "event": dataset.event,
        "shuffled": chosen.shuffle_labels,
        "patients": len(truth),
        "events": int(truth.sum()),
        "cases": len(dataset.table),
        "left_out": len(dataset.left_out),
        "folds": chosen.folds,
        "repeats": chosen.repeats if chosen.folds else 1,
        "inner_folds": chosen.inner_folds,
        "trials": chosen.trials,
        "average": min(chosen.average, chosen.trials) if searched(chosen.classifiers) else 1,
        "seed": chosen.seed,
        "classifiers": list(chosen.classifiers),
        "sequences": list(data.settings.data.inputs) if table is None else sequences(dataset) or [table.name],
        "features": dataset.features.shape[1],
        "spacing_mm": cohort.spacing_mm if own_images else None,
        "bin_count": settings["binCount"],
        "image_types": settings["image types"],
        "feature_classes": settings["classes"],
        "pyradiomics": version("pyradiomics"),
        "stability": chosen.stability,
        "stability_cases": len(next(iter(dataset.perturbed.values()), [])),
        "combat": chosen.combat,
        "rivals": [name for name in dict.fromkeys(predictions["method"]) if name != main],
        "without": "; ".join(f"{method}: {reason}" for method, reason in left_out_baselines(data).items()),
        "importances": experiment.name != "worc",
        "external_test": False,
        "grid": grid,
        "digest": cohort.digest,
        "settings": {k: str(v) for k, v in flatten(chosen).items() if k not in ("labels", "workers")},
        "software": {name: version(name) for name in SOFTWARE},
    }


def left_out_baselines(data: ExperimentData) -> dict[str, str]:
    """Method -> the reason why the data do not allow this baseline."""
    return baselines_left_out(data.dataset) | boosting_left_out(data)


def own_tables(run: Run) -> dict[str, pd.DataFrame]:
    """The tables of a run that only some experiments have."""
    there = run.files("tables")
    return {name: run.read_table(artifacts.table(name)) for name in OWN if artifacts.table(name) in there}
