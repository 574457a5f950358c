"""Radiomic features of one image inside one mask: pyradiomics on a crop around the tumour instead of the whole image.

Each filter gets its margin: none for the original image, the filter length for the wavelet, what the Laplacian of
Gaussian (LoG) reaches. The features equal those of the whole image, exactly for original and wavelet, within
`LOG_TOLERANCE` for LoG. Half of the time is pyradiomics' own C code for the textures (bench/features.py).

van Griethuysen et al., Cancer Res 2017 (pyradiomics); Zwanenburg et al., Radiology 2020 (IBSI).
"""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pywt
import SimpleITK as sitk
from pykwalify.errors import PyKwalifyException

# The installed package, not the repository's folder of the same name (see tests/test_imports.py).
from radiomics.featureextractor import RadiomicsFeatureExtractor, getFeatureClasses, imageoperations
from ruamel.yaml import YAMLError

from lab.radiomics.features.boxes import crop, fits, grow, label_box, laplacian_of_gaussian

PARAMETERS = Path(__file__).with_name("features.yaml")
LOG_TOLERANCE = 1e-3
"""Largest relative difference of a LoG feature. The filtered values differ in the last digit of float32; where one of
them lies on the edge of two grey levels, its voxel changes the level and with it the textures of a small tumour."""
MOST_LEVELS = 1000
"""Most grey levels of textures: IBSI advises 16 to 128, 1,400 took 287 s, and 14,000 do not fit into memory."""
WHOLE = 1 << 30  # a margin that covers every image


def load_extractor(parameters: Path = PARAMETERS) -> RadiomicsFeatureExtractor:
    """pyradiomics with a parameter file. Raises ValueError or OSError for an unreadable one or too many grey levels."""
    _hush()
    try:
        extractor = RadiomicsFeatureExtractor(str(parameters))
    except (PyKwalifyException, YAMLError) as error:
        reason = " ".join(str(getattr(error, "msg", error)).split())
        raise ValueError(f"{parameters}: not a parameter file of pyradiomics ({reason})") from None
    for own in (extractor.settings, *extractor.enabledImagetypes.values()):
        count = (own or {}).get("binCount") or 0
        if count > MOST_LEVELS:
            raise ValueError(f"{parameters}: binCount is {count}, at most {MOST_LEVELS} grey levels are possible")
    return extractor


def extract(
    image: sitk.Image,
    mask: sitk.Image,
    extractor: RadiomicsFeatureExtractor,
    *,
    shape: bool = True,
    intensity: bool = True,
) -> dict[str, float]:
    """Features by pyradiomics' names, equal to those of `extractor.execute(image, mask)` on the whole image.

    The tumour is where `mask` has the label of the settings (1). `shape` selects the shape features, `intensity` all
    others. A feature that pyradiomics cannot compute is NaN. Raises ValueError if image and mask lie on different
    grids, if the mask is empty or too small, or if narrow bins make too many grey levels.
    """
    _hush()
    settings = {**extractor.settings, "preCrop": False, "correctMask": False}
    _check_grids(image, mask)
    if settings.get("normalize") or settings.get("resampledPixelSpacing"):
        image, mask = extractor.loadImage(image, mask, None, **settings)
    box = label_box(mask, settings["label"])
    inside, tumour = crop(image, box), sitk.Cast(crop(mask, box), sitk.sitkUInt32)
    bounds, _ = imageoperations.checkMask(inside, tumour, **settings)
    shape_mask = tumour
    if settings.get("resegmentRange") is not None:
        tumour = imageoperations.resegmentMask(inside, tumour, **settings)
        bounds, _ = imageoperations.checkMask(inside, tumour, **settings)
        shape_mask = tumour if settings.get("resegmentShape") else shape_mask
    found: dict[str, Any] = {}
    if shape:
        found |= extractor.computeShape(inside, shape_mask, bounds, **settings)
    if intensity:
        for filtered, name, arguments in _filtered(image, mask, box, extractor.enabledImagetypes, settings):
            part, region = imageoperations.cropToTumorMask(filtered, tumour, bounds)
            _check_levels(name, part, region, arguments)
            found |= _compute(part, region, name, extractor.enabledFeatures, arguments)
    return {name: float(value) for name, value in found.items()}


def measure_files(image: Path, mask: Path, extractor: RadiomicsFeatureExtractor) -> dict[str, float]:
    """Features of an image file inside a mask file on the same grid, by pyradiomics' names.

    The tumour is all of the mask above 0, or the label of the settings where that is not 1. Raises ValueError that
    names the file which cannot be read or used.
    """
    scans = []
    for path in (image, mask):
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        try:
            scans.append(sitk.ReadImage(str(path)))
        except RuntimeError as error:
            raise ValueError(f"{path}: no image that can be read ({str(error).strip().splitlines()[-1]})") from None
    if extractor.settings.get("label", 1) == 1:
        scans[1] = sitk.Cast(scans[1] > 0, sitk.sitkUInt8)
    try:
        return extract(sitk.Cast(scans[0], sitk.sitkFloat32), scans[1], extractor)
    except ValueError as error:
        raise ValueError(f"{image} and {mask}: {error}") from None


