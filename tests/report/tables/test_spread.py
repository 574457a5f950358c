"""Spread over seeds and folds, from numbers that give it away."""

import numpy as np
import pandas as pd
import pytest
from constructed import long_table, spread_of

from lab.report.pages.html import item_html
from lab.report.tables.paper_table import paper_table
from lab.report.tables.published import comparable
from lab.report.tables.spread import spread_remark, spread_summary, spread_table


def made(values: dict[tuple[int, int], float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"trial": 0, "label": "net & co", "seed": seed, "fold": fold, "n": 5, "mae_brain": value}
            for (seed, fold), value in values.items()
        ]
    )


def test_seeds_and_folds_are_separate():
    row = spread_table(made({(0, 0): 1.0, (1, 0): 3.0, (0, 1): 10.0, (1, 1): 14.0})).iloc[0]
    assert (row["seeds"], row["folds"]) == (2, 2)
    assert row["mae_brain_mean"] == pytest.approx(7.0)  # of 2 and 12
    assert row["mae_brain_sd_seeds"] == pytest.approx(((2 + 8) / 2) ** 0.5)  # variances 2 and 8 within the folds
    assert row["mae_brain_sd_folds"] == pytest.approx(np.std([2, 12], ddof=1))


def test_one_seed_or_one_fold_has_no_spread():
    seeds = spread_table(made({(0, 0): 1.0, (1, 0): 3.0})).iloc[0]
    assert seeds["mae_brain_sd_seeds"] == pytest.approx(2**0.5)
    assert np.isnan(seeds["mae_brain_sd_folds"])
    folds = spread_table(made({(0, 0): 1.0, (0, 1): 3.0})).iloc[0]
    assert np.isnan(folds["mae_brain_sd_seeds"])
    assert folds["mae_brain_sd_folds"] == pytest.approx(2**0.5)


def test_without_folds_the_column_may_be_empty():
    spread = made({(0, 0): 1.0, (1, 0): 3.0}).assign(fold=None)
    assert spread_table(spread).iloc[0]["mae_brain_sd_seeds"] == pytest.approx(2**0.5)
    assert "2 seeds" in item_html(spread_summary(spread))


def test_wrong_tables_are_refused():
    spread = made({(0, 0): 1.0})
    with pytest.raises(ValueError, match="lacks"):
        spread_table(spread.drop(columns="seed"))
    with pytest.raises(ValueError, match="twice"):
        spread_table(pd.concat([spread, spread]))


def test_the_table_says_what_its_spreads_are():
    patients = long_table({"net": (0, "L1", 0.5)}, patients=8)
    both = spread_of(patients, seeds=3, folds=2)
    html = item_html(spread_summary(both, phantom=True))
    assert "Spread of the mean over 3 seeds and 2 folds (phantom" in html
    for text in ("SD, seeds", "SD, folds", "Dice (rule)", "Neither is the SD over patients"):
        assert text in html
    assert "SD, folds" not in item_html(spread_summary(spread_of(patients, seeds=3, folds=1)))
    assert "net &amp; co" in item_html(spread_summary(made({(0, 0): 1.0, (1, 0): 2.0})))


def test_the_table_of_scores_gains_a_note():
    patients = long_table({"net": (0, "L1", 0.5)}, patients=8)
    comparison = comparable(phantom=True, dataset="x", spacing_mm=2, width=8, depth=3)
    spread = spread_of(patients, seeds=2, folds=1)
    table = paper_table(patients, study="losses", comparison=comparison, phantom=True, spread=spread)
    assert table.notes[0] == spread_remark(spread)
    assert "means over 2 seeds" in table.text()
    assert "seeds" not in paper_table(patients, study="losses", comparison=comparison, phantom=True).text()
