"""Pooled figures on hand-computed numbers, against scikit-learn and SciPy, and intervals that behave."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from lab.evaluation.enhancement import SUMS, gain_sums
from lab.evaluation.pooled import point, pooled
from lab.stats.agreement import weighted_concordance
from lab.stats.auc import weighted_auc

FIGURES = [
    "auc",
    "dice",
    "dice_pooled",
    "kappa",
    "sensitivity_pooled",
    "precision_pooled",
    "concordance",
    "bias_ml",
    "bias_loa_low",
    "bias_loa_high",
    "lesions_found",
    "lesions_false",
    "hallucinated_ml",
    "contrast",
    "cnr",
]


def contrasts(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawn and true rise over T1 of a patient's voxels."""
    rng = np.random.default_rng([7, number])
    true = rng.gamma(1, 0.2, 50)
    return 0.6 * true + 0.1 * rng.standard_normal(50), true


def group(count: int, *, seed: int = 0, expert: bool = True) -> pd.DataFrame:
    """Patients of whom some do not enhance; every second patient has no expert label."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        row = {"case_id": f"c{number}", "patient_id": f"p{number}", "enhancing": number % 3 > 0}
        row["ml_predicted"] = float(rng.gamma(2, 2))
        row["ml_near"] = 60.0
        row |= dict(zip(SUMS, gain_sums(*contrasts(number))))
        for name in ("mae_balanced", "midline_ml_false", "checkerboard", "sharpness", "enhancement_level"):
            row[name] = float(rng.random())
        for definition in ("rule", "expert"):
            enhances = number % 3 > 0
            ml = float(rng.gamma(2, 2)) + 0.5 if enhances else 0.1
            overlap = min(ml, row["ml_predicted"]) * rng.random()
            lesions = int(rng.integers(1, 4)) if enhances else 0
            figures = {
                "ml": ml,
                "enhances": float(enhances),
                "overlap_ml": overlap,
                "bias_ml": row["ml_predicted"] - ml,
                "dice": 2 * overlap / (ml + row["ml_predicted"]),
                "lesions": float(lesions),
                "found": float(rng.integers(0, lesions + 1)),
                "false": float(rng.integers(0, 3)),
                "hallucinated_ml": np.nan if enhances else row["ml_predicted"],
                "contrast": rng.random() if enhances else np.nan,
                "cnr": 20 * rng.random() if enhances else np.nan,
            }
            known = definition == "rule" or (expert and number % 2 == 0)
            row |= {f"{name}_{definition}": value if known else np.nan for name, value in figures.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def value(table: pd.DataFrame, definition: str, figure: str, column: str = "value") -> float:
    return table.set_index(["definition", "figure"])[column][definition, figure]


def test_the_table_names_its_figures_in_order():
    table = pooled(group(12), resamples=50)
    assert list(table.columns) == ["definition", "figure", "value", "low", "high", "n"]
    overall = ["contrast_concordance", "mae_balanced", "midline_ml_false", "checkerboard", "sharpness"]
    assert table["figure"].tolist() == FIGURES + FIGURES + overall
    assert table["definition"].tolist() == ["rule"] * 15 + ["expert"] * 15 + [""] * 5


def test_a_definition_without_truth_is_left_out():
    assert set(pooled(group(9, expert=False), resamples=10)["definition"]) == {"rule", ""}


@pytest.mark.parametrize("definition", ["rule", "expert"])
def test_values_are_pandas_scikit_learn_and_textbook(definition):
    patients = group(30)
    table = pooled(patients, resamples=20)
    rows = patients.dropna(subset=[f"ml_{definition}"])
    get = {name: rows[f"{name}_{definition}"] for name in ("ml", "overlap_ml", "dice", "bias_ml", "found", "lesions")}
    total, overlap, predicted = get["ml"].sum(), get["overlap_ml"].sum(), rows["ml_predicted"].sum()
    spread = 1.96 * get["bias_ml"].std(ddof=1)
    x, y = rows["ml_predicted"].to_numpy(), get["ml"].to_numpy()
    expected = {
        "auc": roc_auc_score(rows[f"enhances_{definition}"], rows["enhancement_level"]),
        "dice": get["dice"].mean(),
        "dice_pooled": 2 * overlap / (total + predicted),
        "kappa": _kappa(overlap, predicted, total, rows["ml_near"].sum()),
        "sensitivity_pooled": overlap / total,
        "precision_pooled": overlap / predicted,
        "concordance": 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2),
        "bias_ml": get["bias_ml"].mean(),
        "bias_loa_low": get["bias_ml"].mean() - spread,
        "bias_loa_high": get["bias_ml"].mean() + spread,
        "lesions_found": get["found"].sum() / get["lesions"].sum(),
        "lesions_false": rows[f"false_{definition}"].mean(),
        "hallucinated_ml": rows[f"hallucinated_ml_{definition}"].mean(),
        "contrast": rows[f"contrast_{definition}"].mean(),
        "cnr": rows[f"cnr_{definition}"].mean(),
    }
    for figure, number in expected.items():
        assert value(table, definition, figure) == pytest.approx(number), figure
    assert value(table, definition, "dice", "n") == len(rows)
    assert value(table, definition, "hallucinated_ml", "n") == rows[f"hallucinated_ml_{definition}"].notna().sum()
    assert value(table, "", "sharpness") == pytest.approx(patients["sharpness"].mean())


def _kappa(overlap: float, drawn: float, true: float, whole: float) -> float:
    """By scikit-learn: the four kinds of voxel, weighed by their volume."""
    weights = np.array([overlap, drawn - overlap, true - overlap, whole - drawn - true + overlap])
    return cohen_kappa_score([1, 1, 0, 0], [1, 0, 1, 0], sample_weight=weights)


def test_kappa_is_nought_for_painting_all_and_for_nothing_and_one_where_equal():
    whole = group(12)
    for drawn, overlap, expected in (("ml_near", "ml_rule", 0.0), (0.0, 0.0, 0.0), ("ml_rule", "ml_rule", 1.0)):
        columns = {"ml_predicted": drawn, "overlap_ml_rule": overlap}
        table = whole.assign(**{name: whole[of] if isinstance(of, str) else of for name, of in columns.items()})
        assert point(table, "rule", "kappa") == pytest.approx(expected, abs=1e-12)


def concordance(x, y) -> float:
    with np.errstate(invalid="ignore"):
        return float(weighted_concordance(np.asarray(x, float), np.asarray(y, float), np.ones((1, len(x))))[0])


def auc(scores, labels) -> float:
    with np.errstate(invalid="ignore"):
        return float(weighted_auc(np.asarray(labels) == 1, np.asarray(scores, float), np.ones((1, len(scores))))[0])


def test_concordance_on_hand_computed_numbers():
    """x = 1 2 3 4, y = 2 3 4 5: variances and covariance 1.25, means 1 apart: 2.5 / (2.5 + 1) = 5/7."""
    assert concordance([1, 2, 3, 4], [2, 3, 4, 5]) == pytest.approx(5 / 7)
    assert concordance([1, 2, 3, 4], [1, 2, 3, 4]) == 1
    assert concordance([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert concordance([0, 0, 0], [1, 2, 3]) == 0
    assert np.isnan(concordance([2, 2], [2, 2]))
    assert concordance([1e6, 1e6 + 1], [1e6, 1e6 + 1]) == pytest.approx(1)


def test_the_contrast_is_pooled_over_the_voxels_of_all_patients():
    table = pooled(group(12), resamples=50)
    drawn, true = (np.concatenate(part) for part in zip(*(contrasts(number) for number in range(12))))
    assert value(table, "", "contrast_concordance") == pytest.approx(concordance(drawn, true))


def test_concordance_is_the_correlation_where_means_and_spreads_agree():
    x = np.random.default_rng(0).normal(size=50)
    y = np.random.default_rng(1).normal(size=50) + x
    x, y = ((a - a.mean()) / a.std() for a in (x, y))
    assert concordance(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)


def test_auc_equals_scikit_learn_and_mann_whitney_with_ties():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 8, 60), rng.integers(0, 2, 60)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    u = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert auc(scores, labels) == pytest.approx(u / (labels.sum() * (60 - labels.sum())))
    assert auc([1, 1], [0, 1]) == 0.5
    assert np.isnan(auc([1, 2], [1, 1]))


def test_the_interval_of_a_mean_is_scipy_s_bootstrap():
    patients = group(40)
    table = pooled(patients, resamples=4000)
    theirs = stats.bootstrap(
        (patients["sharpness"].to_numpy(),),
        np.mean,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert value(table, "", "sharpness", "low") == pytest.approx(theirs.low, abs=0.01)
    assert value(table, "", "sharpness", "high") == pytest.approx(theirs.high, abs=0.01)


def test_intervals_hold_their_value_and_limits_of_agreement_have_none():
    table = pooled(group(30))
    plain = table[~table["figure"].str.startswith("bias_loa")]
    assert (plain["low"] <= plain["value"]).all()
    assert (plain["value"] <= plain["high"]).all()
    assert table.loc[table["figure"].str.startswith("bias_loa"), ["low", "high"]].isna().all(axis=None)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Means of 30 values each, 200 groups: about 93 % for a percentile bootstrap of this size."""
    rng = np.random.default_rng(0)
    patients = group(30)[["case_id", "patient_id"]]
    covered = 0
    for _ in range(200):
        row = pooled(patients.assign(sharpness=rng.normal(1, 0.2, 30)), resamples=300).iloc[-1]
        covered += row["low"] <= 1 <= row["high"]
    assert 0.88 < covered / 200 < 0.98