def to_images(values: np.ndarray, mask: np.ndarray, spacing_mm: float) -> tuple[sitk.Image, sitk.Image]:
    """An image (X, Y, Z) as float32 and a mask (X, Y, Z) of 0 and 1, with cubic voxels, for `extract`."""
    images = sitk.GetImageFromArray(np.asarray(values, np.float32).T), sitk.GetImageFromArray(mask.astype(np.uint8).T)
    for one in images:
        one.SetSpacing((spacing_mm,) * 3)
    return images


def _filtered(
    image: sitk.Image, mask: sitk.Image, box: np.ndarray, image_types: dict[str, Any], settings: dict[str, Any]
) -> Iterator[tuple[sitk.Image, str, dict[str, Any]]]:
    """Every filtered image inside `box`, its name and its settings, as pyradiomics' generators yield them."""
    for image_type, own in image_types.items():
        arguments = {**settings, **(own or {})}
        if image_type == "LoG":
            for sigma_mm in arguments.get("sigma", []):
                if fits(image, sigma_mm):
                    name = f"log-sigma-{str(sigma_mm).replace('.', '-')}-mm-3D"
                    yield laplacian_of_gaussian(image, sigma_mm, box), name, arguments
            continue
        outer = grow(box, _margin(image_type, arguments), np.array(image.GetSize()), wraps=True)
        generate = getattr(imageoperations, f"get{image_type}Image")
        for filtered, name, used in generate(crop(image, outer), crop(mask, outer), **arguments):
            yield crop(filtered, box - outer[0]), name, used


def _compute(
    image: sitk.Image, mask: sitk.Image, name: str, enabled: dict[str, list[str] | None], settings: dict[str, Any]
) -> dict[str, Any]:
    """All features but those of the shape, as pyradiomics' `computeFeatures`, with the grey levels found only once."""
    found: dict[str, Any] = {}
    classes, grey_levels = getFeatureClasses(), dict[str, Any]()
    for family in (one for one in enabled if one in classes and not one.startswith("shape")):
        worker = _sharing(classes[family])(image, mask, **settings, grey_levels=grey_levels)
        for feature in enabled[family] or ():
            worker.enableFeatureByName(feature)
        found |= {f"{name}_{family}_{feature}": value for feature, value in worker.execute().items()}
    return found


@cache
def _sharing(family: Any) -> Any:
    """A feature class of pyradiomics that takes the grey levels from its settings, where the first one puts them."""

    def apply_binning(self: Any, matrix: np.ndarray) -> np.ndarray:
        levels = self.settings["grey_levels"]
        if not levels:
            levels |= {"matrix": family._applyBinning(self, matrix), "coefficients": dict(self.coefficients)}
        self.coefficients |= levels["coefficients"]
        return levels["matrix"]

    names = cache(family.getFeatureNames)
    return type(
        family.__name__,
        (family,),
        {"__module__": family.__module__, "_applyBinning": apply_binning, "getFeatureNames": staticmethod(names)},
    )


def _margin(image_type: str, arguments: dict[str, Any]) -> np.ndarray:
    """Voxels (x, y, z) that a filter needs around the tumour."""
    if image_type == "Original":
        return np.zeros(3, int)
    if image_type == "Wavelet":
        levels = arguments.get("start_level", 0) + arguments.get("level", 1)
        return np.full(3, pywt.Wavelet(arguments.get("wavelet", "coif1")).dec_len * levels)
    return np.full(3, WHOLE)  # the other filters scale by the whole image's maximum


def _check_levels(name: str, image: sitk.Image, mask: sitk.Image, settings: dict[str, Any]) -> None:
    """Raises ValueError if bins of fixed width make more than `MOST_LEVELS` grey levels inside the mask."""
    if settings.get("binCount") is not None:
        return
    width = settings.get("binWidth", 25)
    inside = sitk.GetArrayViewFromImage(image)[sitk.GetArrayViewFromImage(mask) == settings["label"]]
    low, high = float(inside.min()), float(inside.max())
    levels = (high - low) / width + 1
    if not levels <= MOST_LEVELS:
        raise ValueError(
            f"{name} image: values from {low:.4g} to {high:.4g} in bins of width {width:g} make {levels:,.0f} grey "
            f"levels, at most {MOST_LEVELS} are possible; set a wider binWidth, or a binCount such as 32"
        )


def _check_grids(image: sitk.Image, mask: sitk.Image) -> None:
    for what in ("Size", "Spacing", "Origin", "Direction"):
        found, expected = (getattr(one, f"Get{what}")() for one in (mask, image))
        if len(found) != len(expected) or not np.allclose(found, expected, rtol=0, atol=1e-4):
            raise ValueError(f"the mask lies on another grid than the image ({what.lower()} {found}, not {expected})")


def _hush() -> None:
    """Silence pyradiomics' warnings about symmetrical matrices and its tracebacks for features that become NaN."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    logging.getLogger("pykwalify").setLevel(logging.CRITICAL)
