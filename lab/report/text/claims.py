"""The paper's statements, each tested on the patients of a study."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import pandas as pd
from scipy.stats import wilcoxon

from lab.evaluation.figures import spec_of
from lab.io.files import plural
from lab.report.tables.paired_tests import MIN_PAIRS, p_text
from lab.report.tables.patient_table import per_patient

Expected = Literal["higher", "lower", "equal"]
WHOLE = ("L1", "L2", "L1_brain", "L2_brain", "SSIM")
TUMOUR = ("L1_tumour", "L2_tumour")
MIX, COPY = ("mix(1,1,1)",), ("copy T1",)


class Claim(NamedTuple):
    """A statement of the paper: some networks against others on one figure."""

    words: str
    """The statement, after "in the paper"."""
    metric: str
    column: str
    """The column of the long table with the values of the two sides."""
    these: Collection[str]
    others: Collection[str] | None
    """None is all the other networks."""
    expected: Expected


CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "losses": (
        Claim("tumour losses cost fidelity in the brain (MAE 0.17 against 0.12)",
              "mae_brain", "loss", TUMOUR, WHOLE, "higher"),
        Claim("tumour losses were no better in the tumour (MAE 0.169-0.178 against 0.162-0.174)",
              "mae_tumour", "loss", TUMOUR, WHOLE, "equal"),
    ),
    "architecture": (
        Claim("the larger networks (2-4) were no better than the simpler ones (brain MAE 0.118-0.124)",
              "mae_brain", "model", ("2", "3", "4"), ("0", "1"), "equal"),
    ),
    "patch_size": (
        Claim("patches were no better in the tumour than the whole volume (MAE 0.16-0.18 for all)",
              "mae_tumour", "model", ("full",), None, "equal"),
    ),
    "mix_weights": (
        Claim("the mix (1, 1, 1) enhances, if coarsely", "dice_rule", "loss", MIX, COPY, "higher"),
        Claim("the mix (1, 1, 1) also predicts enhancement in tumours that do not enhance",
              "hallucinated_ml_rule", "loss", MIX, COPY, "higher"),
    ),
}  # fmt: skip


def about_the_paper(patients: pd.DataFrame, study: str, *, alpha: float = 0.05) -> list[str]:
    """A sentence for each of the paper's statements that this study's networks can test.

    `patients` is the long per-patient table. A statement is confirmed or contradicted only by a paired Wilcoxon test
    over patients (each side's networks are averaged first), corrected after Bonferroni for the study's statements.
    """
    claims = CLAIMS.get(study, ())
    sentences = (_sentence(per_patient(patients), claim, alpha / len(claims)) for claim in claims)
    return [sentence for sentence in sentences if sentence]


def _sentence(table: pd.DataFrame, claim: Claim, alpha: float) -> str:
    """The paper's statement and this study's result; "" where the study lacks the networks or the figure."""
    if claim.metric not in table:
        return ""
    sides = table[claim.column].astype(str).where(table[claim.column].notna(), table["trial"].astype(str))
    these = sides.isin(list(claim.these))
    others = ~these & table["loss"].notna() if claim.others is None else sides.isin(list(claim.others))
    who = "patient_id" if "patient_id" in table else "case_id"
    first, second = (table[part].groupby(who)[claim.metric].mean() for part in (these, others))
    difference = (first - second).dropna()
    if difference.empty:
        return ""
    spec = spec_of(claim.metric)
    means = [spec.text(side[difference.index].mean()) for side in (first, second)]
    found = f"{spec.head} {means[0]} against {means[1]}, {plural(len(difference), 'patient')}"
    if len(difference) < MIN_PAIRS:
        verdict = "too few patients for a test"
    else:
        p = float(wilcoxon(difference).pvalue) if difference.any() else 1.0
        seen: Expected = "equal" if p >= alpha else "higher" if difference.median() > 0 else "lower"
        agrees = "no difference is shown" if seen == "equal" else "this study differs from the paper"
        verdict, found = "so it is here" if seen == claim.expected else agrees, f"{found}, {p_text(p)}"
    return f"In the paper {claim.words}; {verdict} ({found})."
