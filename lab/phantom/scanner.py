"""Simulated acquisition: protocol, signal, coil sensitivity, blur, misregistration and noise."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lab.phantom import physics
from lab.phantom.anatomy import HEAD_MARGIN_MM, Head
from lab.phantom.fields import Index, Volume, random_field
from lab.phantom.lesion import Lesion
from lab.phantom.physics import TISSUES, Sequence, Tissue

SCANNERS = {  # nominal repetition and echo time (ms) by vendor; sites vary around them
    "Siemens": {"T1": (550, 12), "T2": (4500, 100), "FLAIR": (9000, 110)},
    "Philips": {"T1": (520, 14), "T2": (4100, 95), "FLAIR": (8500, 115)},
    "GE": {"T1": (600, 11), "T2": (4900, 104), "FLAIR": (9500, 120)},
}
_FLOW_VOID = {"T1": 0.75, "T2": 0.3, "FLAIR": 0.3, "T1GD": 0.75}  # signal of flowing blood without contrast agent
LEAK_SHARE = {"tumour": 1.0, "oedema": 0.12, "necrosis": 0.1}  # concentration relative to the solid tumour's
_CHUNK = 1 << 16  # voxels per chunk, which limits memory traffic
_SHELLS_MM = (0.0, 0.8, 2.0, 3.0, 5.0, 7.0, 8.0, 11.5, 13.0)
_SHELLS = ("csf", "dura", "dura", "bone", "marrow", "bone", "fat", "fat", None)


def draw_protocol(rng: np.random.Generator, vendor: str) -> dict[str, Sequence]:
    """Timing of the four scans; the post-contrast T1 is repeated with nearly, not exactly, the same settings."""
    protocol = {}
    for name, (tr, te) in SCANNERS[vendor].items():
        tr_ms, te_ms = tr * float(rng.uniform(0.88, 1.14)), te * float(rng.uniform(0.9, 1.1))
        ti_ms = None
        if name == "FLAIR":  # the operator sets it a little off the null point of fluid
            ti_ms = physics.null_ti_ms(TISSUES["csf"].t1_ms, tr_ms) * float(rng.uniform(0.97, 1.04))
        protocol[name] = Sequence(tr_ms=tr_ms, te_ms=te_ms, ti_ms=ti_ms)
    same = protocol["T1"]
    other = float(np.exp(rng.normal(0, 0.24)))
    return protocol | {"T1GD": dataclasses.replace(same, tr_ms=same.tr_ms * other)}


def _signal_of(sequence: Sequence, tissue: Tissue, concentration_mm: float = 0.0) -> np.float32:
    return np.float32(physics.signal(sequence, tissue.pd, tissue.t1_ms, tissue.t2_ms, concentration_mm))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Properties shared by all four scans of a patient."""

    head: Head
    brain: Volume  # fractions of healthy tissue and blood in the voxels `head.brain`, (tissue, N)
    tumour: Lesion
    tissues: dict[str, Tissue]
    dose_mm: float  # contrast agent in blood (mM)
    shell: Index  # flat indices of the voxels in skull and scalp
    shell_depth_mm: Volume  # distance of these voxels from the brain, scaled to the bone thickness of `_SHELLS_MM`
    all: Index  # flat indices of the voxels in brain, skull and scalp
    coils: tuple[Volume, Volume]  # smooth fields in the voxels `all`, which make up each scan's coil sensitivity
    sigma: float  # noise in units of relative signal


def create_sample(rng: np.random.Generator, head: Head, tumour: Lesion, field_t: float) -> Sample:
    """Draw the properties shared by the four scans: tissue values, dose, bones, coils, noise level."""
    tissues = {}
    for name, t in TISSUES.items():
        own = dataclasses.replace(t, t1_ms=t.t1_ms * rng.uniform(0.95, 1.05), t2_ms=t.t2_ms * rng.uniform(0.95, 1.05))
        tissues[name] = physics.at_field(own, field_t)
    flat = head.depth_mm.reshape(-1)
    everything = np.flatnonzero(flat > -HEAD_MARGIN_MM)
    shell = everything[flat[everything] <= 0]
    bone = 1 + 0.12 * np.clip(random_field(rng, 40.0).at(head.grid, shell), -2, 2)
    return Sample(
        head=head,
        brain=np.stack([volume.reshape(-1)[head.brain] for volume in head.fractions.values()]),
        tumour=tumour,
        tissues=tissues,
        dose_mm=float(rng.uniform(0.5, 1.3)),
        shell=shell,
        shell_depth_mm=-flat[shell] / bone,
        all=everything,
        coils=(random_field(rng, 72.0).at(head.grid, everything), random_field(rng, 72.0).at(head.grid, everything)),
        # Resampled scans have correlated noise: it falls more slowly than the root of the volume.
        sigma=float(rng.uniform(0.009, 0.02)) * (1.5 / field_t) ** 0.5 / head.grid.spacing_mm**0.75,
    )


