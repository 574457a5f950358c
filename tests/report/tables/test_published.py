import pytest

from lab.report.tables.published import comparable, published, published_row

AS_PUBLISHED = {"phantom": False, "dataset": "EGD", "spacing_mm": 1.0, "width": 64, "depth": 5}


def test_published_table_is_complete():
    table = published()
    rows = table.groupby(["study", "model", "input_size", "loss"]).size()
    assert (rows == 9).all()
    assert len(published_row("architecture", 3, "SSIM")) == 9
    assert set(table["study"]) == {"losses", "architecture", "patch_size", "mix_weights"}


def test_published_row_gives_the_figures_of_the_paper():
    row = published_row("architecture", 2, "SSIM")
    assert row.loc["mae_brain"].tolist() == [0.118, 0.021]
    assert row.loc["ssim_tumour"].tolist() == [0.648, 0.133]
    assert published_row("patch_size", 1, "L1_brain", input_size="64").loc["mae_image", "mean"] == 0.136
    assert published_row("mix_weights", 0, "mix(1,1,1)").loc["ssim_image", "mean"] == 0.879


def test_a_network_that_the_paper_did_not_train_has_no_row():
    assert published_row("architecture", 2, "L1_tumour") is None


def test_an_unknown_study_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="architecture"):
        published_row("colour", 0, "L1")


def test_the_table_cannot_be_changed_from_outside():
    table = published()
    table["mean"] = 0.0
    assert published()["mean"].min() > 0


def test_same_settings_are_fair_and_still_no_test_is_claimed():
    verdict = comparable(**AS_PUBLISHED)
    assert verdict.verdict == "fair"
    assert "no test" in verdict.sentence


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dataset": "BraTS 2023"}, "BraTS 2023"),
        ({"spacing_mm": 2.0}, "2 mm"),
        ({"width": 16}, "width 16"),
        ({"depth": 3}, "3 halvings"),
        ({"inputs": ("T1", "T2", "ADC")}, "ADC"),
        ({"patch_mm": 64.0}, "patches"),
    ],
)
def test_any_other_setting_is_for_orientation_only_and_says_why(change, word):
    verdict = comparable(**(AS_PUBLISHED | change))
    assert verdict.verdict == "orientation"
    assert word in verdict.sentence
    assert "orientation only" in verdict.sentence


@pytest.mark.parametrize(("change", "word"), [({"phantom": True}, "phantom"), ({"target": "CBV"}, "CBV")])
def test_phantom_and_other_targets_are_withheld(change, word):
    verdict = comparable(**(AS_PUBLISHED | change))
    assert not verdict.shown
    assert word in verdict.sentence
    assert "withheld" in verdict.sentence


def test_the_order_of_the_inputs_does_not_matter():
    assert comparable(**AS_PUBLISHED, inputs=("FLAIR", "T1", "T2")).verdict == "fair"
