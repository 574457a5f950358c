"""Duplicate detection: a fingerprint of each prepared head, and pairs of cases that show one head.

A fingerprint holds each input between 3 and 8 mm on a grid of 4 mm: folds and ventricles, not contrast, bias field or
noise. Pairs with similar power spectra are correlated at every shift, plain and mirrored, and compared with the
cohort's usual pair, since heads of one atlas (or phantoms of one template) resemble each other.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from lab.io.case_file import BRAIN, TUMOUR

GRID_MM, FINE_MM, COARSE_MM = 4.0, 3.0, 8.0
LEAST, LEAST_OF_ONE = 0.58, 0.85
"""Similarity from which two cases are one person: over all inputs, or in one input alone (a shared T1). 0 is the usual
pair of the cohort, 1 the same image. Of 378 pairs of different BraTS patients one had 0.51, the next 0.38."""
TRIED, TYPICAL = 100, 20  # most correlated pairs, and pairs for the usual similarity
FEWEST, USUAL = 10, 0.6  # with fewer pairs the usual similarity is taken to be that of phantoms
WAVES_MM = (12.0, 60.0)  # wavelengths of the spectrum that pairs are ranked by
REACH_MM = 32.0  # minimum range of the shifts
UNPACKED = 64  # maximum number of fingerprints that are kept unpacked, a megabyte each

Bands = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two cases that show one head."""

    one: str
    other: str
    similarity: float  # 0 for the usual pair of the cohort, 1 for the same image


def fingerprint_head(image: np.ndarray, mask: np.ndarray, spacing_mm: float) -> str:
    """Fingerprint, as text, of the inputs (C, X, Y, Z) in the brain without the tumour.

    `mask` (X, Y, Z) holds bit flags. The tumour is left out: those of different people lie alike, and one person's
    grows.
    """
    factor = max(1, round(GRID_MM / spacing_mm))
    brain = ((mask & (BRAIN | TUMOUR)) == BRAIN).astype(np.float32)
    share = _block_means(brain, factor)
    fine, coarse = (size / (spacing_mm * factor) for size in (FINE_MM, COARSE_MM))
    bands = []
    for channel in image:
        values = _block_means(channel.astype(np.float32) * brain, factor)
        band = share * (_smooth(values, share, fine) - _smooth(values, share, coarse))
        bands.append(np.round(band * (127 / max(float(np.abs(band).max()), 1e-6))).astype(np.int8))
    packed = zlib.compress(np.array(bands).tobytes(), 6)
    return "x".join(map(str, np.shape(bands))) + ":" + base64.b85encode(packed).decode()


def _smooth(values: Bands, share: Bands, sigma: float) -> Bands:
    """Gaussian mean over the brain around each voxel; outside the volume there is no brain."""
    weights = ndimage.gaussian_filter(share, sigma, mode="constant", truncate=3)
    return ndimage.gaussian_filter(values, sigma, mode="constant", truncate=3) / np.maximum(weights, 0.05)


