"""The midline plane of made brains is known, and so is what is planted there."""

import numpy as np
import pytest

from lab.evaluation.midline import midline_figures, midline_plane, midline_slab
from lab.io.case_file import BRAIN, TUMOUR

SHAPE = (80, 96, 80)
X, Y, Z = np.indices(SHAPE)


def brain(a: float = 39.0, b: float = 0.0, c: float = 0.0) -> np.ndarray:
    """An ellipsoid whose halves meet in x = a + b y + c z."""
    across = (X - (a + b * Y + c * Z)) / 32
    return across**2 + ((Y - 47) / 42) ** 2 + ((Z - 39) / 34) ** 2 < 1


@pytest.mark.parametrize("plane", [(39, 0, 0), (41.5, 0, 0), (36, 0.05, 0), (42, -0.03, 0.04)])
def test_the_plane_of_a_symmetric_brain_is_found(plane):
    a, b, c = midline_plane(brain(*plane))
    assert (b, c) == pytest.approx(plane[1:], abs=0.003)
    assert a + b * 47 + c * 39 == pytest.approx(plane[0] + plane[1] * 47 + plane[2] * 39, abs=0.1)


def test_a_missing_piece_of_a_hemisphere_does_not_move_it():
    whole = brain(38, 0.02, 0)
    cut = whole & ~((X > 55) & (Y > 40) & (Y < 65) & (Z > 40))
    assert midline_plane(cut) == pytest.approx(midline_plane(whole), abs=0.3)
    where = [plane[0] + plane[1] * 47 + plane[2] * 39 for plane in map(midline_plane, (whole, cut))]
    assert where[1] == pytest.approx(where[0], abs=0.3)


@pytest.mark.parametrize(("spacing", "planes"), [(2.0, 5), (4.0, 3), (8.0, 1)])
def test_the_slab_reaches_four_millimetres_to_both_sides(spacing, planes):
    slab = midline_slab(brain(39), spacing)
    assert np.unique(np.nonzero(slab)[0]).tolist() == list(range(39 - planes // 2, 40 + planes // 2))
    assert not (slab & ~brain(39)).any()


def test_no_brain_has_no_midline():
    assert np.isnan(midline_plane(np.zeros(SHAPE, bool))).all()
    assert not midline_slab(np.zeros(SHAPE, bool), 2.0).any()


def figures(true: list, predicted: list, tumour: np.ndarray | None = None) -> tuple[float, float, float]:
    """Millilitres at 2 mm with contrast planted in blocks of a symmetric brain."""
    whole = brain(39)
    t1 = np.where(whole, 0.0, -1.0).astype(np.float32)
    images = []
    for blocks in (true, predicted):
        image = t1.copy()
        for part in blocks:
            image[part] += 0.5
        images.append(image)
    flags = whole * np.uint8(BRAIN) | (0 if tumour is None else (tumour & whole) * np.uint8(TUMOUR))
    slab = midline_slab(whole, 2.0)
    found = midline_figures(images[1], t1, images[0], flags, slab, spacing_mm=2.0, threshold=0.3)
    assert list(found) == ["midline_ml_true", "midline_ml_predicted", "midline_ml_false"]
    return tuple(found.values())


FISSURE = (slice(39, 40), slice(40, 50), slice(30, 40))  # 100 voxels, 0.8 ml


def test_true_predicted_and_false():
    assert figures([FISSURE], [FISSURE]) == pytest.approx((0.8, 0.8, 0))
    assert figures([FISSURE], []) == pytest.approx((0.8, 0, 0))
    assert figures([], [FISSURE]) == pytest.approx((0, 0.8, 0.8))
    assert figures([], []) == (0, 0, 0)


def test_a_voxel_beside_the_true_one_is_not_false_two_are():
    beside = (slice(40, 41), *FISSURE[1:])
    assert figures([FISSURE], [beside]) == pytest.approx((0.8, 0.8, 0))
    two = (slice(41, 42), *FISSURE[1:])
    assert figures([FISSURE], [two]) == pytest.approx((0.8, 0.8, 0.8))
    outside = (slice(42, 43), *FISSURE[1:])  # true enhancement just off the slab excuses what is at its edge
    assert figures([outside], [two]) == pytest.approx((0, 0.8, 0))


def test_only_the_slab_counts():
    assert figures([(slice(50, 60), *FISSURE[1:])], [(slice(20, 30), *FISSURE[1:])]) == (0, 0, 0)


def test_the_tumour_s_surroundings_do_not_count():
    tumour = np.zeros(SHAPE, bool)
    tumour[30:60, 40:45, 30:40] = True  # half of the fissure, and one voxel more round it
    assert figures([FISSURE], [FISSURE], tumour) == pytest.approx((0.8 * 0.4, 0.8 * 0.4, 0))
