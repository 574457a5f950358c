"""Page, note and findings of the classifier arm: honest words, nothing missing, and nothing from elsewhere."""

from __future__ import annotations

import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from judged import NETWORK, all_predictions, external_result, judged_methods, predicted

from lab.radiomics.assess.assess import assess, read_assessment
from lab.radiomics.baselines import OURS, VOLUME, WORC
from lab.report.figures.classifier.all_figures import CAPTIONS, classifier_figures
from lab.report.figures.style import new_figure, png
from lab.report.pages.classifier import ClassifierRecord, classifier_page
from lab.report.text.checklists import LISTS, fill
from lab.report.text.classifier_findings import classifier_findings, classifier_note
from lab.report.text.external_findings import external_findings

FAST = {"resamples": 100, "permutations": 200}


def told(table: pd.DataFrame, **how) -> list[str]:
    settings = {"event": "enhancing", "dataset": "BraTS 2023", "phantom": False} | how
    return classifier_findings(assess(table, **FAST), **settings)


def page(**how) -> str:
    _, found = judged_methods()
    chosen = pd.DataFrame({"repeat": [1], "fold": [2], "classifier": ["svm"], "inner AUC": [0.81234]})
    settings = {
        "title": "Radiomics",
        "question": "Does it <enhance>?",
        "phantom": True,
        "findings": ["Yes & no."],
        "run": {"patients": 40},
        "assessment": found,
        "figures": {"learning": png(new_figure(3, 2)), "roc": new_figure(3, 2), "own": new_figure(3, 2)},
        "chosen": chosen,
        "left_out": {"P099": "no <mask>"},
        "checklists": {name: fill(name, {}) for name in LISTS},
        "settings": {"folds": 4},
        "software": {"pyradiomics": "3.0.1"},
    }
    return classifier_page(ClassifierRecord(**(settings | how)))


def test_the_page_is_whole_and_self_contained():
    text = page()
    heads = re.findall(r"<h2>([^<]*)</h2>", text)
    assert heads == ["Question", "Findings", "What was run", "Performance", "At the threshold", "Comparisons",
                     "Figures", "Subgroups", "Chosen settings", "Left out", "Checklists", "Settings",
                     "Software"]  # fmt: skip
    assert "http" not in re.sub(r"doi 10\.\S+", "", text)
    assert "<script" not in text
    assert "Does it &lt;enhance&gt;?" in text
    assert "no &lt;mask&gt;" in text
    assert "(phantom)</h1>" in text
    assert "0.8123" in text


def test_an_average_is_said_beside_its_best_settings():
    assert "averages the calibrated logits of its 10 best settings" in page(averaged=10)
    assert "averages the calibrated logits" not in page()


def test_figures_stand_in_reading_order_with_their_captions():
    captions = [unescape(caption) for caption in re.findall(r"<figcaption>([^<]*)</figcaption>", page())]
    assert captions == [CAPTIONS["roc"], CAPTIONS["learning"], "own"]


def test_a_stored_picture_is_as_wide_as_the_figure_was():
    widths = re.findall(r'<img alt="[^"]*" width="(\d+)"', page())
    assert widths == ["288"] * 3


def test_sections_without_content_are_left_out():
    text = page(chosen=None, left_out=None, checklists={}, settings={}, software={}, figures={}, phantom=False)
    assert "<h2>Software" not in text
    assert "<h2>Figures" not in text
    assert "hantom" not in text.split("</style>")[1]
    assert "Nobody." in page(left_out={})


def test_an_external_test_stands_beside_the_held_out_patients():
    test = external_result(1.5)
    drawn = classifier_figures(test.predictions, test.assessment, phantom=False, external=True, resamples=100)
    assert "External test: ROC" in str(drawn["roc"]._suptitle.get_text())
    text = page(external=[test], external_figures={test.slug: drawn}, phantom=False)
    own = text.partition('id="external-test"')[2].partition("<h2>Figures")[0]
    words = unescape(re.sub(r"<[^>]*>", " ", own))
    for part in (
        "Here (training scans) (training)",
        "radiomics, held-out patients of training",
        "Elsewhere (scans). Calibration: predicted probabilities",
        "Elsewhere (scans): 2 cases left out",
        "no <mask>",
        "or whose scans show the same head.",
    ):
        assert part in " ".join(words.split())
    assert own.count("<img") == 3
    first, second = external_findings(test, 0.83)
    assert first.startswith("External test on Elsewhere (scans) (40 patients, 20 enhancing): AUC 0.")
    assert "0.83 on held-out patients of the training cohort. The interval lies above 0.5" in first
    assert "50 % are enhancing, in training 80 %" in second
    assert "2 of 40 patients are out of distribution. Left out as patients of the training cohort: 1 case." in second
    assert "not shown to tell these patients apart" in external_findings(external_result(-2.0), 0.83)[0]


