"""Random changes of training batches, on their device: one geometry for images and masks, intensities of inputs alone.

Every draw is a function of the batch's `seeds`, one for each case, so a killed run that resumes sees the same images.
Background stays exactly -1 and is never mixed into the brain: interpolation and blur weight each sequence's own voxels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.config import AugmentConfig
from lab.data.batches import BACKGROUND, Batch

ELASTIC_MM = 32.0
"""Shortest half wave of the elastic deformation: below a displacement of some 10 mm it cannot fold."""
BIAS_WAVES = 3
"""Half waves of the bias field along each axis, from 0."""

Shape = tuple[int, int, int]


def check_augment(settings: AugmentConfig) -> None:
    """Raises ValueError for a strength that makes no sense."""
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        flag = f"--augment.{item.name.replace('_', '-')} {value}"
        if item.name != "use" and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{flag}: 0 (off) or more is needed")
        if item.name == "missing" and value > 1:
            raise ValueError(f"{flag} is a probability: at most 1 is possible")


def is_geometric(settings: AugmentConfig) -> bool:
    """Whether any change moves voxels."""
    return max(settings.rotation_degrees, settings.scale, settings.shift_mm, settings.elastic_mm) > 0


def margin_of(settings: AugmentConfig, edge: int, spacing_mm: float) -> int:
    """Voxels to read beyond each side of a cube of `edge` voxels, so that a rotation finds tissue at its corners."""
    angle = math.radians(min(settings.rotation_degrees, 45.0))
    reach = (1 + settings.scale) * (math.cos(angle) + math.sin(angle)) - 1
    return math.ceil(edge / 2 * reach + (settings.shift_mm + settings.elastic_mm) / spacing_mm)


@dataclass(frozen=True)
class Draws:
    """The random changes of one case."""

    matrix: np.ndarray  # (3, 3): offset from the centre in the new image -> offset in the old one
    shift: np.ndarray  # (3,) voxels
    elastic: np.ndarray  # (3, I, J, K) cosine coefficients of the displacement in voxels
    gamma: np.ndarray  # (C,) as the next ones
    gain: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    blur: np.ndarray  # voxels
    bias: np.ndarray  # (C, I, J, K) cosine coefficients of the logarithm
    noise_seed: int
    missing: int | None  # input


def draw(
    settings: AugmentConfig, seed: Sequence[int], *, channels: int, shape: Shape, spacing_mm: float, t1: int | None
) -> Draws:
    """The changes of a case: a pure function of the arguments.

    All numbers are drawn whatever is off, so that one strength does not change what the others do.
    """
    generator = np.random.default_rng(seed)
    angles, shift = generator.uniform(-1, 1, (2, 3))
    scale, elastic = generator.uniform(-1, 1, 2)
    gamma, gain, offset = generator.uniform(-1, 1, (3, channels))
    noise, blur, bias = generator.uniform(0, 1, (3, channels))
    lost, which, noise_seed = generator.random(), generator.random(), int(generator.integers(2**62))
    waves = [max(2, 1 + round(size * spacing_mm / ELASTIC_MM)) for size in shape]
    others = [channel for channel in range(channels) if channel != t1]
    return Draws(
        matrix=rotation(np.radians(settings.rotation_degrees) * angles) / (1 + settings.scale) ** scale,
        shift=settings.shift_mm / spacing_mm * shift,
        elastic=cosines(generator, 3, waves) * abs(elastic) * settings.elastic_mm / spacing_mm,
        gamma=(1 + settings.gamma) ** gamma,
        gain=(1 + settings.gain) ** gain,
        offset=settings.offset * offset,
        noise=settings.noise * noise,
        blur=settings.blur_mm / spacing_mm * blur,
        bias=cosines(generator, channels, [BIAS_WAVES] * 3) * (settings.bias * bias)[:, None, None, None],
        noise_seed=noise_seed,
        missing=others[int(which * len(others))] if others and lost < settings.missing else None,
    )


def rotation(angles: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) of rotations about the first, second and third axis, in this order (radians)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def cosines(generator: np.random.Generator, fields: int, waves: Sequence[int]) -> np.ndarray:
    """Coefficients (fields, I, J, K) of random smooth fields with mean 0 and, on average, standard deviation 1."""
    coefficients = generator.standard_normal((fields, *waves))
    coefficients[:, 0, 0, 0] = 0
    power = np.prod(np.meshgrid(*([1.0] + [0.5] * (n - 1) for n in waves), indexing="ij"), axis=0)
    return coefficients / np.sqrt(power.sum() - 1)


def field(coefficients: Tensor, shape: Shape) -> Tensor:
    """Smooth fields (B, F, X, Y, Z) from cosine coefficients (B, F, I, J, K)."""
    for size, waves in zip(shape, coefficients.shape[2:]):  # each turn moves one axis from the front to the back
        phase = torch.arange(size, device=coefficients.device) + 0.5
        basis = torch.cos(math.pi / size * phase[None] * torch.arange(waves, device=phase.device)[:, None])
        coefficients = torch.tensordot(coefficients, basis, dims=([2], [0]))
    return coefficients


def augment(
    batch: Batch, settings: AugmentConfig, *, spacing_mm: float, shape: Shape | None = None, t1: int | None = None
) -> Batch:
    """A changed copy of a batch with `seeds`; `shape` cuts it to its centre.

    Inputs, target and masks move together; only the inputs' intensities change, each sequence by itself. `t1` is the
    input that is never missing.
    """
    inputs, target, masks = batch.inputs, batch.target, batch.masks
    whole: Shape = tuple(inputs.shape[2:])  # type: ignore[assignment]
    shape = whole if shape is None else shape
    draws = [
        draw(settings, seed, channels=inputs.shape[1], shape=shape, spacing_mm=spacing_mm, t1=t1)
        for seed in batch.seeds
    ]
    assert len(draws) == len(inputs), "a batch needs a seed for each case to be augmented"
    if is_geometric(settings) or shape != whole:
        images, masks = resample(torch.cat([inputs, target], 1), masks, positions(draws, shape, whole, inputs.device))
        inputs, target = images[:, :-1], images[:, -1:]
    plain = None if t1 is None else inputs[:, t1 : t1 + 1]
    changed = change_intensities(inputs, draws, settings)
    return dataclasses.replace(batch, inputs=changed, target=target, masks=masks, t1=plain)


def positions(draws: Sequence[Draws], shape: Shape, whole: Shape, device: torch.device) -> Tensor:
    """Where each voxel of the new images lies in the old ones: voxel indices (B, 3, X, Y, Z)."""
    axes = [torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2 for size in shape]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (3, X, Y, Z)
    matrix, shift, elastic = (
        _stack([getattr(d, name) for d in draws], device) for name in ("matrix", "shift", "elastic")
    )
    centre = torch.tensor([(size - 1) / 2 for size in whole], device=device)
    at = torch.matmul(matrix, offsets.flatten(1)) + (shift + centre)[:, :, None]
    return at.unflatten(2, shape) + field(elastic, shape)


def resample(images: Tensor, masks: dict[str, Tensor], at: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Images (B, C, ...) by trilinear interpolation and masks by the nearest voxel, at voxel indices (B, 3, X, Y, Z).

    A channel's background and what lies outside have no weight; a voxel is background where the nearest one is.
    """
    channels = images.shape[1]
    sizes = torch.tensor(images.shape[2:], device=at.device)[:, None, None, None]
    grid = ((2 * at + 1) / sizes - 1).flip(1).movedim(1, -1)  # (B, X, Y, Z, 3), from -1 to 1, last axis first
    known = images > BACKGROUND
    whole = torch.cat([torch.where(known, images, 0.0), known], 1)
    value, share = F.grid_sample(whole, grid, align_corners=False).split(channels, 1)
    flags = [*known.split(1, 1), *masks.values()]
    codes = torch.stack([flag.float() * 2**bit for bit, flag in enumerate(flags)]).sum(0)  # one channel for all
    nearest = F.grid_sample(codes, grid, mode="nearest", align_corners=False).int()
    moved = [(nearest & 2**bit) != 0 for bit in range(len(flags))]
    image = torch.where(torch.cat(moved[:channels], 1), value / share.clamp(min=1e-6), BACKGROUND)
    return image, dict(zip(masks, moved[channels:]))


