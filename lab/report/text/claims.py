"""Does this study see what the paper saw? The paper's own statements, each held against the patients of this study."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy.stats import wilcoxon

from lab.evaluation.figures import name_of
from lab.report.tables.paired_tests import MIN_PAIRS
from lab.report.tables.patient_table import per_patient, plural
from lab.report.text.verdict import p_text

Expected = Literal["higher", "lower", "equal"]
WHOLE = ("L1", "L2", "L1_brain", "L2_brain", "SSIM")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Some networks against others on one figure, as the paper found it."""

    words: str
    """What the paper says, as a sentence without its full stop."""
    metric: str
    column: str
    """The column of the long table that tells the two apart."""
    these: Collection[str]
    others: Collection[str] | None
    """Values of the column; None is all the other networks."""
    expected: Expected


CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "losses": (
        Claim(
            words="In the paper the tumour losses cost fidelity in the brain (MAE 0.17 against 0.12)",
            metric="mae_brain",
            column="loss",
            these=("L1_tumour", "L2_tumour"),
            others=WHOLE,
            expected="higher",
        ),
        Claim(
            words="In the paper the tumour losses were no better in the tumour (MAE 0.169-0.178 against 0.162-0.174)",
            metric="mae_tumour",
            column="loss",
            these=("L1_tumour", "L2_tumour"),
            others=WHOLE,
            expected="equal",
        ),
    ),
    "architecture": (
        Claim(
            words="In the paper the larger networks (2-4) were no better than the simpler ones (brain MAE 0.118-0.124)",
            metric="mae_brain",
            column="model",
            these=("2", "3", "4"),
            others=("0", "1"),
            expected="equal",
        ),
    ),
    "patch_size": (
        Claim(
            words="In the paper patches were no better in the tumour than the whole volume (MAE 0.16-0.18 for all)",
            metric="mae_tumour",
            column="model",
            these=("full",),
            others=None,
            expected="equal",
        ),
    ),
    "mix_weights": (
        Claim(
            words="In the paper the mix (1, 1, 1) enhances, if coarsely",
            metric="dice_rule",
            column="loss",
            these=("mix(1,1,1)",),
            others=("copy T1",),
            expected="higher",
        ),
        Claim(
            words="In the paper the mix (1, 1, 1) also draws enhancement in tumours that do not enhance",
            metric="hallucinated_ml_rule",
            column="loss",
            these=("mix(1,1,1)",),
            others=("copy T1",),
            expected="higher",
        ),
    ),
}


def about_the_paper(patients: pd.DataFrame, study: str, *, alpha: float = 0.05) -> list[str]:
    """A sentence for each of the paper's statements that this study's networks can be held against.

    `patients` is the long per-patient table. A statement is confirmed or contradicted only by a paired Wilcoxon test
    over patients (each side's networks are averaged first), corrected after Bonferroni for the study's statements.
    """
    claims = CLAIMS.get(study, ())
    told = (_held(per_patient(patients), claim, alpha=alpha / max(1, len(claims))) for claim in claims)
    return [sentence for sentence in told if sentence]


def _held(table: pd.DataFrame, claim: Claim, *, alpha: float) -> str:
    """The paper's words and what this study says of them; "" where it lacks the networks or the figure."""
    sides = table[claim.column].astype(str).where(table[claim.column].notna(), table["trial"].astype(str))
    these = sides.isin(list(claim.these))
    others = ~these & table["loss"].notna() if claim.others is None else sides.isin(list(claim.others))
    if claim.metric not in table:
        return ""
    who = "patient_id" if "patient_id" in table else "case_id"
    first, second = (table[part].groupby(who)[claim.metric].mean() for part in (these, others))
    difference = (first - second).dropna()
    if difference.empty:
        return ""
    name, count = name_of(claim.metric), len(difference)
    figures = f"{name.text(first[difference.index].mean())} against {name.text(second[difference.index].mean())}"
    found = f"{name.title} {figures}, {plural(count, 'patient')}"
    if count < MIN_PAIRS or not difference.any():
        reason = "no difference at all" if not difference.any() else "too few for a test"
        return f"{claim.words}. Here: {found}, {reason}."
    p = float(wilcoxon(difference).pvalue)
    seen: Expected = "equal" if p >= alpha else "higher" if difference.median() > 0 else "lower"
    if seen == claim.expected:
        verdict = "no difference is shown here either" if seen == "equal" else "so it is here"
    elif seen == "equal":
        verdict = "here no difference is shown"
    else:
        verdict = "this study differs from the paper"
    return f"{claim.words}; {verdict} ({found}, {p_text(p)})."