def test_scans_of_one_patient_are_drawn_together():
    """Two scans with equal figures add no knowledge: the interval is that of single scans, not narrower."""
    once = group(15)
    twice = pd.concat([once, once.assign(case_id=once["case_id"] + "b")])
    pd.testing.assert_frame_equal(
        pooled(twice).query("figure not in ('bias_loa_low', 'bias_loa_high')"),
        pooled(once).query("figure not in ('bias_loa_low', 'bias_loa_high')"),
    )
    assert value(pooled(twice), "rule", "dice", "n") == 15


def test_same_seed_same_table_whatever_the_order():
    patients = group(12)
    pd.testing.assert_frame_equal(pooled(patients), pooled(patients.sample(frac=1, random_state=1)))
    assert value(pooled(patients, seed=1), "", "sharpness", "low") != value(pooled(patients), "", "sharpness", "low")


def test_what_nobody_has_is_empty():
    patients = group(9)
    patients[["enhances_rule", "contrast_rule", "hallucinated_ml_rule"]] = (1.0, np.nan, np.nan)
    patients["ml_predicted"] = patients["overlap_ml_rule"] = 0.0
    table = pooled(patients, resamples=50)
    for figure in ("auc", "contrast", "hallucinated_ml", "precision_pooled"):
        assert np.isnan([value(table, "rule", figure, column) for column in ("value", "low", "high")]).all(), figure
    assert value(table, "rule", "contrast", "n") == 0
    assert value(table, "rule", "sensitivity_pooled") == 0


def test_a_single_patient_has_figures():
    table = pooled(group(2).iloc[1:], resamples=20)
    assert value(table, "rule", "dice", "low") == value(table, "rule", "dice")
    assert np.isnan(value(table, "rule", "concordance")) or value(table, "rule", "concordance") == 0
    assert np.isnan(value(table, "rule", "bias_loa_low"))
