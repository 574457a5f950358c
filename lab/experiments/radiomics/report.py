"""The report of a radiomics experiment, made only from the contents of its run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from lab.experiments.parent_run import format_points, publish
from lab.experiments.radiomics.experiment import Experiment, ExperimentData
from lab.experiments.radiomics.external_test import read_external
from lab.experiments.radiomics.results import summarised
from lab.io.files import plural
from lab.radiomics.assess.assess import Assessment, read_assessment
from lab.radiomics.assess.external import ExternalTest
from lab.radiomics.baselines import OURS
from lab.report.figures.classifier.all_figures import classifier_figures
from lab.report.figures.classifier.roc import roc_thumbnail
from lab.report.figures.style import Figure, png
from lab.report.pages.classifier import ClassifierRecord, classifier_page
from lab.report.pages.external import CAPTIONS as EXTERNAL_CAPTIONS
from lab.report.tables.performance import summary_table
from lab.report.tables.table import plain_markdown
from lab.report.text.checklists import LISTS, checklist_markdown, fill
from lab.report.text.classifier_findings import classifier_findings, classifier_note
from lab.report.text.external_findings import external_findings
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import clear_errors, connect
from lab.tracking.view import closing, save_split_view

NOTE_DPI = 80
"""A larger picture would push the rest of MLflow's page off the screen."""
TITLES = {
    "classifier": "Classifier and baselines",
    "worc": "WORC",
    "compare": "WORC, our classifier and the baselines",
}
SHOWN = {
    "data": "dataset",
    "label": "label_rule",
    "patients": "patients",
    "cases": "cases",
    "left out": "left_out",
    "baselines left out": "without",
    "outer folds": "folds",
    "repeats": "repeats",
    "features": "features",
    "sequences": "sequences",
    "filters": "image_types",
    "grid": "grid",
    "digest": "digest",
}


def conduct(load: Callable[[], ExperimentData], work: Callable[[ExperimentData], Experiment]) -> str:
    """Run or continue an experiment: load its data, do its work, write its report; returns its run id."""
    started = time.monotonic()
    with clear_errors():
        data = load()
        connect()
    with clear_errors(goes_on="split"):
        run = work(data).run
        with run.ending():
            write_classifier_report(run, seconds=time.monotonic() - started)
    return run.id


def write_classifier_report(
    run: Run, *, seconds: float | None = None, out: Path | None = None, quiet: bool = False
) -> None:
    """Write page, figures, checklists and note of a finished experiment to its run, and to the folder `out`.

    `seconds` is the duration of an experiment that has just ended; `quiet` prints nothing. Raises ValueError for a run
    that is not a finished classifier experiment.
    """
    if not run.has_file(artifacts.CLASSIFIER):
        raise ValueError(f"run {run.id} holds no {artifacts.CLASSIFIER}: it is not a finished classifier experiment")
    facts = run.read_json(artifacts.CLASSIFIER)
    with tempfile.TemporaryDirectory() as scratch:
        tables = run.download("tables", Path(scratch))
        assessment = read_assessment(tables)
        names = ("event", "phantom", "label", "shuffled", "warnings")
        findings = classifier_findings(assessment, dataset=facts["data_set"], **{name: facts[name] for name in names})
        external = read_external(run)
        held_out = float(assessment.performance["auc"].iloc[0])
        findings[1:1] = [text for test in external for text in external_findings(test, held_out)]
        facts["external_test"] = [test.name for test in external]
        figures: dict[str, Figure | bytes] = dict(draw_figures(facts, assessment, tables))
        if run.has_file(artifacts.FEATURES):
            figures["features"] = run.read_bytes(artifacts.FEATURES)
        elsewhere = {test.slug: draw_external(test, facts) for test in external}
        lists = {name: fill(name, facts) for name in LISTS}
        files = {artifacts.figure(name): one if isinstance(one, bytes) else png(one) for name, one in figures.items()}
        for slug, pictures in elsewhere.items():
            files |= {artifacts.figure(f"external-{slug}-{name}"): png(one) for name, one in pictures.items()}
        if isinstance(figures.get("roc"), Figure):
            files[artifacts.ROC_NOTE] = png(figures["roc"], NOTE_DPI)
        files[artifacts.ROC_SMALL] = png(roc_thumbnail(assessment.patients, assessment.judged))
        for name, table in lists.items():
            files[f"checklists/{name.lower()}.csv"] = table.to_csv(index=False).encode()
            files[f"checklists/{name.lower()}.md"] = checklist_markdown(name, table, phantom=facts["phantom"]).encode()
        left_out = run.read_table(artifacts.LEFT_OUT)
        record = ClassifierRecord(
            title=f"{TITLES[facts['experiment']]}: {facts['label']}{', shuffled labels' * facts['shuffled']}",
            question=facts["question"],
            phantom=facts["phantom"],
            findings=findings,
            assessment=assessment,
            figures=figures,
            run={name: facts[key] for name, key in SHOWN.items() if key in facts and facts[key] != ""},
            settings=facts["settings"],
            software=facts["software"],
            chosen=_chosen(tables),
            averaged=int(facts.get("average", 1)) if facts["experiment"] != "worc" else 1,
            left_out=dict(zip(left_out["case_id"], left_out["reason"].astype(str))),
            checklists=lists,
            external=external,
            external_figures=elsewhere,
        )
        files[artifacts.REPORT] = classifier_page(record).encode()
        if not publish(run, files, out=out, more={f"tables/{f.name}": f.read_bytes() for f in tables.iterdir()}):
            return
    picture = artifact(run.id, artifacts.ROC_NOTE)
    note = classifier_note(facts["question"], findings, assessment, phantom=facts["phantom"], picture=picture)
    run.set_tags({Tag.NOTE: stamp(run.id, facts) + note})
    if seconds is not None:
        run.log_metrics_once({"study/seconds": seconds}, known_by="study/seconds")
    run.end("finished")
    if not quiet:
        print(
            f"\n{summary_table(assessment.performance, assessment.comparisons).text()}\n\n{format_points(findings)}\n"
        )
        print(closing(run, save_split_view(run), seconds))


