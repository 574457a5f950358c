"""The paper's statements are confirmed or contradicted by a test, and by nothing less."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lab.report.text.claims import CLAIMS, about_the_paper

LOSSES = ("L1", "L2", "L1_brain", "L2_brain", "SSIM", "L1_tumour", "L2_tumour")


def table(cost: float, patients: int = 12) -> pd.DataFrame:
    """Tumour losses err by `cost` more in the brain, and neither more nor less in the tumour."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(patients):
        for trial, loss in enumerate(LOSSES):
            extra = cost if loss.endswith("tumour") else 0.0
            row = {"trial": trial, "label": loss, "model": "0", "loss": loss, "case_id": f"p{number:02d}"}
            row |= {"mae_brain": 0.12 + extra + 0.01 * rng.standard_normal()}
            rows.append(row | {"mae_tumour": 0.17 + 0.01 * rng.standard_normal()})
    return pd.DataFrame(rows)


def test_what_the_paper_saw_and_this_study_sees():
    brain, tumour = about_the_paper(table(0.05), "losses")
    assert "so it is here (MAE, brain 0.168 against 0.120, 12 patients, p < 0.001)" in brain
    assert "so it is here (MAE, tumour" in tumour


def test_what_differs_from_the_paper_is_said():
    brain, _ = about_the_paper(table(-0.05), "losses")
    assert "this study differs from the paper (MAE, brain 0.068 against 0.120" in brain


def test_what_is_not_shown_is_not_claimed():
    brain, _ = about_the_paper(table(0.0), "losses")
    assert "no difference is shown" in brain
    brain, _ = about_the_paper(table(0.05, patients=4), "losses")
    assert "too few patients for a test (MAE, brain" in brain


def test_a_baseline_can_be_the_other_side():
    rng = np.random.default_rng(0)
    rows = [{"case_id": f"p{i}", "trial": 0, "label": "mix", "loss": "mix(1,1,1)", "model": "0",
             "dice_rule": 0.1 + 0.1 * rng.random()} for i in range(10)]  # fmt: skip
    rows += [{"case_id": f"p{i}", "trial": "copy T1", "label": "copy T1", "loss": None, "model": None, "dice_rule": 0.0}
             for i in range(10)]  # fmt: skip
    (sentence,) = about_the_paper(pd.DataFrame(rows), "mix_weights")
    assert "so it is here" in sentence


@pytest.mark.parametrize("study", ["architecture", "elsewhere"])
def test_a_study_without_the_networks_says_nothing(study):
    assert about_the_paper(table(0.0), study) == []


def test_claims_name_losses_and_models_that_exist():
    from lab.synthesis.losses import LOSSES as KNOWN

    for claim in (claim for claims in CLAIMS.values() for claim in claims if claim.column == "loss"):
        named = {*claim.these, *(claim.others or ())}
        assert {name for name in named if name not in KNOWN} <= {"mix(1,1,1)", "copy T1"}
