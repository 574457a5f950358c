"""The tables of a classifier's page: what is known is shown, what is not is a dash with its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from judged import NETWORK, judged_methods

from lab.radiomics.assess.assess import Assessment
from lab.radiomics.baselines import OURS, VOLUME, WORC
from lab.report.pages.html import item_html
from lab.report.tables.performance import (
    accuracy_table,
    delong_tables,
    performance_table,
    plain_table,
    subgroup_table,
    summary_table,
)
from lab.report.tables.table import Table


@pytest.fixture(scope="module")
def found() -> Assessment:
    return judged_methods()[1]


def rows_of(table: Table) -> list[list[str]]:
    """The cells of every row: a value, and its small print below it."""
    cells = [[table.cell(row, place) for place in range(len(table.columns))] for row in table.rows]
    return [["\n".join([text, *small]) for text, small, _ in row] for row in cells]


def test_performance_shows_every_method_in_order(found):
    rows = rows_of(performance_table(found.performance, judged=2))
    assert [row[0] for row in rows] == [OURS, WORC, VOLUME, NETWORK]
    row = found.performance.iloc[0]
    assert rows[0][1] == "40\n20 events"
    assert rows[0][2] == (
        f"{row['auc']:.2f}\n{row['auc_low']:.2f} to {row['auc_high']:.2f}\n"
        f"{row['boot_low']:.2f} to {row['boot_high']:.2f}"
    )


def test_what_is_not_known_is_a_dash_with_its_reason(found):
    table = performance_table(found.performance)
    assert rows_of(table)[-1][5:10] == ["-"] * 5
    assert any(note.startswith(f"{NETWORK}: its score is no probability") for note in table.notes)


def test_only_baselines_are_shaded(found):
    table = performance_table(found.performance, judged=2)
    assert [row.kind for row in table.rows] == ["", "", "baseline", "baseline"]
    assert item_html(table).count('class="baseline"') == 2


def test_accuracy_shows_its_counts(found):
    table = accuracy_table(found.accuracy)
    sensitivity = found.accuracy.iloc[0]
    assert f"{int(sensitivity['hits'])} of {int(sensitivity['n'])}" in rows_of(table)[0][1]


def test_a_small_p_is_bold_only_after_correction(found):
    tests = found.comparisons.assign(p=0.01, p_holm=[0.04] + [0.06] * (len(found.comparisons) - 1))
    tables = delong_tables(tests)
    assert [table.title for table in tables] == [f"{OURS}, against", f"{WORC}, against"]
    pages = "".join(map(item_html, tables))
    assert pages.count('best"') == 1
    assert 'best">0.04</td>' in pages


def test_a_pair_without_a_test_says_why(found):
    tests = found.comparisons.assign(p=np.nan, p_holm=np.nan, note="too few")
    tables = delong_tables(tests)
    assert f"{NETWORK}: too few." in tables[0].notes
    assert rows_of(tables[0])[0][-2:] == ["-", "-"]
    assert delong_tables(found.comparisons.iloc[:0]) == []


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
    rows = rows_of(subgroup_table(table))
    assert rows[0] == ["GE", "20\n9 events", "0.80\n0.60 to 0.90", "0.70\n0.50 to 0.80"]
    assert rows[1] == ["vendor: unknown", "3\n1 event", "too few", "too few"]


def test_the_short_table_is_for_note_and_terminal(found):
    table = summary_table(found.performance, found.comparisons)
    lines = table.markdown(spaced=True, titled=False).splitlines()
    assert len(lines) == 2 + len(found.performance)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith(f"| **{OURS}**")
    assert "L1\\_brain" in lines[-1]
    assert max(map(len, table.text().splitlines())) <= 120


def test_a_table_as_it_is_has_four_digits_and_dashes():
    table = plain_table(pd.DataFrame({"case": ["a", "b"], "value": [0.81234, np.nan], "n": [3, 4]}))
    assert rows_of(table) == [["a", "0.8123", "3"], ["b", "-", "4"]]
