"""Normalisation of a network's inputs on top of the prepared z-scores, against differences between scanners.

The T1 keeps its z-scores: its target shares their scale, and enhancement is the difference of the two. The other inputs
are mapped case by case, whole volume by whole volume, when a network reads them; prepared cases stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from lab.data.subject_scans import REFERENCE
from lab.io.files import canonical

if TYPE_CHECKING:
    from lab.data.cohort import Cohort

BACKGROUND = -1.0
PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
"""Landmarks of a histogram."""
STRIPE = 0.05
"""Half of the white stripe: the share of the T1's voxels on each side of white matter's peak."""
STRIPE_SDS = 8.0
"""Standard deviations of the white stripe that become 1; oedema and fluid lie up to 7 above white matter."""
BINS, SMOOTHING = 200, 6.0
"""Bins of the T1's histogram from -1 to 1, and the standard deviation of its smoothing in bins."""
LEAST_PEAK = 0.3
"""Height of white matter's peak, in that of the highest; lower ones are vessels and noise."""


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """A map of each input but the T1."""

    method: str
    """`white-stripe` or `histogram`."""
    landmarks: Mapping[str, tuple[float, ...]]
    """Input -> its standard scale, the mean z-score of training patients at each of `PERCENTILES`; `()` without one."""

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> Normalisation:
        """The inverse of `as_dict`. Raises ValueError for what this version does not know."""
        try:
            landmarks = {str(name): tuple(map(float, scale)) for name, scale in known["landmarks"].items()}
            found = cls(method=str(known["method"]), landmarks=landmarks)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"the model does not say how its inputs were normalised ({error!r})") from None
        size = {"white-stripe": 0, "histogram": len(PERCENTILES)}.get(found.method)
        if any(len(scale) != size for scale in landmarks.values()):
            raise ValueError(f"the model's inputs were normalised by {found.method}, in a form this version lacks")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "landmarks": {name: list(scale) for name, scale in self.landmarks.items()}}

    def apply(self, image: np.ndarray, sequences: Sequence[str]) -> np.ndarray:
        """A mapped copy of a prepared image (C, X, Y, Z) of whole volumes; values lie in [-1, 1], background stays -1.

        Raises ValueError where the T1, which the white stripe needs, is not among the sequences.
        """
        names = [canonical(name) for name in sequences]
        mapped = np.array(image)
        stripe = None
        if self.method == "white-stripe":
            if REFERENCE not in names:
                raise ValueError("a white stripe is found in the T1, which is missing")
            stripe = white_stripe(image[names.index(REFERENCE)].astype(np.float32))
        for channel, name in zip(mapped, names):
            seen = channel > BACKGROUND
            if name not in self.landmarks or not seen.any():
                continue
            values = channel[seen].astype(np.float32)
            if stripe is None:
                values = to_standard_scale(values, self.landmarks[name])
            elif (inside := channel[seen & stripe].astype(np.float32)).size:
                values = (values - inside.mean()) / (STRIPE_SDS * max(float(inside.std()), 1e-3))
            channel[seen] = values.clip(BACKGROUND, 1)
        return mapped


def white_stripe(t1: np.ndarray) -> np.ndarray:
    """Voxels (X, Y, Z) bool of normal-appearing white matter: `STRIPE` round the T1's brightest peak.

    The stripe of the T1 serves all sequences (Shinohara et al. 2014, NeuroImage: Clinical 6:9).
    """
    seen = t1 > BACKGROUND
    values = t1[seen]
    if not values.size:
        return seen
    counts, edges = np.histogram(values, BINS, (-1, 1))
    smooth = gaussian_filter1d(counts.astype(float), SMOOTHING, mode="constant")
    beside = np.pad(smooth, 1)
    peaks = np.flatnonzero((smooth >= beside[:-2]) & (smooth > beside[2:]) & (smooth >= LEAST_PEAK * smooth.max()))
    rank = (values < (edges[peaks[-1]] + edges[peaks[-1] + 1]) / 2).mean()
    low, high = np.quantile(values, [max(0.0, rank - STRIPE), min(1.0, rank + STRIPE)])
    return seen & (t1 >= low) & (t1 <= high)


def to_standard_scale(values: np.ndarray, scale: Sequence[float]) -> np.ndarray:
    """Values (N,) mapped so that their `PERCENTILES` become `scale`: linear between, and on beyond the outer two.

    After Nyúl and Udupa (2000, IEEE TMI 19:143).
    """
    own, standard = np.percentile(values, PERCENTILES), np.asarray(scale)
    slopes = np.diff(standard) / np.diff(own).clip(min=1e-6)
    below, above = (values - own[0]).clip(max=0), (values - own[-1]).clip(min=0)
    return np.interp(values, own, standard) + below * slopes[0] + above * slopes[-1]


def fit_normalisation(method: str, cohort: Cohort, cases: Sequence[str], inputs: Sequence[str]) -> Normalisation:
    """The normalisation by `method` for these inputs; landmarks are those of `cases`, the training cases.

    Raises ValueError where the T1 is the only input.
    """
    names = [canonical(name) for name in inputs if canonical(name) != REFERENCE]
    if not names:
        raise ValueError(f"--data.normalise {method} maps the inputs other than T1, and there is none; leave it out")
    if method != "histogram":
        return Normalisation(method=method, landmarks=dict.fromkeys(names, ()))
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for case in cases:
        image, _ = cohort.load(case)
        for name in names:
            values = np.asarray(image[cohort.channel(name)], np.float32)
            if (values > BACKGROUND).any():
                found[name].append(np.percentile(values[values > BACKGROUND], PERCENTILES))
    means = {name: np.mean(landmarks, axis=0) for name, landmarks in found.items()}
    return Normalisation(method=method, landmarks={name: tuple(mean.tolist()) for name, mean in means.items()})


def normalised(cohort: Cohort, method: str, cases: Sequence[str], inputs: Sequence[str]) -> Cohort:
    """The cohort as a network reads it, see `fit_normalisation`; the same for `zscore`."""
    return (
        cohort
        if method == "zscore"
        else replace(cohort, normalisation=fit_normalisation(method, cohort, cases, inputs))
    )
