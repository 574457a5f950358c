"""MR signal equations: from proton density, relaxation times and contrast agent to voxel intensities.

Every function works elementwise on scalars or arrays, in float32, and in the units of the field: milliseconds,
millimoles per litre (mM), tesla. Proton density is relative to water (0..1), and so is the signal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Signal = NDArray[np.float32]

R1_RELAXIVITY = 4.5  # longitudinal relaxivity of a gadolinium chelate in tissue, 1/(s mM), 1.5 T (Rohrer et al. 2005)
R2_RELAXIVITY = 5.5  # transverse relaxivity, 1/(s mM) (Rohrer et al. 2005)


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """Relaxation times (ms) and relative proton density of one tissue."""

    t1_ms: float
    t2_ms: float
    pd: float


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Timing of one acquisition (ms); with `ti_ms` it is an inversion recovery, without it a spin echo."""

    tr_ms: float
    te_ms: float
    ti_ms: float | None = None


TISSUES = {  # values at 1.5 T
    "white": Tissue(t1_ms=650, t2_ms=78, pd=0.70),
    "grey": Tissue(t1_ms=1000, t2_ms=96, pd=0.82),
    "csf": Tissue(t1_ms=4000, t2_ms=1800, pd=1.00),
    "oedema": Tissue(t1_ms=1250, t2_ms=160, pd=0.90),
    "tumour": Tissue(t1_ms=1450, t2_ms=150, pd=0.92),
    "necrosis": Tissue(t1_ms=2400, t2_ms=400, pd=0.98),
    "blood": Tissue(t1_ms=1440, t2_ms=200, pd=0.85),
    "dura": Tissue(t1_ms=1000, t2_ms=40, pd=0.40),
    "bone": Tissue(t1_ms=600, t2_ms=12, pd=0.12),
    "marrow": Tissue(t1_ms=350, t2_ms=60, pd=0.55),
    "fat": Tissue(t1_ms=260, t2_ms=85, pd=0.90),
    "muscle": Tissue(t1_ms=900, t2_ms=45, pd=0.75),
}


def _exp(x: ArrayLike) -> Signal:
    return np.exp(np.asarray(x, dtype=np.float32))


def spin_echo(pd: ArrayLike, t1_ms: ArrayLike, t2_ms: ArrayLike, *, tr_ms: float, te_ms: float) -> Signal:
    """Spin echo: S = PD (1 - exp(-TR/T1)) exp(-TE/T2), for TE much shorter than TR (Haacke et al. 1999, ch. 8)."""
    t1, t2 = np.asarray(t1_ms, dtype=np.float32), np.asarray(t2_ms, dtype=np.float32)
    return np.asarray(pd, dtype=np.float32) * (1 - _exp(-tr_ms / t1)) * _exp(-te_ms / t2)


def inversion_recovery(
    pd: ArrayLike, t1_ms: ArrayLike, t2_ms: ArrayLike, *, tr_ms: float, te_ms: float, ti_ms: float
) -> Signal:
    """S = PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2); FLAIR at fluid's null point (Hajnal et al. 1992)."""
    t1, t2 = np.asarray(t1_ms, dtype=np.float32), np.asarray(t2_ms, dtype=np.float32)
    recovered = np.abs(1 - 2 * _exp(-ti_ms / t1) + _exp(-tr_ms / t1))
    return np.asarray(pd, dtype=np.float32) * recovered * _exp(-te_ms / t2)


def null_ti_ms(t1_ms: float, tr_ms: float) -> float:
    """Inversion time that nulls a tissue: TI = T1 ln(2 / (1 + exp(-TR/T1))); T1 ln 2 for long TR."""
    return float(t1_ms * np.log(2.0 / (1.0 + np.exp(-tr_ms / t1_ms))))


def relax_with_gadolinium(t1_ms: ArrayLike, t2_ms: ArrayLike, concentration_mm: ArrayLike) -> tuple[Signal, Signal]:
    """T1 and T2 (ms) with contrast agent: 1/T = 1/T0 + r C, r1 and r2 in 1/(s mM), C in mM (fast exchange)."""
    per_ms = np.asarray(concentration_mm, dtype=np.float32) / np.float32(1000)
    t1, t2 = np.asarray(t1_ms, dtype=np.float32), np.asarray(t2_ms, dtype=np.float32)
    return t1 / (1 + t1 * (R1_RELAXIVITY * per_ms)), t2 / (1 + t2 * (R2_RELAXIVITY * per_ms))


def at_field(tissue: Tissue, field_t: float) -> Tissue:
    """The tissue at another field: T1 (but of fluid) grows with its cube root (Bottomley et al. 1984), T2 stays."""
    if tissue.t1_ms > 3000:
        return tissue
    return Tissue(t1_ms=tissue.t1_ms * (field_t / 1.5) ** (1 / 3), t2_ms=tissue.t2_ms, pd=tissue.pd)


def signal(
    sequence: Sequence, pd: ArrayLike, t1_ms: ArrayLike, t2_ms: ArrayLike, concentration_mm: ArrayLike = 0.0
) -> Signal:
    """Signal of one tissue, or of one per voxel, in a sequence, with `concentration_mm` of gadolinium."""
    if np.any(concentration_mm):
        t1_ms, t2_ms = relax_with_gadolinium(t1_ms, t2_ms, concentration_mm)
    if sequence.ti_ms is None:
        return spin_echo(pd, t1_ms, t2_ms, tr_ms=sequence.tr_ms, te_ms=sequence.te_ms)
    return inversion_recovery(pd, t1_ms, t2_ms, tr_ms=sequence.tr_ms, te_ms=sequence.te_ms, ti_ms=sequence.ti_ms)


def rician_noise(values: Signal, sigma: float, rng: np.random.Generator) -> Signal:
    """Magnitude of a signal with Gaussian noise `sigma` in both channels (Gudbjartsson & Patz 1995).

    Without signal it is Rayleigh noise of mean sigma sqrt(pi/2); far above the noise it is Gaussian.
    """
    real = rng.standard_normal(values.shape, dtype=np.float32) * np.float32(sigma) + values
    imaginary = rng.standard_normal(values.shape, dtype=np.float32) * np.float32(sigma)
    return np.hypot(real, imaginary)
