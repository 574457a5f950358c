"""WORC experiments as MLflow runs, on the same patients and splits as our classifier."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from lab.config import RadiomicsConfig
from lab.experiments.radiomics.experiment import Experiment, ExperimentData, files_of, load_data, open_experiment
from lab.experiments.radiomics.report import conduct
from lab.experiments.radiomics.results import save_results
from lab.io.files import plural
from lab.io.pool import count_cores
from lab.radiomics.baselines import WORC
from lab.radiomics.worc.run import FULL, QUICK, WorcFailed, WorcResult, WorcSettings, run_worc
from lab.radiomics.worc.settings import Route
from lab.stats.auc import auc
from lab.stats.predictions import one_per_patient
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag

NAME = "worc"
QUESTION = "How well does WORC tell tumours that are {event} from the others, by {scans}?"
SCRIPT = "radiomics/run_worc.py"
NOT_RESULTS = ("workers", "timeout_s")


def preset(*, quick: bool, search: int | None, route: Route = "features", seed: int = 0) -> WorcSettings:
    """WORC's full search or the quick one, with another number of workflows if `search` is given."""
    chosen = QUICK if quick else FULL
    count = chosen.search if search is None else search
    ensemble = max(1, min(chosen.ensemble, count))
    return dataclasses.replace(chosen, search=count, ensemble=ensemble, route=route, seed=seed)


def run_worc_study(settings: RadiomicsConfig, worc: WorcSettings) -> str:
    """Run or continue a WORC experiment; returns its run id.

    Raises ValueError with WORC's own reason if it fails, ValueError or OSError if data or settings do not allow a
    start.
    """
    return conduct(lambda: load_data(without_ours(settings)), lambda data: run_worc_splits(data, worc)[0])


def without_ours(settings: RadiomicsConfig) -> RadiomicsConfig:
    """The settings without those of our classifier's search and stability filter, which WORC does not use."""
    default = type(settings.classifier)()
    ours = {name: getattr(default, name) for name in ("trials", "inner_folds", "classifiers", "combat")}
    bare = dataclasses.replace(settings.classifier, **ours, average=1, stability=0.0, stability_cases=0)
    return dataclasses.replace(settings, classifier=bare)


def worc_params(worc: WorcSettings) -> dict[str, object]:
    """WORC's settings that determine its results, as parameters of a run."""
    return {f"worc.{key}": value for key, value in dataclasses.asdict(worc).items() if key not in NOT_RESULTS}


def worc_facts(worc: WorcSettings) -> dict[str, Any]:
    """What WORC did, for page and checklists: `settings` by their names on the page, classifiers, search and choice."""
    splits = f"{worc.inner_splits} random splits of the training patients, {worc.inner_test:.0%} held out"
    settings = {
        "workflows": worc.search,
        "ensemble": f"the best {worc.ensemble}",
        "inner splits": splits,
        "classifiers": ", ".join(worc.classifiers),
        "features": "measured by this lab" if worc.route == "features" else "WORC's own",
        "seed": worc.seed,
    }
    return {
        "settings": settings,
        "classifiers": list(worc.classifiers),
        "search": f"{worc.search} random workflows of WORC in each training set, scored on {splits}.",
        "choice": f"In each training set the {worc.ensemble} best workflows, whose posteriors are averaged.",
    }


def run_worc_splits(data: ExperimentData, worc: WorcSettings) -> tuple[Experiment, pd.DataFrame]:
    """The WORC experiment without its report: the run with all tables on it, and the predictions."""
    if worc.route == "images" and (given := files_of(data.settings.radiomics)):
        raise ValueError(f"--route images: WORC measures its own features; leave --radiomics.{min(given)} out")
    worc = dataclasses.replace(worc, workers=data.settings.classifier.workers or count_cores())
    question = data.ask(QUESTION)
    experiment = open_experiment(data, NAME, question, source=SCRIPT, own=worc_params(worc))
    with experiment.run.ending():
        count = plural(len(data.splits), "split")
        print(f"WORC on {count}, {worc.search} workflows each, an ensemble of the best {worc.ensemble}", flush=True)
        try:
            with experiment.alone():
                result = run_worc(
                    data.dataset,
                    data.splits,
                    experiment.folder,
                    worc,
                    cohort=data.cohort,
                    sequences=data.settings.data.inputs,
                    say=_say,
                )
        except WorcFailed as error:  # not an error of the store
            raise ValueError(str(error)) from error
        experiment.run.log_folder(result.log, "worc/logs")
        log_splits(experiment, result)
        used = result.chosen.rename(columns={"splits": "selected", "members": "importance"})
        tables = {"worc_features": used, "worc_workflows": result.workflows}
        facts = worc_facts(worc)
        if worc.route == "images":  # features that this lab did not measure
            facts |= dict.fromkeys(("features", "image_types", "feature_classes", "bin_count", "pyradiomics"))
        save_results(experiment, result.predictions, tables, main=WORC, facts=facts)
    return experiment, result.predictions


def log_splits(experiment: Experiment, result: WorcResult) -> None:
    """Log each split as a child run; logged splits stay unchanged."""
    best = result.workflows.groupby(["repeat", "fold"]).first()
    seconds = result.seconds.set_index(["repeat", "fold"])["seconds"]
    for split in experiment.data.splits:
        run = experiment.open_child(split.name, source=SCRIPT, role="split", split=split.name)
        if run.tags.get(Tag.STATE) == "finished":
            run.end("finished")  # `open_child` has set it to running
            continue
        place = (split.repeat, split.fold)
        part = result.predictions.set_index(["repeat", "fold"]).loc[[place]].reset_index()
        patients = one_per_patient(part["patient_id"], part["label"], part["score"])
        chosen = best.loc[place].drop(["rank", "inner_score", "parameters"]).to_dict()
        run.describe(chosen, {Tag.LABEL: WORC, Tag.PHANTOM: experiment.data.dataset.phantom})
        run.log_table(part, artifacts.PREDICTIONS)
        figures = {"test/auc": auc(patients["label"], patients["score"]), "cost/seconds": float(seconds[place])}
        run.log_metrics_once(figures | {"val/f1_weighted": float(best.loc[place, "inner_score"])}, known_by="test/auc")
        run.end("finished")


def _say(line: str) -> None:
    print(f"  {line}", flush=True)
