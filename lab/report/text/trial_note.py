"""One trial in a minute: the note at the top of its run, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lab.evaluation.figures import name_of
from lab.report.tables.patient_table import RIVALS, plain_markdown
from lab.report.text.study_note import spaced_row

SHOWN = (
    "mae_brain",
    "mae_tumour",
    "ssim_brain",
    "contrast_pooled",
    "dice_pooled_rule",
    "dice_pooled_expert",
    "hallucinated_ml_rule",
    "contrast_rule",
)


def trial_note(
    label: str,
    figures: Mapping[str, float],
    rivals: Mapping[str, Mapping[str, float]],
    *,
    phantom: bool,
    best: bool,
    artifacts: Sequence[str],
) -> str:
    """Answer, a short table of the network beside the trivial rivals, and what to open.

    `figures`, and those of each of `rivals`, are means over the test patients by column of the per-patient table;
    missing or NaN is shown as "-". The answer comes first, since MLflow folds a note after four lines. `artifacts` are
    names of files or folders of the run, each of which may carry a few words behind it: "slices.png: two patients".
    """
    lines = [answer(label, figures, rivals, phantom=phantom, best=best), ""]
    columns = {plain_markdown(label): figures} | {name: rivals.get(name, {}) for name in RIVALS}
    lines += [spaced_row(["mean over test patients", *columns]), "|---" * (len(columns) + 1) + "|"]
    for figure in SHOWN:
        name = name_of(figure)
        title = plain_markdown(f"{name.title}: {name.hint}")
        lines.append(spaced_row([title, *(name.text(figure_of(column, figure)) for column in columns.values())]))
    if artifacts:
        lines += ["", "Under Artifacts: " + ", ".join(_file(artifact) for artifact in artifacts) + "."]
    return "\n".join(lines)


def answer(
    label: str,
    figures: Mapping[str, float],
    rivals: Mapping[str, Mapping[str, float]],
    *,
    phantom: bool,
    best: bool,
) -> str:
    """How good the network is, in one sentence, with the rivals' figures in brackets."""

    def beside(figure: str) -> str:
        values = {name: figure_of(rivals.get(name, {}), figure) for name in RIVALS}
        texts = [f"{name} {name_of(figure).text(value)}" for name, value in values.items() if math.isfinite(value)]
        return f" ({', '.join(texts)})" if texts else ""

    def value(figure: str) -> str:
        return name_of(figure).text(figure_of(figures, figure))

    known = {name for name, number in figures.items() if math.isfinite(number)}
    parts = [f"test MAE brain {value('mae_brain')}{beside('mae_brain')}"]
    parts += [
        f"Dice ({d}) {value(f'dice_pooled_{d}')}{beside(f'dice_pooled_{d}')}"
        for d in ("rule", "expert")
        if f"dice_pooled_{d}" in known
    ]
    if "hallucinated_ml_rule" in known:
        parts.append(f"{value('hallucinated_ml_rule')} ml hallucinated in patients who do not enhance")
    said = "**Phantom: simulated patients, no evidence about real ones.** " if phantom else ""
    said += f"**{plain_markdown(label)}**" + (", best of its study on validation patients" if best else "")
    return f"{said}: {'; '.join(parts)}."


def figure_of(figures: Mapping[str, float], name: str) -> float:
    """A figure, NaN where there is none."""
    return figures.get(name, math.nan)


def _file(artifact: str) -> str:
    """A file's name as code, with what is said about it behind."""
    name, _, words = artifact.partition(": ")
    return f"`{name}`" + (f" ({plain_markdown(words)})" if words else "")
