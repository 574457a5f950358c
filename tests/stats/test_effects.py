"""Effect sizes on tables whose differences are known, and the forest plot that must not claim more than the tests."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from constructed import long_table
from matplotlib.colors import to_hex
from scipy.stats import wilcoxon

from lab.evaluation.figures import shown_in
from lab.report.figures.forest import UNCLEAR, forest
from lab.report.figures.style import BETTER, WORSE
from lab.report.tables.paired_tests import asked, paired_tests
from lab.stats.effects import COLUMNS, rank_biserial
from lab.stats.effects import effects as effects_on

effects = partial(effects_on, metrics=shown_in("effects"))
PATIENTS = 12


def table(differences: dict[str, np.ndarray], metric: str = "mae_brain") -> pd.DataFrame:
    """A reference of changing level and trials that differ from it by known amounts."""
    level = np.linspace(1, 2, PATIENTS)
    scores = {"reference": level} | {name: level + values for name, values in differences.items()}
    return pd.DataFrame(
        [
            {"trial": name, "label": f"the {name}", "case_id": f"c{i:02d}", metric: value}
            for name, values in scores.items()
            for i, value in enumerate(values)
        ]
    )


def test_a_constant_difference_has_no_spread_and_full_rank_correlation():
    found = effects(table({"low": np.full(PATIENTS, -0.25)}), against="reference").iloc[0]
    assert list(effects(table({}), against="reference").columns) == COLUMNS
    assert (found["label"], found["against_label"], found["n"]) == ("the low", "the reference", PATIENTS)
    assert found[["mean_difference", "low", "high", "rank_biserial"]].tolist() == pytest.approx([-0.25] * 3 + [-1])


def test_the_interval_has_the_spread_of_a_mean():
    noise = np.random.default_rng(1).normal(size=PATIENTS)
    found = effects(table({"noisy": noise}), against="reference", resamples=20000).iloc[0]
    error = noise.std(ddof=0) / PATIENTS**0.5
    assert found["mean_difference"] == pytest.approx(noise.mean())
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert found["low"] < noise.mean() < found["high"]


def test_rank_correlation_is_kerbys_and_agrees_with_wilcoxons_sums():
    assert rank_biserial(np.array([[1.0], [2.0], [-3.0], [4.0]]))[0] == pytest.approx((1 + 2 + 4 - 3) / 10)
    values = np.random.default_rng(2).normal(0.3, 1, (20, 1))
    positive = wilcoxon(values[:, 0], alternative="greater").statistic  # sum of the positive ranks
    assert rank_biserial(values)[0] == pytest.approx(2 * positive / (20 * 21 / 2) - 1)


def test_rank_correlation_of_zeros_and_of_nothing():
    columns = np.array([[0.0, np.nan, 0.0], [0.0, np.nan, 2.0], [np.nan, np.nan, -1.0]])
    np.testing.assert_allclose(rank_biserial(columns), [0, np.nan, 1 / 3])


def test_patients_without_a_value_do_not_count():
    differences = np.where(np.arange(PATIENTS) < 4, np.nan, 0.5)
    found = effects(table({"part": differences, "none": np.full(PATIENTS, np.nan)}), against="reference")
    part, nothing = found.iloc[0], found.iloc[1]
    assert part["n"] == 8
    assert part[["mean_difference", "low", "high"]].tolist() == pytest.approx([0.5] * 3)
    assert nothing["n"] == 0
    assert np.isnan(nothing["mean_difference"])


def test_scans_of_one_patient_count_once():
    scans = table({"other": np.linspace(-1, 1, PATIENTS)})
    scans["patient_id"] = scans["case_id"].replace({"c01": "c00"})
    assert effects(scans, against="reference").iloc[0]["n"] == PATIENTS - 1


def test_several_references_stand_in_one_table_and_unknown_ones_are_refused():
    patients = table({"a": np.ones(PATIENTS), "b": np.zeros(PATIENTS)})
    both = effects(patients, against=["reference", "a"])
    assert both.groupby("against", sort=False)["row"].apply(list).to_dict() == {
        "reference": ["a", "b"],
        "a": ["reference", "b"],
    }
    with pytest.raises(ValueError, match="no trial 'c'"):
        effects(patients, against="c")


def test_the_metrics_are_those_with_data():
    patients = long_table({"net": (0, "L1", 0.5)}, patients=8, expert=False)
    found = effects(patients, against="copy T1", resamples=50)
    known = [name for name in shown_in("effects") if name in patients and patients[name].notna().any()]
    assert list(dict.fromkeys(found["metric"])) == known
    tested = set(paired_tests(patients, against=["copy T1"])["metric"])
    assert {"dice_rule", "hallucinated_ml_rule", "mae_balanced"} <= tested
    assert "dice_expert" not in tested


def test_ranks_decide_the_direction_where_the_median_is_zero():
    """Most patients have a volume of 0; those who have not are all worse."""
    differences = np.where(np.arange(PATIENTS) < 5, np.arange(PATIENTS) + 1.0, 0.0)
    tests = paired_tests(
        table({"draws": differences}, "hallucinated_ml_rule"), against=["reference"], metrics=["hallucinated_ml_rule"]
    )
    row = asked(tests, "hallucinated_ml_rule").iloc[0]
    assert row["difference"] == 0
    assert not row["better"]


def forest_colours(figure, axes=0):
    """Colour of each trial's dot by its height."""
    return {line.get_ydata()[0]: to_hex(line.get_color()).lower() for line in figure.axes[axes].lines
            if line.get_marker() == "o"}  # fmt: skip


def test_a_difference_is_coloured_only_where_the_corrected_test_says_so():
    rng = np.random.default_rng(3)
    differences = {
        "low": -1 - 0.1 * rng.random(12),
        "high": 1 + 0.1 * rng.random(12),
        "same": 0.1 * rng.normal(size=12),
    }
    patients = table(differences)
    found, tests = effects(patients, against="reference"), paired_tests(patients, against=["reference"])
    figure = forest(found, tests, phantom=True, metrics=("mae_brain",), best="reference")
    assert forest_colours(figure) == {2: BETTER.lower(), 1: WORSE.lower(), 0: UNCLEAR}
    assert "phantom" in figure._suptitle.get_text()
    assert "best on validation" in figure._suptitle.get_text()
    unsure = forest(found, tests.assign(p_holm=0.05), phantom=False, metrics=("mae_brain",))
    assert set(forest_colours(unsure).values()) == {UNCLEAR}
    assert "phantom" not in unsure._suptitle.get_text()


def test_a_rival_takes_the_test_that_stands_in_its_own_family():
    """Against a list of references the pair best - rival belongs to the rival, yet its row in the plot knows it."""
    patients = long_table({"net": (0, "L1", 0.5), "other": (1, "L1", 0.5)}, patients=12)
    references = [0, "copy T1", "linear regression"]
    tests, found = paired_tests(patients, against=references), effects(patients, against=references, resamples=100)
    figure = forest(found, tests, phantom=True, metrics=("mae_brain",), best=0)
    texts = {text.get_text(): to_hex(text.get_color()).lower() for text in figure.axes[0].texts}
    copied = [colour for text, colour in texts.items() if "→" in text]  # far off: an arrow
    assert copied == [WORSE.lower()]
    assert "Differences to net" in figure._suptitle.get_text()


def test_a_forest_without_effects_is_refused():
    patients = table({"low": np.ones(PATIENTS)})
    with pytest.raises(ValueError, match="no effects"):
        forest(effects(patients, against="reference"), paired_tests(patients), phantom=False, metrics=("dice_rule",))
