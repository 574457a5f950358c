"""Settings of a network and of its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import tyro

alias = tyro.conf.arg
Covariate = Literal["age", "sex", "grade", "idh", "codeletion"]
COVARIATES: tuple[Any, ...] = get_args(Covariate)
"""Clinical values of a patient that a network can take."""


def network_key(name: str | int) -> str:
    """Registry key of a network: 3, the form that versions up to 0.4.0 stored, becomes `model-3`."""
    return f"model-{name}" if str(name).isdigit() else str(name)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network, and the settings of the paper's five networks."""

    id: str = "model-0"
    """A key of `lab.synthesis.networks.NETWORKS`, as `model-0` (or 0); `--model.id NAME --help` lists its flags."""
    width: int = 64
    """Filters of the first level (64 in the paper)."""
    depth: int = 5
    """Number of halvings (5 in the paper)."""
    norm: Literal["batch", "instance", "group"] = "batch"
    """Normalisation after a convolution."""
    dropout: float = 0.5
    """Dropout on the deepest up-sampling blocks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", network_key(self.id))


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The training loss."""

    name: str = "L1_brain"
    """A key of `lab.synthesis.losses.LOSSES`."""
    mix_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Weights of L1, SSIM and L1_enhancement in the loss `mix`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training of a network."""

    method: Annotated[str, alias(aliases=("--method",))] = "supervised"
    """A key of `lab.synthesis.methods.METHODS`; `--method adversarial --help` lists the settings of that one."""
    start_from: str | None = None
    """Weights to start from: id of a finished run, `models:/NAME@ALIAS`, or a `.safetensors` file. What matches in name
    and shape is taken; the voxel size may differ, the inputs may not."""
    epochs: Annotated[int, alias(aliases=("--epochs",))] = 300
    """Maximum number of passes over the training patients."""
    patience: int = 20
    """Stop after this many epochs without a better validation loss."""
    batch_size: int = 1
    """Patients per step."""
    learning_rate: float = 2e-4
    """Step size of Adam."""
    betas: tuple[float, float] = (0.5, 0.99)
    """Decay rates of Adam's two moments."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 turns clipping off."""
    flip: Literal["both", "random", "none"] = "both"
    """Left-right flip: every patient both ways in each epoch (the paper), one way at random, or never."""
    patients: int | None = None
    """Train on this many of the training patients, a random part in which fewer are part of more; by default on all."""
    patch_mm: float | None = None
    """Edge of the training cube around the tumour's centre of mass; by default the whole volume."""
    patch_sampling: Literal["auto", "centre", "random"] = "auto"
    """Centre of a training cube: the tumour's (the paper), or a voxel at random; `auto` follows the method."""
    patch_shares: tuple[float, float, float] = (0.30, 0.52, 0.18)
    """Shares of random cubes centred on a voxel that enhances, another voxel of the tumour, and one elsewhere in the
    brain."""
    patches_per_patient: int = 1
    """Training cubes of a patient in each epoch."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; `auto` is bfloat16 on a GPU that has it and float32 elsewhere."""
    channels_last: bool = True
    """Memory format of images and weights; faster on GPU and CPU for nearly every network."""
    compile: bool = False
    """Compile the network with `torch.compile`."""
    device: str = "auto"
    """`auto` takes a GPU where there is one."""
    seed: Annotated[int, alias(aliases=("--seed",))] = 0
    """Seed of initial weights, order of patients, flips and dropout."""


@dataclass(frozen=True, kw_only=True)
class ClinicalConfig:
    """Clinical covariates as further inputs of the network, by feature-wise modulation (FiLM)."""

    use: tuple[Covariate, ...] = ()
    """Covariates that the network takes, as far as they are known; none by default."""
    drop: float = 0.2
    """Probability that a known value is hidden in training, so that the network also learns to do without."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the training images, drawn anew for each patient and epoch; a strength of 0 is off.

    Intensities are in normalised units: images lie in [-1, 1], 0 is the brain's mean and 0.25 its standard deviation.
    """

    use: Literal["auto", "on", "off"] = "auto"
    """Whether to change the images; `auto` follows the method: off for `supervised` and `adversarial`, as in
    the paper."""
    rotation_degrees: float = 15.0
    """Largest rotation about each of the three axes."""
    scale: float = 0.15
    """Largest change of size: between 1 / 1.15 and 1.15 times."""
    shift_mm: float = 0.0
    """Largest shift along each axis (mm), for volumes that are centred on the tumour."""
    elastic_mm: float = 2.0
    """Elastic deformation: largest standard deviation of the displacement (mm)."""
    gain: float = 0.25
    """Contrast of each input: between 1 / 1.25 and 1.25 times."""
    offset: float = 0.1
    """Largest brightness added to each input."""
    gamma: float = 0.2
    """Gamma of each input about the brain's mean: between 1 / 1.2 and 1.2."""
    bias: float = 0.1
    """Smooth bias field of each input: largest standard deviation of its logarithm."""
    noise: float = 0.05
    """Gaussian noise of each input: largest standard deviation."""
    blur_mm: float = 1.0
    """Gaussian blur of each input: largest standard deviation (mm)."""
    missing: float = 0.1
    """Probability that one input, never the T1, is missing: background everywhere."""