def simulate_scan(sample: Sample, name: str, sequence: Sequence) -> Volume:
    """Noise-free signal of the whole head; voxels of several tissues add their signals (partial volume)."""
    head, tissues, tumour = sample.head, sample.tissues, sample.tumour
    dose = sample.dose_mm if name == "T1GD" else 0.0
    level = {tissue: _signal_of(sequence, tissues[tissue]) for tissue in head.fractions}
    if dose:  # capillaries: 4 % of grey and 2 % of white matter is blood
        enhanced = _signal_of(sequence, tissues["blood"], dose)
        level["grey"] += np.float32(0.04) * (enhanced - level["blood"])
        level["white"] += np.float32(0.02) * (enhanced - level["blood"])
        level["blood"] = enhanced
    level["blood"] *= np.float32(1.0 if dose else _FLOW_VOID[name])
    values = np.zeros(head.grid.shape, dtype=np.float32)
    flat = values.reshape(-1)
    flat[head.brain] = np.array(list(level.values()), dtype=np.float32) @ sample.brain
    leak = tumour.concentration_mm if name == "T1GD" else np.float32(0)
    for tissue, fraction in tumour.fractions.items():
        t = tissues[tissue]
        t1, t2 = (t.t1_ms, t.t2_ms) if tissue == "necrosis" else (t.t1_ms * tumour.t1_scale, t.t2_ms * tumour.t2_scale)
        flat[tumour.index] += fraction * physics.signal(sequence, t.pd, t1, t2, LEAK_SHARE[tissue] * leak)
    doses = {"dura": 0.35 * dose, "fat": 0.02 * dose}
    shells = [0.0 if s is None else float(_signal_of(sequence, tissues[s], doses.get(s, 0.0))) for s in _SHELLS]
    flat[sample.shell] = np.interp(sample.shell_depth_mm, _SHELLS_MM, shells)
    return values


def _shift(values: Volume, shift_mm: NDArray[np.floating], spacing_mm: float) -> None:
    """Shift by less than a voxel, in place, with linear interpolation: residual misregistration."""
    x, y, z = np.minimum(np.abs(shift_mm / spacing_mm), 1).astype(np.float32)
    values = values[tuple(slice(None, None, 1 if shift > 0 else -1) for shift in shift_mm)]
    for i in range(len(values) - 1, 0, -1):  # plane by plane, which stays in the processor's cache
        plane = values[i]
        plane += x * (values[i - 1] - plane)
        plane[1:] += y * (plane[:-1] - plane[1:])
        plane[:, 1:] += z * (plane[:, :-1] - plane[:, 1:])


def acquire(rng: np.random.Generator, sample: Sample, values: Volume, name: str) -> Volume:
    """Apply slice thickness, residual misregistration, coil sensitivity, noise, and the scanner's arbitrary scale."""
    spacing = sample.head.grid.spacing_mm
    thick = float(rng.uniform(1.0, 4.0)) if name in ("T2", "FLAIR") else float(rng.uniform(0.5, 2.2))
    if (size := round(thick / spacing)) > 1:
        values = ndimage.uniform_filter1d(values, size, axis=2)
    if name != "T1":  # the others are registered to it
        _shift(values, rng.normal(0, 0.4, 3), spacing)
    scale = np.float32(np.exp(rng.normal(np.log(600), 0.3)))
    weights = (np.float32(rng.normal(0.07, 0.035)), np.float32(rng.normal(0, 0.05)))
    where = sample.all
    flat, noisy = values.reshape(-1), np.zeros(values.size, dtype=np.float32)
    for start in range(0, where.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        sensitivity = np.exp(weights[0] * sample.coils[0][part] + weights[1] * sample.coils[1][part])
        magnitude = physics.rician_noise(flat[where[part]] * sensitivity, sample.sigma, rng)
        noisy[where[part]] = np.minimum(np.rint(scale * magnitude), 32767)
    return noisy.reshape(values.shape)
