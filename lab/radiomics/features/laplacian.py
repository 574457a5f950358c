"""Laplacian of Gaussian inside a box, equal to ITK's of the whole image within rounding, at a fraction of its cost.

The filter is separable: one pass an axis. The margin is only needed along the axes that have not been filtered yet, so
each pass is followed by a cut. Order and precision of the passes are those of ITK's LaplacianRecursiveGaussian.
"""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from lab.radiomics.features.boxes import crop, grow

MARGIN_SIGMA = 12.0
"""A recursive Gaussian has an infinite tail. What the cut leaves out, in 32nds of the range of values: 1e-2 with 6
sigma, 1e-4 with 8, 1e-6 with 12. At 8 a voxel in 100,000 changes its grey level, which the size of a zone can show.
"""


def laplacian_of_gaussian(image: sitk.Image, sigma_mm: float, box: np.ndarray) -> sitk.Image:
    """The scale-normalised Laplacian of Gaussian of a 3D image inside `box`."""
    spacing_mm = np.array(image.GetSpacing())
    outer = grow(box, np.ceil(MARGIN_SIGMA * sigma_mm / spacing_mm).astype(int), np.array(image.GetSize()), wraps=False)
    region, inner = crop(image, outer), box - outer[0]
    terms = []
    for second in range(3):
        term = region
        for axis in (second, *(other for other in range(3) if other != second)):
            term = sitk.RecursiveGaussian(term, sigma_mm, True, 2 if axis == second else 0, axis)
            cut = np.array([np.zeros(3, int), term.GetSize()])
            cut[:, axis] = inner[:, axis]
            term = crop(term, cut)
        terms.append(term / float(spacing_mm[second] ** 2))
    return terms[0] + terms[1] + terms[2]


def fits(image: sitk.Image, sigma_mm: float) -> bool:
    """Whether pyradiomics would filter the image: four voxels an axis, and more than a sigma."""
    return all(
        size >= max(4, math.ceil(sigma_mm / spacing) + 1) for size, spacing in zip(image.GetSize(), image.GetSpacing())
    )
