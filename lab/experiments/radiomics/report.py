"""The report of a classifier experiment, made from what its run holds and from nothing else."""

from __future__ import annotations

import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from lab.experiments.radiomics.results import summarised
from lab.io.output_folder import output_folder
from lab.radiomics.assess.assess import Assessment, read_assessment
from lab.radiomics.baselines import OURS
from lab.report.figures.classifier.all_figures import classifier_figures
from lab.report.figures.classifier.roc_thumbnail import roc_thumbnail
from lab.report.figures.style import Figure, png
from lab.report.pages.classifier import classifier_page
from lab.report.tables.patient_table import plain_markdown, plural
from lab.report.tables.performance import performance_text
from lab.report.text.checklists import LISTS, as_markdown, fill
from lab.report.text.classifier_findings import classifier_findings
from lab.report.text.classifier_note import classifier_note
from lab.tracking import artifacts
from lab.tracking.artifacts import Tag
from lab.tracking.run import Run
from lab.tracking.store import read_only
from lab.tracking.view import closing, save_split_view

PAGE, THUMBNAIL, NOTED = artifacts.REPORT, artifacts.ROC_SMALL, artifacts.ROC_NOTE
NOTE_DPI = 80
"""A wider picture would push the rest of MLflow's page off the screen."""
TITLES = {
    "classifier": "Classifier and rivals",
    "worc": "WORC",
    "compare": "WORC, our classifier and the rivals",
}
SHOWN = {
    "data": "dataset",
    "label": "label_rule",
    "patients": "patients",
    "cases": "cases",
    "left out": "left_out",
    "outer folds": "folds",
    "repeats": "repeats",
    "features": "features",
    "sequences": "sequences",
    "filters": "image_types",
    "grid": "grid",
    "digest": "digest",
}


def write_classifier_report(
    parent: Run, *, seconds: float | None = None, out: Path | None = None, quiet: bool = False
) -> None:
    """Write page, figures, checklists and note of a finished experiment to its run, and to the folder `out`.

    `seconds` is what the experiment took, where it has just ended; `quiet` says nothing on the screen. Raises
    ValueError for a run that is none.
    """
    if not parent.has_file(artifacts.CLASSIFIER):
        raise ValueError(
            f"run {parent.id} holds no {artifacts.CLASSIFIER}: it is no classifier experiment that has come to its end"
        )
    facts = parent.read_json(artifacts.CLASSIFIER)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tables = parent.download("tables", folder)
        assessment = read_assessment(tables)
        words = findings(facts, assessment)
        figures: dict[str, Figure | bytes] = dict(drawn(facts, assessment, tables))
        if parent.has_file(artifacts.FEATURES):
            figures["features"] = parent.read_bytes(artifacts.FEATURES)
        lists = {name: fill(name, facts) for name in LISTS}
        made = folder / "made"
        (made / "figures").mkdir(parents=True)
        (made / "checklists").mkdir()
        for name, figure in figures.items():
            content = figure if isinstance(figure, bytes) else png(figure)
            (made / "figures" / f"{name}.png").write_bytes(content)
        if isinstance(figures.get("roc"), Figure):
            (made / NOTED).write_bytes(png(figures["roc"], NOTE_DPI))
        (made / THUMBNAIL).write_bytes(png(roc_thumbnail(assessment.patients, assessment.judged)))
        for name, table in lists.items():
            table.to_csv(made / "checklists" / f"{name.lower()}.csv", index=False)
            text = as_markdown(name, table, phantom=facts["phantom"])
            (made / "checklists" / f"{name.lower()}.md").write_text(text, encoding="utf-8")
        page = classifier_page(
            title=f"{TITLES[facts['experiment']]}: {facts['label']}{', shuffled labels' * facts['shuffled']}",
            question=facts["question"],
            phantom=facts["phantom"],
            findings=words,
            run={name: facts[key] for name, key in SHOWN.items()},
            assessment=assessment,
            figures=figures,
            chosen=_table(tables, "settings"),
            left_out=_left_out(parent),
            checklists=lists,
            settings=facts["settings"],
            software=facts["software"],
        )
        (made / PAGE).write_text(page, encoding="utf-8")
        if out is not None:
            with output_folder(out, output="report", last=PAGE) as copy:
                shutil.copytree(made, copy, dirs_exist_ok=True)
                shutil.copytree(tables, copy / "tables")
        if read_only():
            return
        parent.log_folder(made)
    close(parent, facts, words, assessment, seconds)
    if not quiet:
        show(parent, facts, words, assessment, seconds)


def findings(facts: dict[str, Any], assessment: Assessment) -> list[str]:
    """What the experiment shows, in words; a leak that its figures suggest comes second."""
    return classifier_findings(
        assessment,
        event=facts["event"],
        dataset=facts["data_set"],
        phantom=facts["phantom"],
        label=facts["label"],
        shuffled=facts["shuffled"],
        warnings=facts["warnings"],
    )


def drawn(facts: dict[str, Any], assessment: Assessment, tables: Path) -> dict[str, Figure]:
    """All figures that are drawn from numbers."""
    predictions = _predictions(tables)
    importances = _table(tables, "importances")
    part = predictions[predictions["method"] == OURS].drop_duplicates(["repeat", "fold"])
    if importances is not None and len(importances):
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


def close(parent: Run, facts: dict[str, Any], words: list[str], assessment: Assessment, seconds: float | None) -> None:
    """Note and end of the run."""
    note = classifier_note(
        facts["question"],
        words,
        assessment,
        phantom=facts["phantom"],
        picture=artifact(parent.id, NOTED),
    )
    parent.set_tags({Tag.NOTE: stamp(parent, facts) + note})
    if seconds is not None and not parent.logged_steps("study/seconds"):
        parent.log_metrics({"study/seconds": seconds})
    parent.end("finished")


def stamp(parent: Run, facts: dict[str, Any]) -> str:
    """The beginning of a note, of which MLflow shows four lines: a small ROC beside the figure."""
    people = plural(facts["patients"], "phantom " * facts["phantom"] + "patient")
    people += f", {facts['events']} {facts['event']}"
    text = f"{facts['main']}: AUC {facts['auc']}; {people}{', shuffled labels' * facts['shuffled']}"
    return f"| ![ROC]({artifact(parent.id, THUMBNAIL)}) | {plain_markdown(text)} |\n|---|---|\n\n"


def show(parent: Run, facts: dict[str, Any], words: list[str], assessment: Assessment, seconds: float | None) -> None:
    """What the user sees: the table, the findings, and where all is."""
    points = "\n".join(textwrap.fill(point, 118, initial_indent="- ", subsequent_indent="  ") for point in words)
    print(f"\n{performance_text(assessment.performance)}\n\n{points}\n")
    print(closing(parent, save_split_view(parent), seconds))


def artifact(run_id: str, name: str) -> str:
    """Address of a run's artifact as MLflow's own pages know it, whatever the server is called."""
    return f"get-artifact?path={quote(name, safe='')}&run_uuid={run_id}"


def _predictions(tables: Path) -> pd.DataFrame:
    return pd.read_csv(tables / "predictions.csv", dtype={"case_id": str, "patient_id": str})


def _table(tables: Path, name: str) -> pd.DataFrame | None:
    path = tables / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else None


def _left_out(parent: Run) -> dict[str, str]:
    table = parent.read_table(artifacts.LEFT_OUT)
    return dict(zip(table["case_id"], table["reason"].astype(str)))
