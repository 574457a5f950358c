"""The enhancement scorecard of all trials: its numbers, its words, its three forms."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from constructed import long_table

from lab.evaluation.pooled import pooled
from lab.report.tables.card import blocks
from lab.report.tables.console import WIDTH
from lab.report.tables.scorecard import COLUMNS, scorecard, scorecard_html, scorecard_markdown, scorecard_text

NETWORKS = {"good <net>": (0, "L1", 0.9), "poor|net": (1, "L1", 0.1)}


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return long_table(NETWORKS, patients=16)


@pytest.fixture(scope="module")
def card(patients) -> pd.DataFrame:
    return scorecard(patients, resamples=200)


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


def test_definitions_without_data_have_no_block():
    card = scorecard(long_table(NETWORKS, patients=8, expert=False), resamples=20)
    assert [block.definition for block in blocks(card)] == ["rule", ""]
    assert "expert" not in scorecard_text(card)


def test_the_best_follows_each_columns_direction(card):
    rule = blocks(card)[0]
    assert rule.best("dice_pooled") == {0}
    assert rule.best("bias_ml") == {0}  # nearest to 0
    assert rule.best("contrast") == {0}  # nearest to 1
    assert "copy T1" in rule.best("hallucinated_ml")  # draws nothing


def test_where_all_rows_are_the_same_none_is_best(card):
    same = card.assign(value=np.where(card["figure"] == "auc", 0.5, card["value"]))
    assert blocks(same)[0].best("auc") == set()


def test_patients_are_counted_by_who_enhances(card):
    rule = blocks(card)[0]
    assert (rule.count("auc"), rule.count("hallucinated_ml"), rule.count("contrast")) == ("16", "8", "8")
    for text in (scorecard_text(card), scorecard_html(card, phantom=False), scorecard_markdown(card, phantom=False)):
        assert "hallucinated ml: the 8 who do not enhance" in text.replace("\n", " ")


def test_truth_is_named_and_the_phantom_too(card):
    for phantom in (True, False):
        html = scorecard_html(card, phantom=phantom, floor=0.024, threshold=0.25)
        words = " ".join(Tags(html).texts)
        assert "Truth: the paper's rule, T1GD - T1 > 0.25 within 3 mm of the tumour" in words
        assert "Truth: the data set's expert label" in words
        assert "below 0.024" in words
        assert ("phantom" in words) == phantom
        assert ("phantom" in scorecard_markdown(card, phantom=phantom)) == phantom
        assert ("phantom" in scorecard_text(card, phantom=phantom)) == phantom


def test_html_is_well_formed_escaped_and_has_the_intervals(card):
    html = scorecard_html(card, phantom=False)
    Tags(html)
    assert "<net>" not in html
    assert "good &lt;net&gt;" in html
    row = figure(card, 0, "rule", "auc")
    assert f"{row['low']:.2f}&nbsp;to&nbsp;{row['high']:.2f}" in html
    assert "nan" not in html


def test_text_fits_a_terminal_and_breaks_no_head(card):
    wide = card.assign(label=card["label"] + ", width 32, depth 4, instance norm, learning rate 0.001")
    for shown in (card, wide):
        lines = scorecard_text(shown).splitlines()
        assert max(map(len, lines)) <= WIDTH
    text = scorecard_text(card)
    assert "nan" not in text
    assert all(word in text for word in ("sensit.", "concord.", "checkers"))


def test_markdown_keeps_its_columns(card):
    lines = [line for line in scorecard_markdown(card, phantom=False).splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 2  # two blocks of truth, one of the looks
    assert any("poor\\|net" in line for line in lines)