def _block_means(volume: Bands, factor: int) -> Bands:
    if factor == 1 or min(volume.shape) < factor:
        return volume
    x, y, z = (size // factor for size in volume.shape)
    whole = volume[: x * factor, : y * factor, : z * factor]
    return whole.reshape(x, factor, y, factor, z, factor).mean((1, 3, 5))


def _unpack(text: str) -> Bands:
    """Bands (C, X, Y, Z), each of norm 1."""
    shape, _, packed = text.partition(":")
    size = [int(number) for number in shape.split("x")]
    bands = np.frombuffer(zlib.decompress(base64.b85decode(packed)), np.int8).reshape(size).astype(np.float32)
    norms = np.sqrt((bands**2).sum(axis=(1, 2, 3), keepdims=True))
    return bands / np.maximum(norms, 1e-6)


def find_duplicates(fingerprints: Mapping[str, str], spacing_mm: float) -> list[Pair]:
    """Pairs of cases that show one head, of fingerprints of one recipe by case id, the most similar first."""
    names = sorted(fingerprints)
    if len(names) < 2:
        return []
    unpacked = lru_cache(UNPACKED)(lambda number: _unpack(fingerprints[names[number]]))
    cell_mm = spacing_mm * max(1, round(GRID_MM / spacing_mm))
    ranked, typical = _candidates([_spectrum(unpacked(number), cell_mm) for number in range(len(names))])
    laid = {pair: _correlation(*map(unpacked, pair)) for pair in sorted({*ranked, *typical})}
    usual = np.array([laid[pair] for pair in typical])
    level = np.median(usual, axis=0) if len(typical) >= FEWEST else np.full(usual.shape[1], USUAL)
    found = []
    for one, other in ranked:
        above = (laid[one, other] - level) / np.maximum(1 - level, 0.05)
        if above.mean() >= LEAST or above.max() >= LEAST_OF_ONE:
            found.append(Pair(one=names[one], other=names[other], similarity=round(float(above.mean()), 3)))
    return sorted(found, key=lambda pair: -pair.similarity)


def _candidates(spectra: Sequence[Bands]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """At most `TRIED` pairs with similar spectra, plain or mirrored, and some pairs of every similarity."""
    plain = np.array([spectrum.ravel() for spectrum in spectra])
    mirrored = np.array([spectrum[::-1].ravel() for spectrum in spectra])
    similarity = np.maximum(plain @ plain.T, plain @ mirrored.T)
    rows, columns = np.triu_indices(len(plain), 1)
    order = np.argsort(-similarity[rows, columns], kind="stable")
    values = similarity[rows, columns]
    least = float(np.median(values)) + 0.1 if len(order) >= FEWEST else -1.0
    pairs = [(int(rows[i]), int(columns[i])) for i in order[:TRIED] if values[i] >= least]
    middle = order[np.linspace(0, len(order) - 1, min(TYPICAL, len(order))).astype(int)]
    return pairs, [(int(rows[i]), int(columns[i])) for i in middle]


def _spectrum(bands: Bands, cell_mm: float) -> Bands:
    """Log amplitudes of the waves of `WAVES_MM`, summed over the inputs, each against its wavelength's mean; norm 1."""
    shape = bands.shape[1:]
    most = [min(int(size * cell_mm / WAVES_MM[0]), (size - 1) // 2) for size in shape]
    waves = [np.arange(-most[0], most[0] + 1), np.arange(-most[1], most[1] + 1), np.arange(most[2] + 1)]
    x, y, z = (wave / (size * cell_mm) for wave, size in zip(waves, shape))
    frequency = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2)
    used = (frequency >= 1 / WAVES_MM[1]) & (frequency <= 1 / WAVES_MM[0])
    shell = np.digitize(frequency, np.linspace(1 / WAVES_MM[1], 1 / WAVES_MM[0], 12))
    count = np.maximum(np.bincount(shell[used], minlength=14), 1)
    total = np.zeros(frequency.shape, np.float32)
    for amplitude in np.abs(scipy.fft.rfftn(bands, axes=(1, 2, 3))):
        height = np.log(amplitude[np.ix_(*waves)] + 1e-9)
        mean = np.bincount(shell[used], height[used], minlength=14) / count
        total += used * np.clip(height - mean[shell], -1.5, 1.5)
    return total / max(float(np.linalg.norm(total)), 1e-6)


def _correlation(one: Bands, other: Bands) -> NDArray[np.float64]:
    """Correlation of each input (C,) at the shift, plain or mirrored, with the highest mean."""
    reach = int(REACH_MM / GRID_MM)
    size = [scipy.fft.next_fast_len(length + reach, real=True) for length in one.shape[1:]]
    spectrum = scipy.fft.rfftn(one, size, axes=(1, 2, 3))
    best, place, kept = -np.inf, (0, 0, 0), other
    for turned in (other, other[:, ::-1]):
        product = (spectrum * scipy.fft.rfftn(turned, size, axes=(1, 2, 3)).conj()).sum(axis=0)
        similarity = scipy.fft.irfftn(product, size)
        if similarity.max() > best:
            best, kept = similarity.max(), turned
            place = np.unravel_index(similarity.argmax(), similarity.shape)
    ours, theirs = [slice(None)], [slice(None)]
    for start, padded, length in zip(place, size, one.shape[1:]):
        shift = int(start) if start < length else int(start) - padded
        ours.append(slice(max(shift, 0), length + min(shift, 0)))
        theirs.append(slice(max(-shift, 0), length - max(shift, 0)))
    return (one[tuple(ours)] * kept[tuple(theirs)]).sum(axis=(1, 2, 3), dtype=np.float64)
