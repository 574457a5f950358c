"""The scorecard on constructed heads whose figures can be written down, and against independent implementations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric
from scipy import ndimage
from skimage.measure import label, regionprops
from sklearn.metrics import precision_score, recall_score

from lab.evaluation.enhancement import (
    LOWEST_LEVEL,
    MIN_LESION_ML,
    enhancement_level,
    lesion_counts,
    lesions,
    near,
    scorecard,
    widened,
)
from lab.io.case_file import BRAIN, EXPERT, TUMOUR

SHAPE = (40, 44, 36)
VOXEL_ML = 0.008  # 2 mm
NOISE = 0.05
Part = tuple[slice, slice, slice]
LESION = (slice(12, 16), slice(20, 25), slice(10, 15))  # 100 voxels, 0.8 ml


def block(*parts: Part) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for part in parts:
        mask[part] = True
    return mask


def shifted(part: Part, by: int) -> Part:
    return (slice(part[0].start + by, part[0].stop + by), *part[1:])


@dataclass
class Head:
    """A brain of T1 = 0.1 with a tumour of 18 x 14 x 14 voxels; truth and synthesis add contrast to some blocks."""

    true: tuple[Part, ...] = ()
    predicted: tuple[Part, ...] = ()
    gain: float = 0.6
    shown: float = 0.6
    expert: tuple[Part, ...] | None = None
    tumour: np.ndarray = field(default_factory=lambda: block((slice(8, 26), slice(16, 30), slice(8, 22))))

    def card(self, **changes: float) -> dict[str, float]:
        brain = block((slice(2, 38), slice(2, 42), slice(2, 34)))
        t1 = np.where(brain, 0.1, -1).astype(np.float32)
        truth = np.where(block(*self.true), t1 + np.float32(self.gain), t1)
        synthesis = np.where(block(*self.predicted), t1 + np.float32(self.shown), t1)
        flags = brain * np.uint8(BRAIN) | (self.tumour & brain) * np.uint8(TUMOUR)
        flags |= block(*(self.expert or ())) * np.uint8(EXPERT)
        known = {"spacing_mm": 2.0, "threshold": 0.3, "enhancing_ml": 0.5, "noise_sd": NOISE} | changes
        return scorecard(synthesis, t1, truth, flags, labelled=self.expert is not None, **known)


def check(card: dict[str, float], definition: str = "rule", **expected: float) -> None:
    for name, value in expected.items():
        key = name if name in card else f"{name}_{definition}"
        assert card[key] == pytest.approx(value, abs=1e-6, nan_ok=True), key


NAN = float("nan")


def test_the_volume_looked_at_is_the_tumour_and_its_surroundings():
    tumour, faces, edges = 18 * 14 * 14, 2 * (18 * 14 + 18 * 14 + 14 * 14), 4 * (18 + 14 + 14)
    check(Head(true=(LESION,)).card(), ml_near=(tumour + faces + edges) * VOXEL_ML)  # 3 mm reach faces and edges


def test_perfect():
    card = Head(true=(LESION,), predicted=(LESION,)).card()
    check(card, ml_predicted=0.8, enhancement_level=0.6, ml=0.8, enhances=1, overlap_ml=0.8, bias_ml=0, dice=1)
    check(card, sensitivity=1, precision=1, lesions=1, found=1, missed=0, false=0, hallucinated_ml=NAN)
    check(card, contrast=1, cnr=0.6 / NOISE, cnr_true=0.6 / NOISE)


def test_missed_lesion_is_an_empty_prediction():
    card = Head(true=(LESION,)).card()
    check(card, ml_predicted=0, enhancement_level=0, ml=0.8, enhances=1, overlap_ml=0, bias_ml=-0.8, dice=0)
    check(card, sensitivity=0, precision=NAN, lesions=1, found=0, missed=1, false=0, hallucinated_ml=NAN)
    check(card, contrast=0, cnr=0, cnr_true=0.6 / NOISE)


def test_hallucinated_lesion_with_an_empty_truth():
    card = Head(predicted=(LESION,)).card()
    check(card, ml_predicted=0.8, enhancement_level=0.6, ml=0, enhances=0, overlap_ml=0, bias_ml=0.8, dice=0)
    check(card, sensitivity=NAN, precision=0, lesions=0, found=0, missed=0, false=1, hallucinated_ml=0.8)
    check(card, contrast=NAN, cnr=NAN, cnr_true=NAN)


def test_both_empty():
    card = Head().card()
    check(card, ml_predicted=0, enhancement_level=0, ml=0, enhances=0, overlap_ml=0, bias_ml=0, dice=NAN)
    check(card, sensitivity=NAN, precision=NAN, lesions=0, found=0, missed=0, false=0, hallucinated_ml=0, contrast=NAN)


def test_shifted_lesion():
    """One voxel to the side, three of its four planes overlap: 75 of 100 voxels."""
    card = Head(true=(LESION,), predicted=(shifted(LESION, 1),)).card()
    check(card, ml_predicted=0.8, overlap_ml=0.6, bias_ml=0, dice=0.75, sensitivity=0.75, precision=0.75)
    check(card, lesions=1, found=1, false=0, contrast=0.75, cnr=0.75 * 0.6 / NOISE)


@pytest.mark.parametrize(("by", "found"), [(4, 1), (5, 0)])
def test_a_lesion_beside_its_place_is_found_within_the_tolerance_only(by, found):
    """4 voxels on they touch (2 mm); 5 voxels on the nearest voxels are 4 mm apart."""
    card = Head(true=(LESION,), predicted=(shifted(LESION, by),)).card()
    check(card, dice=0, lesions=1, found=found, missed=1 - found, false=1 - found)


def test_of_two_lesions_one_is_found():
    other = shifted(LESION, 8)
    card = Head(true=(LESION, other), predicted=(other,)).card()
    check(card, ml=1.6, ml_predicted=0.8, bias_ml=-0.8, dice=2 / 3, sensitivity=0.5, precision=1, lesions=2)
    check(card, found=1, missed=1, false=0, contrast=0.5)


def test_a_found_and_a_false_lesion():
    other = shifted(LESION, 8)
    check(Head(true=(LESION,), predicted=(LESION, other)).card(), lesions=1, found=1, missed=0, false=1, precision=0.5)


def test_a_lesion_below_the_least_volume_is_none():
    assert MIN_LESION_ML == 0.05
    small, enough = (slice(12, 14), slice(20, 23), slice(10, 11)), (slice(12, 13), slice(20, 27), slice(10, 11))
    check(Head(true=(small,), predicted=(small,)).card(), ml=0.048, enhances=0, dice=1, lesions=0, found=0, false=0)
    check(Head(true=(enough,), predicted=(enough,)).card(), ml=0.056, lesions=1, found=1, false=0)
    check(Head(predicted=(small,)).card(), false=0, hallucinated_ml=0.048)
    check(Head(true=(small,), predicted=(enough,)).card(), lesions=0, found=0, false=0)
    check(Head(true=(enough,), predicted=(small,)).card(), lesions=1, found=0, missed=1)


def test_enhancement_away_from_the_tumour_does_not_count():
    far = (slice(30, 36), slice(34, 40), slice(26, 32))
    check(Head(true=(LESION, far), predicted=(LESION, far)).card(), ml=0.8, ml_predicted=0.8, lesions=1)
    check(Head(predicted=(far,)).card(), ml_predicted=0, false=0, hallucinated_ml=0)


def test_enhancement_at_the_rim_counts():
    """The tumour ends at x = 25; 3 mm is one voxel of 2 mm more."""
    check(Head(predicted=((slice(26, 28), slice(20, 25), slice(10, 15)),)).card(), ml_predicted=25 * VOXEL_ML)


def test_contrast_to_noise_is_counted_from_the_rest_of_the_brain():
    head = Head(true=(LESION,), predicted=(LESION,), shown=0.45)
    far = (slice(30, 36), slice(34, 40), slice(26, 32))
    card = head.card()
    check(card, contrast=0.75, cnr=0.45 / NOISE, cnr_true=0.6 / NOISE)
    bright = Head(true=(LESION,), predicted=(LESION, far), shown=0.45)
    brain, tumour = block((slice(2, 38), slice(2, 42), slice(2, 34))), bright.tumour
    elsewhere = brain & ~near(tumour, brain, 2.0)
    check(bright.card(), cnr=(0.45 - 0.45 * 216 / elsewhere.sum()) / NOISE, cnr_true=0.6 / NOISE)
    check(head.card(noise_sd=0.0), cnr=NAN)


def test_too_little_true_enhancement_has_no_contrast():
    """62 voxels are 0.496 ml, 63 are 0.504 ml; the limit is 0.5 ml."""
    sixty = (slice(12, 16), slice(20, 25), slice(10, 13))
    for extra, enhances in ((2, 0), (3, 1)):
        more = (slice(12, 13), slice(20, 20 + extra), slice(13, 14))
        card = Head(true=(sixty, more), predicted=(sixty,)).card()
        check(card, enhances=enhances, contrast=60 / 63 if enhances else NAN)
        check(card, hallucinated_ml=NAN if enhances else 60 * VOXEL_ML)


def test_the_expert_s_label_is_another_truth():
    card = Head(true=(LESION,), predicted=(LESION,), expert=(shifted(LESION, 2),)).card()
    check(card, "rule", dice=1, contrast=1)
    check(card, "expert", ml=0.8, enhances=1, dice=0.5, sensitivity=0.5, precision=0.5, lesions=1, found=1, contrast=1)
    check(Head(predicted=(LESION,), expert=()).card(), "expert", ml=0, enhances=0, hallucinated_ml=0.8, dice=0, false=1)


def test_without_a_label_every_expert_figure_is_empty():
    card = Head(true=(LESION,), predicted=(LESION,)).card()
    experts = [name for name in card if name.endswith("expert")]
    assert len(experts) == len([name for name in card if name.endswith("rule")]) == 15
    assert all(np.isnan(card[name]) for name in experts)


@pytest.mark.parametrize("enhancing_ml", [0.1, 0.5, 0.504, 0.8, 1.0])
def test_the_level_says_enhances_exactly_where_the_volume_does(enhancing_ml):
    rng = np.random.default_rng(0)
    gains = rng.normal(0.1, 0.3, 400).astype(np.float32)
    level = enhancement_level(gains, 2.0, enhancing_ml)
    for threshold in np.linspace(-0.5, 0.9, 57):
        enough = np.count_nonzero(gains > threshold) * VOXEL_ML >= enhancing_ml - 1e-9
        assert (level > threshold) == enough
    assert enhancement_level(gains[:10], 2.0, enhancing_ml) == (LOWEST_LEVEL if enhancing_ml > 0.08 else level)


def test_no_tumour_is_no_place_to_enhance():
    head = Head(true=(LESION,), predicted=(LESION,), tumour=np.zeros(SHAPE, bool))
    check(head.card(), ml=0, ml_predicted=0, enhancement_level=LOWEST_LEVEL, dice=NAN, hallucinated_ml=0)


@pytest.mark.parametrize(("spacing", "reach"), [(1.0, 3.0), (2.0, 1.5), (4.0, 1.0), (8.0, 1.0)])
def test_near_is_three_millimetres_and_at_least_a_voxel(spacing, reach):
    rng = np.random.default_rng(1)
    tumour = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3) > 0.08
    tumour[:, :, 0] = False
    expected = ndimage.distance_transform_edt(~tumour) <= reach + 1e-6
    assert tumour.any()
    assert (widened(tumour, spacing) == expected).all()
    brain = block((slice(4, 36), slice(4, 40), slice(4, 30)))
    assert (near(tumour & brain, brain, spacing) == widened(tumour & brain, spacing) & brain).all()


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true, other = (ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5) for _ in range(2))
    return true > 0.08, 0.6 * true + 0.8 * other > 0.08


@pytest.mark.parametrize("seed", range(3))
def test_overlap_equals_monai_and_scikit_learn(seed):
    true, predicted = masks(seed)
    brain = np.ones(SHAPE, bool)
    flags = np.full(SHAPE, BRAIN | TUMOUR, np.uint8)
    t1 = np.zeros(SHAPE, np.float32)
    card = scorecard(
        predicted * np.float32(0.5),
        t1,
        true * np.float32(0.5),
        flags,
        spacing_mm=2.0,
        threshold=0.3,
        enhancing_ml=0.5,
        noise_sd=NOISE,
        labelled=False,
    )
    assert brain.sum() * VOXEL_ML > card["ml_rule"] == pytest.approx(true.sum() * VOXEL_ML)
    dice = DiceMetric(include_background=True)(*(torch.from_numpy(m[None, None]).float() for m in (predicted, true)))
    assert card["dice_rule"] == pytest.approx(dice.item(), abs=1e-6)
    assert card["sensitivity_rule"] == pytest.approx(recall_score(true.ravel(), predicted.ravel()))
    assert card["precision_rule"] == pytest.approx(precision_score(true.ravel(), predicted.ravel()))


@pytest.mark.parametrize("spacing", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(2))
def test_lesions_equal_scikit_image(seed, spacing):
    true, predicted = masks(seed)
    least = MIN_LESION_ML / (spacing**3 / 1000)
    large = [region for region in regionprops(label(true, connectivity=3)) if region.area >= least]
    labels, count = lesions(true, spacing)
    assert count == len(large) > 1
    assert sorted(np.bincount(labels.ravel())[1:]) == sorted(region.area for region in large)

    counts = lesion_counts(true, predicted, spacing)
    reach = max(3 / spacing, 1)
    drawn = [region for region in regionprops(label(predicted, connectivity=3)) if region.area >= least]
    drawn_mask = np.zeros(SHAPE, bool)
    for region in drawn:
        drawn_mask[tuple(region.coords.T)] = True
    to_drawn, to_true = (ndimage.distance_transform_edt(~mask) for mask in (drawn_mask, true))
    found = sum(to_drawn[tuple(region.coords.T)].min() <= reach + 1e-6 for region in large)
    false = sum(to_true[tuple(region.coords.T)].min() > reach + 1e-6 for region in drawn)
    assert counts == {"lesions": len(large), "found": found, "missed": len(large) - found, "false": false}


def test_voxels_that_touch_in_a_corner_are_one_lesion():
    mask = block((slice(4, 6),) * 3, (slice(6, 8),) * 3)
    assert lesions(mask, 4.0)[1] == 1
    assert lesions(block((slice(4, 6),) * 3, (slice(7, 9),) * 3), 4.0)[1] == 2
    assert lesions(np.zeros(SHAPE, bool), 4.0)[1] == 0
