"""Maps of features: equal to pyradiomics' own voxel-based extraction and, for the mean, to a mean by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from radiomics.featureextractor import RadiomicsFeatureExtractor

from lab.data.cohort import TUMOUR
from lab.radiomics.features.feature_maps import FeatureName, extremes, feature_plane, maps_of_top, parse_feature
from lab.radiomics.features.image_features import load_extractor, to_images

SPACING_MM = 4.0
CONTRAST = "T2_wavelet-LLH_glcm_Contrast"


@pytest.fixture(scope="module")
def lump() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y, z = np.indices((40, 38, 36)) - np.array([20, 19, 18]).reshape(3, 1, 1, 1)
    return rng.standard_normal((40, 38, 36)).astype(np.float32), x**2 + y**2 + 2 * z**2 < 30


def test_a_map_of_the_mean_is_the_mean_of_the_neighbours_inside(lump):
    volume, tumour = lump
    name = FeatureName("T1", "original", "firstorder", "Mean")
    found = feature_plane(volume, tumour, 18, name, load_extractor(), SPACING_MM)
    assert np.array_equal(np.isfinite(found), tumour[:, :, 18])
    for x, y in ((20, 19), (15, 19), (22, 22)):
        cube = (slice(x - 1, x + 2), slice(y - 1, y + 2), slice(17, 20))
        assert found[x, y] == pytest.approx(volume[cube][tumour[cube]].mean(), abs=1e-5)


@pytest.mark.parametrize(
    "feature",
    ["original_glcm_Contrast", "wavelet-LLH_glszm_ZoneEntropy", "log-sigma-3-0-mm-3D_firstorder_90Percentile"],
)
def test_a_map_is_that_of_pyradiomics_on_the_whole_image(lump, feature):
    volume, tumour = lump
    name = parse_feature(f"T1_{feature}")
    found = feature_plane(volume, tumour, 17, name, load_extractor(), SPACING_MM)
    theirs = RadiomicsFeatureExtractor(binCount=32, kernelRadius=1, maskedKernel=True, initValue=np.nan)
    theirs.disableAllFeatures()
    theirs.enableFeaturesByName(**{name.family: [name.feature]})
    theirs.disableAllImageTypes()
    image_type = {"original": "Original", "wavelet": "Wavelet", "log": "LoG"}[feature.split("_")[0].split("-")[0]]
    theirs.enableImageTypeByName(image_type, customArgs={"sigma": [3.0]} if image_type == "LoG" else None)
    result = theirs.execute(*to_images(volume, tumour, SPACING_MM), voxelBased=True)[feature]
    corner = [round(at / SPACING_MM) for at in result.GetOrigin()]
    for x, y in ((20, 19), (16, 19), (22, 20)):
        expected = result.GetPixel(x - corner[0], y - corner[1], 17 - corner[2])
        assert found[x, y] == pytest.approx(expected, rel=1e-4)


def test_maps_of_a_cohort(tiny_cohort):
    cases = list(tiny_cohort.index.index)
    features = pd.DataFrame(
        {CONTRAST: np.arange(len(cases), dtype=float), "MASK_original_shape_Sphericity": 1.0}, index=cases
    )
    labels = tiny_cohort.index["enhancing"].astype(int)
    rows = maps_of_top(tiny_cohort, features, labels, list(features))
    assert [one.role for one in rows[0]] == ["lowest", "median", "highest"]
    for one in rows[0]:
        _, mask = tiny_cohort.load(one.case_id)
        tumour = (mask & TUMOUR) > 0
        assert one.sequence == "T2"
        assert np.array_equal(one.tumour, tumour[:, :, one.z])
        assert one.tumour.sum() == tumour.sum(axis=(0, 1)).max()
        assert np.array_equal(np.isfinite(one.values), one.tumour)
        assert one.value == features.loc[one.case_id, CONTRAST]
    assert all(one.values is None and one.sequence == "FLAIR" for one in rows[1])


def test_extremes():
    values = pd.Series([3.0, 1.0, 2.0, np.nan, 9.0], index=list("abcde"))
    assert extremes(values) == {"lowest": "b", "median": "c", "highest": "e"}
    for few in (values[:1], values[:2]):
        assert max(Counter(extremes(few).values()).values()) == 1


def test_names_of_features():
    assert parse_feature(CONTRAST) == ("T2", "wavelet-LLH", "glcm", "Contrast")
    assert parse_feature("MASK_original_shape_Sphericity").is_shape
    with pytest.raises(ValueError, match="no name of a feature"):
        parse_feature("T2 contrast")


def test_mistakes_are_named(tiny_cohort, lump):
    table = pd.DataFrame({"T2_original_glcm_Contrast": [1.0]}, index=[tiny_cohort.index.index[0]])
    with pytest.raises(ValueError, match="there is no feature 'T2_x' among the 1"):
        maps_of_top(tiny_cohort, table, pd.Series(dtype=int), ["T2_x"])
    for name, why in (("T1_square_glcm_Contrast", "no image type 'square'"), ("T1_original_glcm_X", "glcm X")):
        with pytest.raises(ValueError, match=why):
            feature_plane(*lump, 18, parse_feature(name), load_extractor(), SPACING_MM)
