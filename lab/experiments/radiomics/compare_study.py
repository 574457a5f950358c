"""All methods on one page: the classifier study, WORC and what networks draw, on the same patients and splits."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import pandas as pd

from lab.config import RadiomicsConfig
from lab.experiments.radiomics.classifier_study import nested_arm
from lab.experiments.radiomics.experiment import Arm, gather, open_arm
from lab.experiments.radiomics.report import write_classifier_report
from lab.experiments.radiomics.results import draw_features, keep, own_tables
from lab.experiments.radiomics.synthesis_baseline import synthetic_scores
from lab.experiments.radiomics.worc_study import NOT_RESULTS, without_ours, worc_arm
from lab.radiomics.worc.settings import WorcSettings
from lab.tracking import artifacts
from lab.tracking.store import clear_errors, connect

NAME = "compare"
QUESTION = (
    "Which method tells tumours that are {event} from the others best: WORC, our own classifier or a simple rival?"
)


def run(settings: RadiomicsConfig, worc: WorcSettings, synthesis: Sequence[str] = ()) -> str:
    """Run what is missing of both classifiers, set everything side by side; returns the id of the comparison's run.

    Raises ValueError or an OSError as its parts do.
    """
    started = time.monotonic()
    with clear_errors():
        material = gather(settings)
        drawn = [synthetic_scores(name, material.dataset) for name in synthesis]  # mistakes are told before the work
        own = {f"worc.{k}": v for k, v in dataclasses.asdict(worc).items() if k not in NOT_RESULTS}
        if synthesis:
            own["synthesis"] = ", ".join(synthesis)
        question = QUESTION.format(event=material.dataset.event)
        connect()
    with clear_errors(goes_on="split"):
        arm = open_arm(material, NAME, question, source="radiomics/compare.py", own=own)
        with arm.parent.ending():
            ours, predictions = nested_arm(material)
            plain = dataclasses.replace(material, settings=without_ours(material.settings))
            finish_part(ours)
            theirs, by_worc = worc_arm(plain, worc)
            finish_part(theirs)
            arm.parent.set_tags({"classifier_run": ours.parent.id, "worc_run": theirs.parent.id})
            tables = own_tables(ours.parent) | own_tables(theirs.parent)
            keep(arm, pd.concat([predictions, by_worc, *drawn], ignore_index=True), tables)
            draw_features(arm, tables["importances"])
            write_classifier_report(arm.parent, seconds=time.monotonic() - started)
    return arm.parent.id


def finish_part(arm: Arm) -> None:
    """A part of the comparison gets a page of its own, as if its own script had run it; one that has it keeps it."""
    if arm.parent.has_file(artifacts.REPORT):
        arm.parent.end("finished")
    else:
        write_classifier_report(arm.parent, quiet=True)