def draw_figures(facts: dict[str, Any], assessment: Assessment, tables: Path) -> dict[str, Figure]:
    """All figures that are drawn from tables."""
    predictions = pd.read_csv(tables / "predictions.csv", dtype={"case_id": str, "patient_id": str})
    importances = _table(tables, "importances")
    if importances is not None and len(importances):
        part = predictions[predictions["method"] == OURS].drop_duplicates(["repeat", "fold"])
        sizes = (len(part), float(part["train"].mean()), float(part["test"].mean()))
        importances = summarised(importances, sizes)
    return classifier_figures(
        predictions,
        assessment,
        phantom=facts["phantom"],
        event=facts["event"],
        importances=importances,
        learning=_table(tables, "learning"),
        seed=facts["seed"],
    )


def draw_external(test: ExternalTest, facts: dict[str, Any]) -> dict[str, Figure]:
    """The figures of an external test, by the names of `classifier_figures`."""
    how = {"phantom": facts["phantom"], "event": test.event, "seed": facts["seed"]}
    found = classifier_figures(test.predictions, test.assessment, external=True, **how)
    return {name: found[name] for name in EXTERNAL_CAPTIONS if name in found}


def stamp(run_id: str, facts: dict[str, Any]) -> str:
    """The start of a note, of which MLflow shows four lines: a small ROC beside the AUC."""
    people = plural(facts["patients"], "phantom " * facts["phantom"] + "patient")
    people += f", {facts['events']} {facts['event']}"
    text = f"{facts['main']}: AUC {facts['auc']}; {people}{', shuffled labels' * facts['shuffled']}"
    return f"| ![ROC]({artifact(run_id, artifacts.ROC_SMALL)}) | {plain_markdown(text)} |\n|---|---|\n\n"


def artifact(run_id: str, name: str) -> str:
    """Address of a run's artifact relative to MLflow's pages, independent of the server's name."""
    return f"get-artifact?path={quote(name, safe='')}&run_uuid={run_id}"


def _chosen(tables: Path) -> pd.DataFrame | None:
    """What the search chose, a row per split: our best settings, or the best workflow of WORC's ensemble."""
    found = _table(tables, "settings" if (tables / "settings.csv").is_file() else "worc_workflows")
    if found is None or "rank" not in found:
        return found
    return found[found["rank"] == 1].drop(columns=["rank", "parameters"], errors="ignore")


def _table(tables: Path, name: str) -> pd.DataFrame | None:
    path = tables / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else None
