"""User settings of a synthesis and the names of its files. Command-line flags are made from it: import nothing slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SYNTHESIS, UNCERTAINTY, ENHANCEMENT = "synthetic_t1gd.nii.gz", "uncertainty.nii.gz", "enhancement.nii.gz"
INTERVAL, PROBABILITY = "interval_90.nii.gz", "enhancement_probability.nii.gz"
TUMOUR_MASK = "tumour.nii.gz"
WHAT = "SYNTHETIC image, predicted by a network from scans without contrast agent. Research only, not for diagnosis."
PHANTOM_WARNING = (
    "PHANTOM: this model was trained on simulated heads, not on patients; its image means nothing for a patient"
)


@dataclass(frozen=True, kw_only=True)
class How:
    """How patients are synthesized; none of it changes how images are prepared for the model."""

    looks: int = 2
    """Test-time augmentations of each patient, from which the uncertainty comes: none, mirrored, moved by a voxel (1 to
    8); each takes the network's time. The image itself comes from the plain scans. Intervals are calibrated for 1, 2
    and 4."""
    tile: int | None = None
    """Edge of tiles in voxels; by default the whole volume, and tiles only where memory is short."""
    brain_mask: Literal["nonzero", "mni152"] | None = None
    """`nonzero` for skull-stripped scans, `mni152` for scans in MNI152 space; by default as the layout says, and for a
    patient given by paths as in training."""
    tumour: Literal["mask", "auto"] = "mask"
    """Where the tumour of a patient without a mask comes from: `auto` takes the one that the network states, if it does
    (place-and-draw), and writes it as tumour.nii.gz; `mask` counts a given mask alone."""
    calibration: str | None = None
    """A file of `python -m lab calibrate --out`, for an ensemble; a single network has its own in its package."""
    classifier: str | None = None
    """A radiomics classifier, such as models:/will-it-enhance@challenger, whose probability is reported too."""
    strangers: Literal["refuse", "warn"] = "refuse"
    """What to do with scans that are certainly out of distribution (swapped, not stripped, half missing)."""
    export: Literal["dicom"] | None = None
    """`dicom` also writes a derived series into the T1's study, folder `dicom`: secondary capture images that say
    SYNTHETIC. The T1 must be a DICOM series."""
    device: str = "auto"
    """`auto` takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic; `auto` is bfloat16 on a GPU that has it and float32 elsewhere."""
