"""Features on a crop against plain pyradiomics on the whole image, and against its published baselines."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy import ndimage

from lab.radiomics.features.boxes import crop, label_box, laplacian_of_gaussian
from lab.radiomics.features.image_features import LOG_TOLERANCE, extract, load_extractor, to_images

BASELINES = Path(__file__).parents[4] / "shared" / "conformance" / "pyradiomics"
REAL = Path(__file__).parents[4] / "shared" / "cases" / "brats2020-cubes" / "CUBE-0001"
CLASSES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
PARAMETERS = {
    "setting": {"binCount": 16, "additionalInfo": False},
    "imageType": {"Original": {}, "LoG": {"sigma": [1.0, 1.5]}, "Wavelet": {}, "Square": {}},
    "featureClass": dict.fromkeys(CLASSES),
}


def volume(centre, shape=(57, 52, 50), spacing=(1.0, 1.0, 1.3)) -> tuple[sitk.Image, sitk.Image]:
    """Smooth noise, and an ellipsoid of some 700 voxels."""
    rng = np.random.default_rng(3)
    image = ndimage.gaussian_filter(rng.normal(size=shape), 1).astype(np.float32)
    distance = np.linalg.norm((np.indices(shape).T - centre) / (5.2, 6.1, 5.4), axis=-1).T
    images = to_images(image, distance < 1, 1.0)
    for one in images:
        one.SetSpacing(spacing)
    return images


def worst(found: dict[str, float], expected: dict[str, float], kind: str) -> float:
    """Largest relative difference among the features of a kind of image."""
    names = [name for name in expected if name.startswith(kind)]
    assert names, kind
    return max(abs(found[name] - float(expected[name])) / max(abs(float(expected[name])), 1e-12) for name in names)


@pytest.mark.parametrize("centre", [(28, 26, 25), (3, 26, 48)], ids=["inside", "at two faces"])
def test_equal_to_plain_pyradiomics_on_the_whole_image(centre):
    image, mask = volume(centre)
    extractor = RadiomicsFeatureExtractor(PARAMETERS)
    expected = extractor.execute(image, mask)
    found = extract(image, mask, extractor)
    assert list(found) == list(expected)
    assert len(found) == 14 + 12 * 93
    for kind in ("original", "wavelet", "square"):
        assert worst(found, expected, kind) == 0, kind
    assert worst(found, expected, "log-sigma") < LOG_TOLERANCE


@pytest.mark.skipif(not REAL.is_dir(), reason="no real cases here (../shared/cases)")
def test_equal_to_plain_pyradiomics_on_a_real_tumour():
    image, mask = (sitk.ReadImage(str(REAL / f"{REAL.name}-{what}.nii.gz")) for what in ("t2f", "seg"))
    image, mask, extractor = sitk.Cast(image, sitk.sitkFloat32), mask > 0, load_extractor()
    expected, found = extractor.execute(image, mask), extract(image, mask, extractor)
    for kind in ("original", "wavelet"):
        assert worst(found, expected, kind) == 0, kind
    assert worst(found, expected, "log-sigma") < LOG_TOLERANCE


def test_a_shorter_filter_would_not_do(monkeypatch):
    """So that the tolerance above means something."""
    monkeypatch.setattr("lab.radiomics.features.boxes.NEGLIGIBLE", 1e-2)
    image, mask = volume((28, 26, 25))
    extractor = RadiomicsFeatureExtractor({**PARAMETERS, "imageType": {"LoG": {"sigma": [1.5]}}})
    assert worst(extract(image, mask, extractor), extractor.execute(image, mask), "log-sigma") > LOG_TOLERANCE


@pytest.mark.parametrize("kind", [sitk.sitkInt16, sitk.sitkFloat32, sitk.sitkFloat64])
def test_laplacian_of_gaussian_is_that_of_itk(kind):
    image, mask = volume((28, 26, 25))
    image = sitk.Cast(1000 * image, kind)
    box = label_box(mask, 1)
    expected = crop(sitk.LaplacianRecursiveGaussian(image, 1.5, True), box)
    found = laplacian_of_gaussian(image, 1.5, box)
    assert found.GetSize() == expected.GetSize() == tuple(box[1] - box[0])
    assert found.GetOrigin() == pytest.approx(expected.GetOrigin())
    images = [sitk.GetArrayFromImage(one) for one in (found, expected)]
    assert np.abs(images[0] - images[1]).max() < 1e-6 * np.ptp(images[1])


def test_an_image_too_thin_for_a_filter_is_treated_as_pyradiomics_does():
    image, mask = (one[:, :, 24:27] for one in volume((28, 26, 25)))
    extractor = RadiomicsFeatureExtractor({**PARAMETERS, "imageType": {"Original": {}, "LoG": {"sigma": [1.0]}}})
    found = extract(image, mask, extractor)
    assert list(found) == list(extractor.execute(image, mask))
    assert not any("log-sigma" in name for name in found)


def baselines() -> list[tuple[str, str]]:
    """Feature class and test case of every baseline for the brain image."""
    pairs = []
    for name in CLASSES:
        path = BASELINES / "baseline" / f"baseline_{name}.csv"
        if path.is_file():
            pairs += [(name, case) for case in pd.read_csv(path, nrows=0) if case.startswith("brain1")]
    return pairs or [("glcm", "brain1")]


@pytest.mark.parametrize(("feature_class", "case"), baselines())
def test_baselines_of_pyradiomics(feature_class, case):
    """Its own tests allow 3 %. Its mesh has changed since two of them were written: 0.1 % on the surface."""
    if not (BASELINES / "brain1_image.nrrd").is_file():
        pytest.skip("the baselines of pyradiomics are not here")
    table = pd.read_csv(BASELINES / "baseline" / f"baseline_{feature_class}.csv", index_col=0)[case]
    settings = ast.literal_eval(table["diagnostics_Configuration_Settings"])
    extractor = RadiomicsFeatureExtractor(**settings)
    extractor.disableAllFeatures()
    extractor.enableFeatureClassByName(feature_class)
    image, mask = (sitk.ReadImage(str(BASELINES / f"brain1_{what}.nrrd")) for what in ("image", "label"))
    found = extract(image, mask, extractor)
    expected = {name: float(value) for name, value in table.items() if name.startswith("original_")}
    assert set(expected) <= set(found)
    assert len(expected) >= 5
    tolerance = 1e-3 if feature_class == "shape" else 1e-6
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=tolerance, abs=1e-9)
    plain = extractor.execute(image, mask)
    assert found == {name: float(value) for name, value in plain.items() if name.startswith("original_")}


def test_our_parameters_give_the_promised_features():
    found = extract(*volume((28, 26, 25)), load_extractor())
    assert len(found) == 14 + 12 * 93
    assert {name.split("_")[1] for name in found} == set(CLASSES)
    assert np.isfinite(list(found.values())).all()


def test_our_textures_do_not_depend_on_the_unit_of_intensity():
    """What a fixed number of grey levels is for; first-order features do depend on it."""
    image, mask = volume((28, 26, 25))
    extractor = load_extractor()
    extractor.enabledImagetypes = {"Original": {}}
    once, twice = (extract(factor * image, mask, extractor) for factor in (1.0, 2.0))
    for name in once:
        if "glcm" in name or "glszm" in name:
            assert once[name] == twice[name], name
    assert twice["original_firstorder_Mean"] == pytest.approx(2 * once["original_firstorder_Mean"])


def test_axes_and_spacing_of_arrays():
    mask = np.zeros((9, 10, 11), bool)
    mask[2:8, 4:7, 5:7] = True
    found = extract(*to_images(mask, mask, 2.0), load_extractor(), intensity=False)
    assert found["original_shape_VoxelVolume"] == 6 * 3 * 2 * 8
    assert {name.split("_")[1] for name in found} == {"shape"}
    image, _ = to_images(np.arange(990).reshape(9, 10, 11), mask, 2.0)
    assert image.GetPixel(8, 2, 4) == 8 * 110 + 2 * 11 + 4


@pytest.mark.parametrize("width", [1e-5, 1e-9, float("nan")])
def test_bins_that_are_too_narrow_are_refused_before_memory_is(width, tmp_path):
    image, mask = volume((28, 26, 25))
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text(f"setting: {{binWidth: {str(width).replace('nan', '.nan')}}}\nfeatureClass: {{glcm: }}\n")
    with pytest.raises(
        ValueError, match=r"original image: values from -.* in bins of width .* at most 1000 are possible"
    ):
        extract(image, mask, load_extractor(narrow), shape=False)


def test_a_filter_may_have_bins_of_its_own_and_counts_are_limited_too(tmp_path):
    image, mask = volume((28, 26, 25))
    file = tmp_path / "own.yaml"
    file.write_text(
        "imageType: {Original: {binWidth: 0.1}, Square: {binWidth: 0.00001}}\nfeatureClass: {firstorder: }\n"
    )
    with pytest.raises(ValueError, match="square image: values"):
        extract(image, mask, load_extractor(file), shape=False)
    for text in ("setting: {binCount: 50000}", "imageType: {Original: {binCount: 50000}}"):
        file.write_text(f"{text}\nfeatureClass: {{glcm: }}\n")
        with pytest.raises(ValueError, match=r"own.yaml: binCount is 50000, at most 1000 grey levels"):
            load_extractor(file)


def test_clear_refusals(tmp_path):
    image, mask = volume((28, 26, 25))
    with pytest.raises(ValueError, match="the tumour mask is empty"):
        extract(image, 0 * mask, load_extractor())
    moved = sitk.Image(mask)
    moved.SetOrigin((0, 0, 5))
    with pytest.raises(ValueError, match="another grid than the image \\(origin"):
        extract(image, moved, load_extractor())
    with pytest.raises(ValueError, match=r"another grid than the image \(size"):
        extract(image, mask[:-1, :, :], load_extractor())
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("setting:\n  binCount: many\n")
    with pytest.raises(ValueError, match=r"wrong.yaml: not a parameter file of pyradiomics"):
        load_extractor(wrong)
    wrong.write_text("- [")
    with pytest.raises(ValueError, match=r"wrong.yaml"):
        load_extractor(wrong)
    with pytest.raises(OSError, match=r"absent.yaml"):
        load_extractor(tmp_path / "absent.yaml")
