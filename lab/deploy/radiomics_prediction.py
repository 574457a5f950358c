"""What the other arm says of a patient whose image is drawn: the probability of a radiomics classifier, beside it."""

from __future__ import annotations

from typing import Any

from lab.data.layouts.find import Subject
from lab.tracking.models.registered import described


def pinned(uri: str) -> str:
    """A model by its version, which does not move as an alias may. Raises ValueError where there is no such model."""
    found = described(uri)
    if not found and not uri.startswith(("models:/m-", "runs:/")):
        raise ValueError(f"--classifier {uri}: there is no such model")
    return f"models:/{found['name']}/{found['version']}" if found else uri


def second_opinion(uri: str, subject: Subject, brain_mask: str | None) -> dict[str, Any]:
    """Probability with its interval, how far the patient is from the classifier's own training patients, and its AUC.

    `missing` says why there is none. Raises ValueError where the model is no classifier.
    """
    if subject.mask is None:
        return {"model": uri, "missing": "a classifier needs the tumour's mask"}
    from lab.deploy.classify import classify  # pyradiomics takes a second to import

    judged = classify(uri, lambda _: [subject], brain_mask=brain_mask, say=lambda _: None)
    about = {"model": uri, "event": judged.facts["event"], "phantom": bool(judged.facts["contract"]["phantom"])}
    if judged.table.empty:
        return {**about, "missing": next(iter(judged.left_out.values()))}
    row = judged.table.iloc[0]
    found: dict[str, Any] = {name: round(float(row[name]), 4) for name in ("probability", "low", "high", "novelty")}
    names = ("auc", "auc_low", "auc_high", "auc_patients", "caution")
    found |= {"positive": None if row["caution"] else bool(row["positive"])}
    found |= {"far": bool(row["far"]), "strangest": row["strangest"]}
    return {**about, **found, **{name: judged.facts[name] for name in names}}