def change_intensities(inputs: Tensor, draws: Sequence[Draws], settings: AugmentConfig) -> Tensor:
    """Inputs (B, C, X, Y, Z) in [-1, 1] with changed intensities; background stays -1.

    Of x = -1 for black and 0 for the brain's mean, (1 + x)^gamma exp(bias) - 1 keeps black, and gamma keeps the mean.
    """
    known, device = inputs > BACKGROUND, inputs.device

    def each(name: str) -> Tensor:
        """A number of each input as (B, C, 1, 1, 1)."""
        return _stack([getattr(d, name) for d in draws], device)[:, :, None, None, None]

    x = inputs
    if settings.blur_mm:
        x = blur(x, known, each("blur"))
    if settings.gamma or settings.bias:
        level = torch.log((1 + x).clamp(min=1e-6)) * each("gamma")
        if settings.bias:
            level += field(_stack([d.bias for d in draws], device), inputs.shape[2:])  # type: ignore[arg-type]
        x = torch.exp(level) - 1
    if settings.gain or settings.offset:
        x = x * each("gain") + each("offset")
    if settings.noise:
        generator = torch.Generator(device)
        noise = [torch.randn(x.shape[1:], generator=generator.manual_seed(d.noise_seed), device=device) for d in draws]
        x = x + torch.stack(noise) * each("noise")
    x = torch.where(known, x.clamp(BACKGROUND, 1), BACKGROUND)
    for case, d in enumerate(draws):
        if d.missing is not None:
            x[case, d.missing] = BACKGROUND
    return x


def blur(x: Tensor, known: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each input over its own known voxels; `sigma` (B, C, 1, 1, 1) in voxels."""
    total, share = torch.where(known, x, 0.0), known.float()
    for size in x.shape[2:]:  # each turn moves one axis from the front to the back
        place = torch.arange(size, device=x.device)
        distance = (place[:, None] - place) / sigma.flatten(3).clamp(min=1e-3)
        kernel = torch.exp(-0.5 * distance**2)  # (B, C, S, S): a matrix for each axis costs less than a convolution
        kernel = kernel * (distance.abs() < 4)  # denormal numbers are slow
        kernel = kernel / kernel.sum(-1, keepdim=True)
        total, share = (
            torch.matmul(kernel, part.flatten(3)).unflatten(3, part.shape[3:]).movedim(2, -1) for part in (total, share)
        )
    return torch.where(known, total / share.clamp(min=1e-6), x)


def _stack(values: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(values)).to(device, torch.float32)
