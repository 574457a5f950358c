"""New patients through a registered classifier: prepared as it asks for, measured as it asks for, and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from radiomics.featureextractor import RadiomicsFeatureExtractor

from lab.data.cohort import TUMOUR
from lab.data.contract import Contract
from lab.data.layouts.find import Subject
from lab.data.layouts.subject import one_line
from lab.io.case_file import write_atomically
from lab.io.files import canonical
from lab.io.output_folder import check_output, output_folder
from lab.radiomics.features.case_features import SHAPE, measure_part
from lab.radiomics.features.image_features import load_extractor
from lab.radiomics.pipeline.fitted import Final
from lab.tracking.models.classifier import load_classifier
from lab.tracking.models.registered import described

PREDICTIONS, LEFT_OUT, MODEL = FILES = ("predictions.csv", "left_out.csv", "model.json")
RESEARCH = "For research only, not for diagnosis."


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What came of a list of patients."""

    table: pd.DataFrame
    """case_id, probability, low, high, positive, novelty, far, strangest, caution."""
    left_out: dict[str, str]
    """Case id -> why there is no probability."""
    facts: dict[str, Any]
    """The model and what it learned from."""


def classify(
    model_uri: str,
    patients: Callable[[Contract], Sequence[Subject]],
    *,
    brain_mask: str | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = print,
) -> Judged:
    """The probability of each patient, with interval and distance from the training patients.

    `patients` gives the patients for a model's contract. Who cannot be prepared or measured is left out with the
    reason. Raises ValueError where the model is none of ours or was changed, and where the `FILES` could not be written
    to the folder `out` later.
    """
    if out is not None:
        check_output(out, *FILES)
    final, contract, parameters = load_classifier(model_uri)
    about = {"model": model_uri, **described(model_uri), **final.facts.told(), "contract": contract.as_dict()}
    if contract.phantom:
        say("This classifier learned from phantoms: what it says of patients means nothing.")
    if final.facts.caution:
        say(f"No verdict: {final.facts.caution}.")
    extractor = load_extractor(parameters)
    rows: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for subject in patients(contract):
        try:
            rows[subject.case_id] = measure(subject, contract, final, extractor, brain_mask)
        except (ValueError, OSError, MemoryError) as error:
            left_out[subject.case_id] = one_line(error) or "too little memory"
            say(f"  {subject.case_id}: left out, {left_out[subject.case_id]}")
    columns = ["probability", "low", "high", "positive", "novelty", "far", "strangest", "caution"]
    table = pd.DataFrame(columns=["case_id", *columns])
    if rows:
        features = pd.DataFrame.from_dict(rows, orient="index").rename_axis("case_id")
        found = final.predict(features, parameters=parameters, spacing_mm=contract.spacing_mm)
        table = found[columns].reset_index()
    return Judged(table=table, left_out=left_out, facts=about)


def measure(
    subject: Subject,
    contract: Contract,
    final: Final,
    extractor: RadiomicsFeatureExtractor,
    brain_mask: str | None,
) -> dict[str, Any]:
    """The features of a patient that the classifier reads. Raises ValueError with the reason where there are none."""
    image, flags, _ = contract.prepare(subject, brain_mask)
    tumour = (flags & TUMOUR) > 0
    names = [canonical(name) for name in contract.channels]
    found: dict[str, Any] = {}
    for part in dict.fromkeys(name.partition("_")[0] for name in final.facts.features):
        if part == SHAPE:
            found |= measure_part(part, None, tumour, contract.spacing_mm, extractor)
        elif canonical(part) in names:
            values: np.ndarray = image[names.index(canonical(part))]
            found |= measure_part(part, values, tumour, contract.spacing_mm, extractor)
    if final.facts.combat:
        value = getattr(subject, final.facts.combat)
        found[final.facts.combat] = value if isinstance(value, str) or value is None else f"{value:g}"
    return found


def told(row: Any, event: str) -> str:
    """One patient in a line: "EGD-0001: enhancing with probability 0.83 (0.61 to 0.94), ...; far from ..."."""
    decision = "no verdict: not shown to tell patients apart"
    if not row.caution:
        decision = f"{'above' if row.positive else 'below'} the threshold"
    text = (
        f"{row.case_id}: {event} with probability {row.probability:.2f} ({row.low:.2f} to {row.high:.2f}), {decision}"
    )
    text += f"; further from the training patients than {100 * row.novelty:.0f} % of them are"
    if row.far:
        text += ": outside of what the classifier has seen"
    return text + (f" ({row.strangest})" if row.strangest else "")


def write(judged: Judged, out: Path) -> None:
    """The `FILES` in a folder, which is made. Raises ValueError or an OSError as `check_output`."""
    left = pd.DataFrame(sorted(judged.left_out.items()), columns=["case_id", "reason"])
    with output_folder(out, output="classification", last=MODEL) as folder:
        for name, table in ((PREDICTIONS, judged.table), (LEFT_OUT, left)):
            write_atomically(folder / name, table.to_csv(index=False).encode())
        write_atomically(folder / MODEL, json.dumps(judged.facts, indent=2, default=str).encode())
