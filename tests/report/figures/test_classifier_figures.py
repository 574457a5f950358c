"""The figures of a classifier's page: which are drawn, and what is said on them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from judged import NETWORK, judged_methods, predicted

from lab.radiomics.assess.assess import assess
from lab.radiomics.baselines import OURS, VOLUME, WORC
from lab.radiomics.features.feature_maps import FeatureMap
from lab.report.figures.classifier.all_figures import CAPTIONS, classifier_figures
from lab.report.figures.classifier.auc import auc_figure
from lab.report.figures.classifier.feature_maps import feature_pictures
from lab.report.figures.classifier.importance import feature_words, importance_figure
from lab.report.figures.style import png

FAST = {"resamples": 100}


def words(figure) -> str:
    texts = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


def picture(role: str = "median", *, shape: bool = False) -> FeatureMap:
    tumour = np.zeros((20, 24), bool)
    tumour[5:9, 6:12] = True
    values = np.where(tumour, np.arange(24)[None, :], np.nan).astype(np.float32)
    return FeatureMap(
        feature="MASK_original_shape_Sphericity" if shape else "T2_wavelet-LLH_glcm_Contrast",
        case_id="P001",
        role=role,
        value=1234.5,
        label=0,
        sequence="FLAIR" if shape else "T2",
        z=3,
        picture=np.random.default_rng(0).standard_normal((20, 24)).astype(np.float32),
        brain=np.ones((20, 24), bool),
        tumour=tumour,
        values=None if shape else values,
        spacing_mm=8.0,
    )


@pytest.fixture(scope="module")
def figures():
    predictions, found = judged_methods()
    importances = pd.DataFrame(
        [("T2_original_glcm_Contrast", 0.1, 0.05, 0.2, 1.0, 8)],
        columns=["feature", "importance", "low", "high", "selected", "splits"],
    )
    learning = pd.DataFrame({"n": [10, 20], "mean": [0.6, 0.7], "low": 0.5, "high": 0.8, "seeds": 4})
    return classifier_figures(predictions, found, phantom=True, importances=importances, learning=learning, **FAST)


def test_all_figures_are_there_in_reading_order(figures):
    assert [*figures, "features"] == list(CAPTIONS)  # maps of features are drawn where the scans are read


def test_every_figure_says_phantom(figures):
    for name, figure in figures.items():
        assert "phantom" in words(figure), name
        assert png(figure).startswith(b"\x89PNG")


def test_the_first_picture_has_ours_and_worc_alone(figures):
    text = words(figures["roc"])
    assert f"{OURS}: AUC" in text
    assert f"{WORC}: AUC" in text
    assert VOLUME not in text
    assert f"threshold of {OURS}" in text


def test_figures_and_tables_have_one_bootstrap(figures):
    row = judged_methods()[1].performance.iloc[0]
    assert f"{row['boot_low']:.2f} to {row['boot_high']:.2f} (bootstrap)" in words(figures["roc"])
    assert f"{row['ap']:.2f} ({row['ap_low']:.2f} to {row['ap_high']:.2f})" in words(figures["precision_recall"])


def test_a_baseline_on_fewer_patients_is_on_roc_and_auc_only(figures):
    assert f"{NETWORK}, 14 patients" in words(figures["roc_rivals"])
    assert "14 patients" in words(figures["auc"])
    for name in ("precision_recall", "decision"):
        assert NETWORK not in words(figures[name])
        assert VOLUME in words(figures[name])


def test_thin_lines_are_the_splits(figures):
    lines = figures["roc_splits"].axes[0].lines
    assert sum(line.get_linewidth() < 0.8 for line in lines) == 16  # 8 splits of two methods


def test_one_split_and_one_method_draw_what_they_can():
    table = predicted(OURS, effect=1.0, repeats=1).assign(fold=1)
    found = assess(table, **FAST, permutations=100)
    names = set(classifier_figures(table, found, phantom=False, event="grade IV", **FAST))
    assert names == {"roc", "precision_recall", "calibration", "decision", "auc"}
    drawn = classifier_figures(table, found, phantom=False, event="grade IV", **FAST)
    assert "Grade IV? ROC" in words(drawn["roc"])
    assert "phantom" not in words(drawn["roc"])


def test_worc_alone():
    table = predicted(WORC, effect=1.0)
    drawn = classifier_figures(table, assess(table, main=WORC, **FAST, permutations=100), phantom=False, **FAST)
    assert "roc_rivals" not in drawn
    labels = drawn["roc"].axes[0].get_legend_handles_labels()[1]
    assert sum(label.startswith(f"{WORC}: AUC") for label in labels) == 1


def test_a_chance_line_and_intervals(figures):
    _, found = judged_methods()
    text = words(auc_figure(found.performance, phantom=False, judged=2))
    row = found.performance.iloc[0]
    assert f"{row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f})" in text


def test_names_of_features_for_people():
    assert feature_words("T2_wavelet-LLH_glcm_Contrast") == "T2, wavelet LLH, GLCM contrast"
    assert (
        feature_words("FLAIR_log-sigma-3-0-mm-3D_firstorder_90Percentile")
        == "FLAIR, LoG 3 mm, first order 90 percentile"
    )
    assert feature_words("T1_original_glszm_GrayLevelNonUniformity") == "T1, GLSZM grey level non uniformity"
    assert feature_words("MASK_original_shape_Maximum2DDiameterSlice") == "shape maximum 2D diameter slice"
    assert feature_words("T1_original_glcm_Imc1") == "T1, GLCM IMC1"
    assert feature_words("tumour_ml") == "tumour_ml"


def test_only_the_first_features_are_drawn():
    table = pd.DataFrame(
        [(f"T1_original_glcm_F{number}", 0.1, np.nan, np.nan, 0.5, 1) for number in range(30)],
        columns=["feature", "importance", "low", "high", "selected", "splits"],
    )
    figure = importance_figure(table, phantom=False)
    assert len(figure.axes[0].get_yticks()) == 20
    assert "20 of 30 features" in words(figure)
    assert "CI" not in words(figure)


def test_maps_lie_inside_the_outline_and_say_whose_they_are():
    figure = feature_pictures([[picture("lowest"), picture("highest")], [picture(shape=True)]], phantom=False)
    text = words(figure)
    assert "lowest: 1234" in text
    assert "P001, not enhancing" in text
    assert "shape sphericity, over FLAIR" in text
    coloured = [image for axes in figure.axes for image in axes.images if image.get_cmap().name == "viridis"]
    assert len(coloured) == 3  # two maps and their scale; a shape has none
    assert np.isfinite(np.asarray(coloured[0].get_array().filled(np.nan))).sum() == picture().tumour.sum()


def test_nothing_to_draw_is_said():
    _, found = judged_methods()
    for draw in (
        lambda: importance_figure(pd.DataFrame(columns=["feature"]), phantom=True),
        lambda: feature_pictures([], phantom=True),
        lambda: auc_figure(found.performance.assign(auc=np.nan), phantom=True),
    ):
        with pytest.raises(ValueError, match="to draw"):
            draw()
