"""Checklists: complete, answered from facts alone, and a score that says how partial it is."""

from __future__ import annotations

import pytest

from lab.radiomics.baselines import CLINICAL, VOLUME, one_sequence
from lab.report.pages.html import item_html
from lab.report.text.checklists import (
    FOR_THE_AUTHORS,
    checklist_items,
    checklist_markdown,
    checklist_summary,
    fill,
    metrics_score,
)

KNOWN = {
    "patients": 28,
    "events": 24,
    "event": "enhancing",
    "dataset": "BraTS 2023",
    "label_rule": "enhancing volume",
    "left_out": 2,
    "folds": 4,
    "repeats": 5,
    "inner_folds": 3,
    "trials": 20,
    "seed": 0,
    "classifiers": ("elastic_net", "svm"),
    "sequences": ("T1", "T2", "FLAIR"),
    "features": 3362,
    "spacing_mm": 2.0,
    "bin_count": 32,
    "image_types": "original, wavelet",
    "feature_classes": "shape, GLCM",
    "pyradiomics": "3.0.1",
    "stability": 0.75,
    "combat": "",
    "rivals": (VOLUME, CLINICAL, one_sequence("T1")),
    "importances": True,
    "auc": "0.85 (0.57 to 0.96)",
    "external_test": False,
}


def by_item(name: str, facts: dict) -> dict[int, tuple[str, str]]:
    return {row.item: (row.status, row.answer) for row in fill(name, facts).itertuples()}


def test_the_lists_are_whole():
    clear, metrics = fill("CLEAR", KNOWN), fill("METRICS", KNOWN)
    assert list(clear["item"]) == list(range(1, 59))
    assert list(metrics["item"]) == list(range(1, 31))
    assert metrics["section"].nunique() == 9
    assert metrics["weight"].sum() == pytest.approx(1, abs=0.003)  # the calculator's three decimals
    weights = metrics.groupby("section")["weight"].sum()
    # categories in descending order of importance, as in the paper's abstract
    order = ["Study design", "Imaging data", "Image processing and feature extraction", "Metrics and comparison",
             "Testing", "Feature processing", "Preparation for modelling", "Segmentation", "Open science"]  # fmt: skip
    assert (weights[order].diff().dropna() < 0.002).all()  # two pairs differ by less than the rounding


def test_facts_fill_the_answers():
    clear = by_item("CLEAR", KNOWN)
    assert clear[15] == ("yes", "By patient and stratified by label, seed 0: 5 repeats of 4 outer folds, nested.")
    assert clear[27] == ("yes", "3362 in all, from T1, T2, FLAIR.")
    assert clear[47] == ("yes", "AUC 0.85 (0.57 to 0.96)")
    assert "28 patients, 24 enhancing" in clear[9][1]
    assert clear[36][0] == "no"
    assert clear[8] == clear[49] == clear[57] == ("open", FOR_THE_AUTHORS)
    metrics = by_item("METRICS", KNOWN)
    assert metrics[14] == ("yes", "Those with an ICC(3,1) below 0.75 over changed masks, in each training set.")
    assert metrics[17] == ("n/a", "does not apply")
    assert metrics[27] == ("no", "No.")
    tested = "5 repeats of 4 outer folds, nested; nobody is tested by a model that was trained on them."
    assert metrics[26] == ("yes", tested)
    assert clear[38] == ("yes", f"Internally: {tested}")
    assert clear[35][1].startswith("20 trials by Optuna in each training set")
    for item in (34, 35, 37):  # of a method whose search is not known
        assert by_item("CLEAR", {name: KNOWN[name] for name in ("folds", "repeats", "seed")})[item][0] == "open"


@pytest.mark.parametrize(
    ("item", "change", "status"),
    [
        (14, {"stability": 0}, "no"),
        (19, {"combat": "vendor"}, "yes"),
        (23, {"rivals": (VOLUME,)}, "no"),
        (24, {"rivals": ()}, "no"),
        (27, {"external_test": True}, "yes"),
        (9, {"automatic_masks": False}, "n/a"),
        (29, {"code": "https://example.org"}, "yes"),
    ],
)
def test_a_fact_decides_its_item(item, change, status):
    assert by_item("METRICS", KNOWN | change)[item][0] == status


@pytest.mark.parametrize("missing", sorted(KNOWN))
@pytest.mark.parametrize("name", ["CLEAR", "METRICS"])
def test_a_missing_fact_leaves_its_items_open(name, missing):
    less = {key: value for key, value in KNOWN.items() if key != missing}
    before, after = by_item(name, KNOWN), by_item(name, less)
    for item, (status, answer) in after.items():
        assert (status, answer) in (before[item], ("open", FOR_THE_AUTHORS))
        assert "{" not in answer


def test_every_fact_is_used():
    extra = {"mask_source": "drawn by hand", "automatic_masks": False, "code": "https://example.org"}
    everything = KNOWN | extra
    for fact in everything:
        less = {key: value for key, value in everything.items() if key != fact}
        assert any(by_item(name, less) != by_item(name, everything) for name in ("CLEAR", "METRICS")), fact


def test_the_score_is_partial_and_says_so():
    table = fill("METRICS", KNOWN)
    score = metrics_score(table)
    assert score.lowest < score.of_answered < 100
    assert score.lowest < score.highest < 100
    assert score.applicable == 29
    everything = table.assign(status="yes")
    assert metrics_score(everything).of_answered == pytest.approx(100)
    assert f"{score.answered} items that the run answers" in checklist_summary("METRICS", table)
    assert "score" not in checklist_summary("CLEAR", fill("CLEAR", KNOWN))


def test_written_as_text():
    table = fill("CLEAR", KNOWN | {"dataset": "<scans> a|b"})
    page = item_html(checklist_items("CLEAR", table)[0])
    assert "&lt;scans&gt;" in page
    assert page.strip().startswith("<details>")
    note = checklist_markdown("CLEAR", table, phantom=True)
    assert "a\\|b" in note
    assert "Phantom: simulated patients" in note
    assert "Phantom" not in checklist_markdown("CLEAR", table, phantom=False)


def test_an_unknown_list():
    with pytest.raises(ValueError, match="no checklist 'RQS'; there are: CLEAR, METRICS"):
        fill("RQS", KNOWN)
