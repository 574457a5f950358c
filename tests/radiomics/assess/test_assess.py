"""From predictions to tables: who counts once, who is compared with whom, and what a score in millilitres lacks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from lab.radiomics.assess.assess import (
    COLUMNS,
    YOUDEN,
    Assessment,
    assess,
    read_assessment,
    split_scores,
    with_training_thresholds,
)
from lab.radiomics.baselines import OURS, VOLUME, WORC, synthetic
from lab.stats.auc import delong_interval, delong_test
from lab.stats.intervals import corrected_t, detectable, half_width, hanley_mcneil
from lab.stats.multiple_tests import holm

FAST = {"resamples": 100, "permutations": 100}
NETWORK = synthetic("model 1, L1_brain")


def made(method: str, *, effect: float, repeats: int = 3, patients: int = 40, threshold: float = 0.5) -> pd.DataFrame:
    """Predictions of a method, each patient tested once a repeat in 4 folds."""
    rng = np.random.default_rng([len(method), repeats])
    rows = []
    labels = np.arange(patients) % 2
    strength = rng.standard_normal(patients) + effect * labels
    for repeat in range(1, repeats + 1):
        scores = norm.cdf(strength + 0.5 * rng.standard_normal(patients) - effect / 2)
        for number in range(patients):
            fold = 1 + (number // 2) % 4
            name = f"P{number:03d}"
            rows.append((method, repeat, fold, f"{name}-a", name, labels[number], scores[number], threshold, 30, 10))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    few = made(NETWORK, effect=1.5, repeats=1).iloc[:12].assign(threshold=np.nan, fold=1)
    few["score"] = 20 * few["score"]  # millilitres
    return pd.concat([made(VOLUME, effect=0.2), made(WORC, effect=1.0), made(OURS, effect=2.0), few])


@pytest.fixture(scope="module")
def found(predictions) -> Assessment:
    return assess(predictions, **FAST)


def test_the_mean_over_repeats_is_judged(predictions, found):
    own = predictions[predictions["method"] == OURS]
    mean = own.groupby("patient_id").agg(label=("label", "first"), score=("score", "mean"))
    row = found.performance.set_index("method").loc[OURS]
    assert row["auc"] == pytest.approx(roc_auc_score(mean["label"], mean["score"]), abs=1e-12)
    assert row["ap"] == pytest.approx(average_precision_score(mean["label"], mean["score"]), abs=1e-12)
    assert row["brier"] == pytest.approx(np.mean((mean["score"] - mean["label"]) ** 2), abs=1e-12)
    expected = delong_interval(mean["label"], mean["score"])
    assert (row["auc_low"], row["auc_high"]) == pytest.approx((expected.low, expected.high))


def test_repeats_of_the_same_predictions_make_no_interval_narrower(found):
    once = made(OURS, effect=1.0, repeats=1)
    copies = pd.concat([once.assign(repeat=number) for number in range(1, 11)])
    ones, many = (assess(table, **FAST) for table in (once, copies))
    shown = ["patients", "auc", "auc_low", "auc_high", "boot_low", "boot_high", "brier_low", "brier_high", "p"]
    pd.testing.assert_frame_equal(ones.performance[shown], many.performance[shown])
    pd.testing.assert_frame_equal(ones.accuracy, many.accuracy)
    assert many.performance["splits"].item() == 40
    assert many.patients["splits"].eq(10).all()


def test_the_mean_over_splits_has_the_corrected_interval(predictions, found):
    own = predictions[predictions["method"] == OURS]
    areas = [roc_auc_score(part["label"], part["score"]) for _, part in own.groupby(["repeat", "fold"])]
    expected = corrected_t(areas, train=30, test=10)
    row = found.performance.set_index("method").loc[OURS]
    assert row["splits"] == 12
    assert row["auc_splits"] == pytest.approx(expected.value)
    assert (row["auc_splits_low"], row["auc_splits_high"]) == pytest.approx((expected.low, expected.high))
    assert len(split_scores(predictions, OURS)) == 12


def test_the_decision_is_that_of_each_split_s_own_threshold():
    table = made(OURS, effect=1.0, repeats=2)
    first = table["repeat"] == 1
    table["score"] = np.where(first, 0.6, 0.3)
    table["threshold"] = np.where(first, 0.5, 0.45)  # + 0.1 and - 0.15
    everyone = assess(table, **FAST).patients
    assert everyone["margin"].to_numpy() == pytest.approx(-0.025)
    assert everyone["called"].eq(0).all()
    table["threshold"] = np.where(first, 0.5, 0.39)
    assert assess(table, **FAST).patients["called"].eq(1).all()


def test_accuracy_counts_patients(found):
    shares = found.accuracy[found.accuracy["method"] == OURS].set_index("figure")
    patients = found.patients[found.patients["method"] == OURS]
    assert shares.loc["accuracy", "n"] == 40
    assert shares.loc["sensitivity", "hits"] == (patients["called"].eq(1) & patients["label"].eq(1)).sum()


def test_a_rival_on_fewer_patients_is_compared_on_those_in_common(predictions, found):
    row = found.comparisons.set_index(["reference", "method"]).loc[(OURS, NETWORK)]
    wide = predictions.groupby(["method", "patient_id"])["score"].mean().unstack("method").dropna(subset=[NETWORK])
    labels = np.array([int(name[1:]) % 2 for name in wide.index])
    expected = delong_test(labels, wide[OURS], wide[NETWORK])
    assert (row["patients"], row["events"]) == (12, 6)
    assert (row["difference"], row["p"]) == pytest.approx((expected.difference, expected.p))


def test_what_is_no_probability_has_a_curve_only(found):
    row = found.performance.set_index("method").loc[NETWORK]
    assert 0 <= row["auc"] <= 1
    assert row[["brier", "slope", "in_the_large", "auc_splits"]].isna().all()
    assert "no probability" in row["note"]
    assert NETWORK not in set(found.accuracy["method"])


def test_each_reference_is_a_family_of_its_own(found):
    tests = found.comparisons
    assert list(tests["reference"]) == [OURS] * 3 + [WORC] * 2
    assert list(tests["method"]) == [WORC, VOLUME, NETWORK, VOLUME, NETWORK]
    for _, family in tests.groupby("reference"):
        assert family["p_holm"].to_numpy() == pytest.approx(holm(family["p"]))
    assert found.main == OURS
    assert found.judged == (OURS, WORC)


def test_worc_alone_may_be_the_one_that_is_judged(predictions):
    found = assess(predictions[predictions["method"].isin((WORC, VOLUME))], main=WORC, **FAST)
    assert found.judged == (WORC,)
    assert list(found.comparisons["method"]) == [VOLUME]
    assert list(found.performance["method"]) == [WORC, VOLUME]


def test_holm_of_a_published_example():
    # Holm 1979: 0.01, 0.02, 0.03 of three -> 0.03, 0.04, 0.04; what is unknown does not count
    assert holm([0.02, np.nan, 0.01, 0.03]) == pytest.approx([0.04, np.nan, 0.03, 0.04], nan_ok=True)


def test_subgroups_say_where_they_are_too_few(predictions):
    cases = predictions.loc[predictions["method"] == OURS, ["case_id", "patient_id"]].drop_duplicates()
    groups = cases.set_index("case_id")
    groups["vendor"] = ["GE"] * 4 + ["Philips"] * 30 + [None] * 6
    groups["grade"] = pd.array([pd.NA] * 40, dtype="Int64")
    table = assess(predictions, groups=groups, **FAST).subgroups
    own = table[table["method"] == OURS].set_index("group")
    assert list(own.index) == ["GE", "Philips", "unknown"]
    assert own.loc["GE", "note"] == "too few"
    assert np.isnan(own.loc["GE", "auc"])
    assert own.loc["Philips", "n"] == 30
    assert set(table["by"]) == {"vendor"}


def test_the_tables_come_back_from_disk(tmp_path, found):
    paths = found.write(tmp_path / "assessment")
    assert {path.stem for path in paths} == set(found.tables())
    again = read_assessment(tmp_path / "assessment")
    for name, table in found.tables().items():
        pd.testing.assert_frame_equal(table, again.tables()[name])


def test_splits_of_one_class_are_said():
    table = made(OURS, effect=1.0)
    table["fold"] = 1 + table["label"]
    row = assess(table, **FAST).performance.iloc[0]
    assert np.isnan(row["auc_splits"])
    assert "one class only" in row["note"]


def test_mistakes_are_named(predictions):
    with pytest.raises(ValueError, match=r"no predictions of 'x'; the methods are: tumour volume, WORC"):
        assess(predictions, main="x")
    with pytest.raises(ValueError, match=r"lacks the column.*threshold"):
        assess(predictions.drop(columns="threshold"))
    with pytest.raises(ValueError, match="P000-a twice in repeat 1, fold 1"):
        assess(pd.concat([predictions, predictions.iloc[:1]]))


def test_hanley_and_mcneil_s_own_example():
    # Radiology 1982: 51 abnormal and 58 normal CT images, AUC 0.893, standard error 0.032
    assert hanley_mcneil(0.893, 51, 58) == pytest.approx(0.0325, abs=2e-4)
    assert half_width(0.893, 51, 58) == pytest.approx(1.96 * 0.0325, abs=5e-4)
    # at 0.5 it is the variance of Mann and Whitney, (m + n + 1) / 12 mn
    assert hanley_mcneil(0.5, 20, 8) == pytest.approx(np.sqrt(29 / (12 * 160)))


def test_the_smallest_auc_that_can_be_told_from_chance_has_that_power():
    rng = np.random.default_rng(0)
    area = detectable(30, 30)
    hits = 0
    for _ in range(400):
        scores = rng.standard_normal(60) + np.repeat([np.sqrt(2) * norm.ppf(area), 0], 30)
        found = roc_auc_score(np.repeat([1, 0], 30), scores)
        hits += abs(found - 0.5) > 1.96 * hanley_mcneil(0.5, 30, 30)
    assert hits / 400 == pytest.approx(0.8, abs=0.06)
    assert detectable(300, 300) < area < detectable(23, 5)
    assert np.isnan(detectable(2, 2))


def test_worc_has_a_second_operating_point_for_rare_classes():
    table = made(WORC, effect=3.0)
    squeezed = table.assign(score=0.6 + 0.4 * table["score"])  # nobody is below WORC's threshold
    shares = assess(squeezed, main=WORC, **FAST).accuracy.set_index(["method", "figure"])["value"]
    assert shares[WORC, "specificity"] == 0
    assert shares[f"{WORC}, {YOUDEN}", "specificity"] > 0.5
    assert shares[f"{WORC}, {YOUDEN}", "sensitivity"] > 0.5
    alone = table[(table["repeat"] == 1) & (table["fold"] == 1)]
    assert with_training_thresholds(alone) is None


def test_a_training_threshold_does_not_depend_on_the_test_patients():
    table = made(WORC, effect=1.0)
    tested = (table["repeat"] == 1) & (table["fold"] == 2)
    other = table.assign(score=table["score"].where(~tested, 0.5))
    before, after = (with_training_thresholds(one).loc[tested[tested].index, "threshold"] for one in (table, other))
    assert before.nunique() == 1
    assert before.equals(after)
