"""The enhancement scorecard of all trials: its numbers, its words, its three forms."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from constructed import long_table

from lab.evaluation.pooled import pooled
from lab.report.pages.html import item_html
from lab.report.tables.scorecard import COLUMNS, meanings, pooled_scorecard, scorecard_tables
from lab.report.tables.table import WIDTH, Table

NETWORKS = {"good <net>": (0, "L1", 0.9), "poor|net": (1, "L1", 0.1)}


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return long_table(NETWORKS, patients=16)


@pytest.fixture(scope="module")
def card(patients) -> pd.DataFrame:
    return pooled_scorecard(patients, resamples=200)


class Tags(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def figure(card, trial, definition, name):
    found = card[(card["trial"] == trial) & (card["definition"] == definition) & (card["figure"] == name)]
    assert len(found) == 1
    return found.iloc[0]


def test_the_card_is_what_pooling_gives_for_each_trial(patients, card):
    assert list(card.columns) == COLUMNS
    assert list(card["trial"].unique()) == [0, 1, "copy T1", "linear regression"]
    assert card.groupby("trial", sort=False)["rival"].first().tolist() == [False, False, True, True]
    own = patients[patients["trial"] == 0]
    expected = pooled(own, resamples=200).set_index(["definition", "figure"])
    for definition, name in (("rule", "auc"), ("expert", "dice_pooled"), ("", "sharpness")):
        row = figure(card, 0, definition, name)
        assert tuple(row[["value", "low", "high", "n"]]) == tuple(expected.loc[(definition, name)])
    dice = 2 * own["overlap_ml_rule"].sum() / (own["ml_predicted"] + own["ml_rule"]).sum()
    assert figure(card, 0, "rule", "dice_pooled")["value"] == pytest.approx(dice)
    assert figure(card, 0, "", "checkerboard_true")["value"] == pytest.approx(0.0021)


def marked(table: Table, head: str) -> set[str]:
    """Labels of the rows that are marked in the column of a head."""
    place = next(place for place, column in enumerate(table.columns) if column.head == head)
    return {str(row.cells[0]) for row in table.rows if table.cell(row, place)[2]}


def all_text(card, **settings) -> str:
    return "\n".join(table.text() for table in scorecard_tables(card, phantom=False, **settings))


def test_definitions_without_data_have_no_table():
    card = pooled_scorecard(long_table(NETWORKS, patients=8, expert=False), resamples=20)
    assert len(scorecard_tables(card, phantom=False)) == 2
    assert "expert" not in all_text(card)


def test_the_best_follows_each_columns_direction(card):
    rule = scorecard_tables(card, phantom=False)[0]
    for head in ("pooled Dice", "bias (ml)", "contrast shown (%)"):  # highest, nearest to 0, nearest to 1
        assert marked(rule, head) == {"good <net>"}
    assert "copy T1" in marked(rule, "hallucinated volume (ml)")  # predicts nothing


def test_where_all_rows_are_the_same_none_is_best(card):
    same = card.assign(value=np.where(card["figure"] == "auc", 0.5, card["value"]))
    assert marked(scorecard_tables(same, phantom=False)[0], "AUC") == set()


def test_patients_are_counted_by_who_enhances(card):
    counts = {column.head: column.count for column in scorecard_tables(card, phantom=False)[0].columns}
    assert (counts["AUC"], counts["hallucinated volume (ml)"], counts["contrast shown (%)"]) == ("16", "8", "8")
    assert "hallucinated volume: the 8 who do not enhance" in all_text(card).replace("\n", " ")


@pytest.mark.parametrize("phantom", [True, False])
def test_truth_is_named_and_the_phantom_too(card, phantom):
    tables = scorecard_tables(card, phantom=phantom, floor=0.024, threshold=0.25)
    words = " ".join(Tags("".join(map(item_html, tables))).texts)
    assert "Truth: the paper's rule, T1GD - T1 > 0.25 within 3 mm of the tumour" in words
    assert "Truth: the data set's expert label" in words
    assert "below 0.024" in words
    assert ("phantom" in words) == phantom


def test_every_cell_has_its_interval_and_no_number_is_missing(card):
    tables = scorecard_tables(card, phantom=False)
    row = figure(card, 0, "rule", "auc")
    assert f"{row['low']:.2f} to {row['high']:.2f}" in item_html(tables[0])
    for table in tables:
        assert "nan" not in item_html(table) + table.markdown() + table.text()


def test_text_fits_a_terminal_and_breaks_no_head(card):
    wide = card.assign(label=card["label"] + ", width 32, depth 4, instance norm, learning rate 0.001")
    for shown in (card, wide):
        assert max(map(len, all_text(shown).splitlines())) <= WIDTH
    assert all(word in all_text(card) for word in ("sensit.", "concord.", "checkers"))


def test_every_column_is_explained(card):
    heads = {column.head for table in scorecard_tables(card, phantom=False) for column in table.columns[1:]}
    assert heads == {head for head, _ in meanings(card)}