def test_the_page_can_be_written_from_what_was_stored(tmp_path):
    _, found = judged_methods()
    found.write(tmp_path)
    assert page(assessment=read_assessment(tmp_path)) == page()


def test_the_answer_comes_first_with_its_interval():
    _, found = judged_methods()
    points = classifier_findings(found, event="enhancing", dataset="phantom", phantom=True)
    row = found.performance.iloc[0]
    assert points[0].startswith(f"Radiomics has an AUC of {row['auc']:.2f} (95 % interval {row['auc_low']:.2f} to")
    assert "40 simulated patients of the phantom, 20 enhancing" in points[0]
    assert "better than chance" in points[0]
    assert "simulated" in points[-1]
    assert any(point.startswith(f"{NETWORK}: AUC") and "14 common patients" in point for point in points)


def test_better_is_only_said_where_the_test_finds_it():
    points = " ".join(told(pd.concat([predicted(OURS, effect=2.5), predicted(VOLUME, effect=0.0)])))
    assert "better than tumour volume" in points
    points = " ".join(told(pd.concat([predicted(OURS, effect=1.0), predicted(VOLUME, effect=0.9)])))
    assert "not shown to differ from tumour volume" in points
    assert "better than tumour volume" not in points
    points = " ".join(told(pd.concat([predicted(OURS, effect=0.0), predicted(VOLUME, effect=2.5)])))
    assert "worse than tumour volume" in points
    worse = " ".join(told(pd.concat([predicted(OURS, effect=0.0), predicted(WORC, effect=2.5)])))
    assert "radiomics is worse than it" in worse


def test_an_interval_that_holds_a_half_is_said():
    assert "holds 0.5: not shown to be better than chance" in told(predicted(OURS, effect=0.0))[0]
    assert "worse than chance: look for an error" in told(predicted(OURS, effect=-2.0))[0]


def test_one_patient_of_a_class_is_a_page_without_figures():
    table = predicted(OURS, effect=1.0, ones=20, zeros=1)
    found = assess(table, **FAST)
    assert told(table) == ["Nothing can be said about radiomics: fewer than two patients of a class: no figures."]
    assert classifier_figures(table, found, phantom=False, resamples=100) == {}
    assert "fewer than two patients" in page(assessment=found, figures={})


def test_shuffled_labels_are_judged_as_such():
    assert "as it must where the labels are chance" in told(predicted(OURS, effect=0.0), shuffled=True)[0]
    leaked = told(predicted(OURS, effect=3.0), shuffled=True)[0]
    assert "the labels leak" in leaked
    assert "better than chance" not in leaked


def test_few_patients_are_told_what_they_can_and_cannot_show():
    points = told(all_predictions(ones=23, zeros=5), warnings=["The inner AUC is not to be believed."])
    assert points[1] == "The inner AUC is not to be believed."
    assert points[2].startswith("28 patients (23 enhancing, 5 not)")
    assert "±0.19" in points[2]
    assert "differs from 0.5 with 80 % power is 0.85" in points[2]
    assert "With 5 in the smaller class" in points[2]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"label": "grade", "phantom": False}, True),
        ({"label": "grade", "phantom": True}, False),
        ({"label": "enhancement", "phantom": False}, False),
        ({"label": "grade", "phantom": False, "shuffled": True}, False),
    ],
)
def test_the_published_figure_stands_beside_real_grades_only(how, said):
    points = " ".join(told(predicted(OURS, effect=1.0), **how))
    assert ("0.79 on EGD" in points) == said
    assert ("no test is made" in points) == said


def test_calibration_in_words():
    table = predicted(OURS, effect=1.5, ones=100, zeros=100, repeats=1)
    logit = np.log(table["score"] / (1 - table["score"]))
    overconfident = table.assign(score=1 / (1 + np.exp(-6 * logit)))
    assert "too extreme, as after overfitting" in " ".join(told(overconfident))


def test_the_note_begins_with_the_answer_and_shows_the_roc():
    _, found = judged_methods()
    points = classifier_findings(found, event="enhancing", dataset="phantom", phantom=True)
    note = classifier_note("Why?", points, found, phantom=True, picture="x/roc.png")
    lines = note.splitlines()
    assert lines[0].startswith("**Phantom: simulated patients")
    assert "has an AUC of" in lines[0]
    assert lines[2] == "![ROC](x/roc.png)"
    assert f"**{OURS}**" in note
    assert "![" not in classifier_note("Why?", points, found, phantom=False)
