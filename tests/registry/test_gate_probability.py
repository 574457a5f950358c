"""The gate between networks of which one or both state a probability of enhancement, on constructed patients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
from gated import QUICK, failed, patients, split_of, trivial

from lab.registry import patients as registry_patients
from lab.registry.network_gate import judge_network

ALL = range(30)


def placed(table: pd.DataFrame, score: str, share: float, *, made_up: float = 0.2) -> pd.DataFrame:
    """The table with the figures of a score at its chosen threshold: `share` of the true volume found."""
    own = {}
    for truth in ("rule", "expert"):
        true, silent = table[f"ml_{truth}"], table[f"enhances_{truth}"] == 0
        wobble = np.array([np.random.default_rng([3, i]).uniform(0.9, 1.1) for i in range(len(table))])
        overlap = share * wobble * true
        predicted = overlap + np.where(silent, made_up * wobble, 0)
        own |= {f"{score}_counts_{truth}": "0:1/1", f"{score}_threshold_{truth}": 0.3}
        own |= {f"{score}_predicted_ml_{truth}": predicted, f"{score}_overlap_ml_{truth}": overlap}
        own |= {f"{score}_hallucinated_ml_{truth}": predicted.where(silent)}
    return table.assign(**own, **({"probability_level": predicted} if score == "probability" else {}))


def candidate(name: str, table: pd.DataFrame) -> SimpleNamespace:
    """A tested network and the baselines of its study, of which boosting is the strongest."""
    beside = placed(trivial(ALL), "contrast", 0.1)
    boosting = placed(patients(ALL, 0.2, noise=80, mae=0.12, made_up=0.1), "probability", 0.4).assign(trial="boosting")
    study = SimpleNamespace(
        id="s", has_file=lambda file: True, read_table=lambda file: pd.concat([beside, boosting], ignore_index=True)
    )
    tested = registry_patients.Tested(name=name, patients=table, split=split_of(ALL), digest="d" * 32)
    return SimpleNamespace(
        name=name,
        tested=tested,
        study=study,
        facts={"strongest": {"baseline": "boosting"}},
        run=SimpleNamespace(id="r"),
    )


def stating(share: float, made_up: float = 0.2) -> pd.DataFrame:
    """A network whose image shows nothing and whose probability finds `share` of the enhancement."""
    plain = placed(patients(ALL, 0.0, noise=5), "contrast", 0.0)
    return placed(plain, "probability", share, made_up=made_up)


def silent(skill: float, share: float) -> pd.DataFrame:
    """A network that states no probability."""
    return placed(patients(ALL, skill, noise=6), "contrast", share)


def test_a_probability_is_judged_by_its_own_figures_and_against_the_strongest_baseline():
    verdict = judge_network(candidate("ours", stating(0.8)), None, QUICK)
    assert verdict.passed, verdict.reasons
    assert [(check.figure, check.against) for check in verdict.checks] == [
        *(("kappa at the chosen threshold (expert)", name) for name in ("copy T1", "linear regression", "boosting")),
        ("MAE, brain", "boosting, the better baseline"),
        ("hallucinated volume at the chosen threshold (expert, ml)", "boosting, the better baseline"),
    ]
    assert verdict.notes[-1].startswith("Ours states a probability of enhancement")
    weak = judge_network(candidate("ours", stating(0.3)), None, QUICK)
    assert failed(weak) == [("kappa at the chosen threshold (expert)", "boosting")]


def test_a_champion_without_a_probability_is_read_by_its_contrast_at_its_own_threshold():
    ours = candidate("ours", stating(0.8))
    verdict = judge_network(ours, candidate("version 3", silent(0.6, 0.5)), QUICK)
    assert verdict.passed, verdict.reasons
    first = verdict.checks[0]
    assert (first.figure, first.against) == ("kappa at the chosen threshold (expert)", "champion, version 3")
    better = judge_network(ours, candidate("version 3", silent(0.6, 0.95)), QUICK)
    assert failed(better)[0] == ("kappa at the chosen threshold (expert)", "champion, version 3")
    bold = judge_network(candidate("ours", stating(0.8, made_up=2.0)), candidate("version 3", silent(0.6, 0.5)), QUICK)
    assert ("hallucinated volume at the chosen threshold (expert, ml)", "champion, version 3") in failed(bold)


def test_a_challenger_without_a_probability_meets_the_champions():
    verdict = judge_network(candidate("ours", silent(0.6, 0.95)), candidate("version 3", stating(0.5)), QUICK)
    assert verdict.passed, verdict.reasons
    assert verdict.checks[0].figure == "kappa at the chosen threshold (expert)"
    assert [check.figure for check in verdict.checks[3:]] == ["contrast concordance"] * 2  # its own baselines
    assert any(note.startswith("Version 3 states a probability") for note in verdict.notes)


def test_a_champion_of_a_version_without_thresholds_cannot_be_compared():
    verdict = judge_network(candidate("ours", stating(0.8)), candidate("version 3", patients(ALL, 0.6, noise=6)), QUICK)
    assert "the test of champion, version 3 chose no threshold on validation patients" in verdict.trouble
