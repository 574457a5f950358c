"""ComBat against a plain program with loops, against what it promises, and on cases it was not fitted on."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from lab.radiomics.pipeline.combat import ComBat


def make(sizes=(30, 20, 15), features=40, seed=0):
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for number, size in enumerate(sizes):
        shift, factor = rng.normal(number, 0.5, features), rng.uniform(0.7, 1.5, features) * (1 + 0.5 * number)
        rows.append(10 + shift + factor * rng.normal(size=(size, features)))
        labels += ["ABC"[number]] * size
    X = pd.DataFrame(np.concatenate(rows), columns=[f"f{n}" for n in range(features)])
    return X.assign(vendor=pd.array(labels, dtype="string"))


def plain_combat(values: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """(cases, features), feature by feature, as in the supplement of Johnson 2007."""
    names, n = sorted(set(batches)), len(values)
    out = np.empty_like(values)
    means = {b: values[batches == b].mean(axis=0) for b in names}
    grand = sum(means[b] * (batches == b).sum() / n for b in names)
    pooled = sum(((values[batches == b] - means[b]) ** 2).sum(axis=0) for b in names) / n
    for b in names:
        z = (values[batches == b] - grand) / np.sqrt(pooled)
        gamma_hat, delta_hat = z.mean(axis=0), z.var(axis=0, ddof=1)
        gamma_bar, tau = gamma_hat.mean(), gamma_hat.var(ddof=1)
        m, s = delta_hat.mean(), delta_hat.var(ddof=1)
        a, c = (2 * s + m**2) / s, (m * s + m**3) / s
        for g in range(values.shape[1]):
            gamma, delta = gamma_hat[g], delta_hat[g]
            for _ in range(1000):
                new = (tau * len(z) * gamma_hat[g] + delta * gamma_bar) / (tau * len(z) + delta)
                delta = (c + 0.5 * ((z[:, g] - new) ** 2).sum()) / (len(z) / 2 + a - 1)
                if abs(new - gamma) < 1e-12:
                    break
                gamma = new
            out[batches == b, g] = (z[:, g] - gamma) / np.sqrt(delta) * np.sqrt(pooled[g]) + grand[g]
    return out


def test_it_equals_a_plain_program():
    X = make()
    ours = ComBat().fit_transform(X)
    reference = plain_combat(X.drop(columns="vendor").to_numpy(), X["vendor"].to_numpy(str))
    assert np.allclose(ours, reference, rtol=0, atol=1e-3 * X["f0"].std())


def test_means_and_variances_of_batches_come_together():
    X = make(sizes=(200, 150, 100))
    before, after = X.groupby("vendor"), ComBat().fit_transform(X).groupby(X["vendor"])
    spread = X["f0"].std()
    assert before.mean().std().mean() > 0.5
    assert after.mean().std().max() < 0.1 * spread  # not 0: shifts are shrunk towards those of other features
    assert after.std().apply(lambda sds: sds.max() / sds.min()).max() < 1.15
    assert before.std().apply(lambda sds: sds.max() / sds.min()).max() > 1.5


def test_a_known_shift_is_taken_out():
    rng = np.random.default_rng(0)
    one = pd.DataFrame(rng.normal(size=(100, 30)))
    X = pd.concat([one, one + 4], ignore_index=True)
    X.columns = [f"f{n}" for n in range(30)]
    found = ComBat("b").fit_transform(X.assign(b=["x"] * 100 + ["y"] * 100))
    apart = found.iloc[100:].to_numpy() - found.iloc[:100].to_numpy()  # was 4 everywhere
    assert np.abs(apart).max() < 0.4
    assert abs(apart.mean()) < 0.02
    assert np.allclose(found.iloc[:100], one + 2, atol=0.4)


def test_a_case_is_harmonised_alone_as_in_a_crowd():
    X = make()
    combat = ComBat().fit(X)
    assert np.array_equal(combat.transform(X.iloc[[40]]), combat.transform(X).iloc[[40]])


def test_an_unknown_batch_passes_unchanged_with_a_warning():
    X = make(sizes=(30, 20, 2))
    combat = ComBat().fit(X)
    strange = X.iloc[-3:].copy()
    strange.loc[strange.index[-1], "vendor"] = pd.NA
    with pytest.warns(UserWarning, match="C, missing had fewer than 3"):
        found = combat.transform(strange)
    assert np.allclose(found.iloc[1:], strange.iloc[1:, :-1])
    assert not np.allclose(found.iloc[0], strange.iloc[0, :-1].astype(float))


def test_gaps_stay_gaps_and_constants_stay_constant():
    X = make()
    X.loc[3, "f1"] = np.nan
    X["f2"] = 7.0
    X.loc[X["vendor"] == "A", "f3"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ComBat().fit_transform(X)
    assert found["f1"].isna().sum() == 1
    assert (found["f2"] == 7.0).all()
    assert found["f3"].notna().sum() == 35


def test_one_batch_or_no_column_is_an_error():
    X = make(sizes=(30, 2, 1))
    with pytest.raises(ValueError, match="A: 30, B: 2, C: 1"):
        ComBat().fit(X)
    with pytest.raises(ValueError, match="needs the column field"):
        ComBat("field").fit(X)
