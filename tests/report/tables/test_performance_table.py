"""The tables of a classifier's page: what is known is shown, what is not is a dash with its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from judged import NETWORK, judged_methods

from lab.radiomics.assess.assess import Assessment
from lab.radiomics.baselines import OURS, VOLUME, WORC
from lab.report.tables.performance import (
    accuracy_html,
    comparisons_html,
    performance_html,
    performance_markdown,
    subgroups_html,
)


@pytest.fixture(scope="module")
def found() -> Assessment:
    return judged_methods()[1]


def rows_of(page: str) -> list[list[str]]:
    """The cells of every body row, without markup inside them."""
    rows = page.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")[:-1]
    texts = [[cell.split(">", 1)[1] for cell in row.replace("</th>", "</td>").split("</td>")[:-1]] for row in rows]
    return [[first.split(">", 1)[1], *rest] for first, *rest in texts]


def test_performance_shows_every_method_in_order(found):
    rows = rows_of(performance_html(found.performance, judged=2))
    assert [row[0] for row in rows] == [OURS, WORC, VOLUME, NETWORK]
    row = found.performance.iloc[0]
    assert rows[0][2].startswith(f"{row['auc']:.2f}<br><small>{row['auc_low']:.2f} to {row['auc_high']:.2f}")
    assert f"{row['boot_low']:.2f} to {row['boot_high']:.2f}" in rows[0][2]


def test_what_is_not_known_is_a_dash_with_its_reason(found):
    page = performance_html(found.performance)
    assert rows_of(page)[-1][5:10] == ["-"] * 5
    assert f"{NETWORK}: its score is no probability" in page


def test_only_rivals_are_shaded(found):
    assert performance_html(found.performance, judged=2).count('class="rival"') == 2


def test_accuracy_shows_its_counts(found):
    page = accuracy_html(found.accuracy)
    sensitivity = found.accuracy.iloc[0]
    assert f"{int(sensitivity['hits'])} of {int(sensitivity['n'])}" in rows_of(page)[0][1]
    assert "No method has a threshold" in accuracy_html(found.accuracy.iloc[:0])


def test_a_small_p_is_bold_only_after_correction(found):
    tests = found.comparisons.assign(p=0.01, p_holm=[0.04] + [0.06] * (len(found.comparisons) - 1))
    page = comparisons_html(tests)
    assert page.count("<strong>") == page.count("<strong>0.04</strong>") == 1
    assert f"{OURS}, against" in page
    assert f"{WORC}, against" in page


def test_a_pair_without_a_test_says_why(found):
    tests = found.comparisons.assign(p=np.nan, p_holm=np.nan, note="too few")
    assert f"{NETWORK}: too few." in comparisons_html(tests)
    assert "no second method" in comparisons_html(found.comparisons.iloc[:0])


def test_subgroups_have_a_column_a_method():
    table = pd.DataFrame(
        [
            (OURS, "vendor", "GE", 20, 9, 0.8, 0.6, 0.9, ""),
            (WORC, "vendor", "GE", 20, 9, 0.7, 0.5, 0.8, ""),
            (OURS, "vendor", "unknown", 3, 1, np.nan, np.nan, np.nan, "too few"),
            (WORC, "vendor", "unknown", 3, 1, np.nan, np.nan, np.nan, "too few"),
        ],
        columns=["method", "by", "group", "n", "events", "auc", "low", "high", "note"],
    )
    rows = rows_of(subgroups_html(table))
    assert rows[0] == ["GE", "20 <small>(9)</small>", "0.80<br><small>0.60 to 0.90</small>",
                       "0.70<br><small>0.50 to 0.80</small>"]  # fmt: skip
    assert rows[1] == ["vendor: unknown", "3 <small>(1)</small>", "too few", "too few"]
    assert "Neither vendor" in subgroups_html(table.iloc[:0])


def test_the_short_table_is_markdown(found):
    lines = performance_markdown(found.performance, found.comparisons).splitlines()
    assert len(lines) == 2 + len(found.performance)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith(f"| **{OURS}**")
    assert "L1\\_brain" in lines[-1]
