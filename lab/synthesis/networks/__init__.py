"""Registry of networks by name, with what the rest of the lab needs to know of each, and their construction.

A network is an `nn.Module` that takes (B, C, X, Y, Z) in [-1, 1] of any size and gives (B, 1, X, Y, Z) in (-1, 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.config import network_key
from lab.synthesis import Registry

if TYPE_CHECKING:
    from torch import nn

BACKGROUND = -1.0
"""Value of inputs and images outside the brain."""
LEFT_RIGHT = 2
"""Axis of (B, C, X, Y, Z) that runs from left to right."""
Span = tuple[int, int]
"""Voxels [first, last) along an axis."""


def _none(_: Any) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Settings, construction and requirements of a network. Fields that are None are measured on the network itself."""

    settings: type
    """Frozen dataclass; each field is a flag, `--segresnet.init-filters`."""
    build: Callable[[Any, int], nn.Module]
    """Settings and number of input channels -> network; weights are drawn from torch's global generator."""
    width: str
    """The setting that scales the number of filters."""
    divisor: Callable[[Any], int]
    """Settings -> the multiple to which the network pads every edge."""
    reads_volume: Callable[[Any], str] = _none
    """Settings -> why a voxel depends on the whole volume (such as instance normalisation), "" where it does not. Such
    a network runs in overlapping, blended tiles where the volume does not fit into memory; the result is not exact."""
    receptive_field: Callable[[Any, Span], Span] | None = None
    """Network and voxels of the image along an axis -> voxels of the input that they depend on."""
    bytes_needed: Callable[[Any, tuple[int, ...]], float] | None = None
    """Network and grid -> peak memory of a pass in float32."""


@dataclass(frozen=True)
class Origin:
    """Name and settings of a built network; `build_network` stores it on the module as `origin`."""

    name: str
    settings: Any
    channels: int
    coding: Any = None
    """The `Coding` of its clinical covariates, see `lab.synthesis.networks.film`; None without any."""

    @property
    def spec(self) -> NetworkSpec:
        """The spec from the registry."""
        return NETWORKS[self.name]

    def record(self) -> dict[str, Any]:
        """The record that a package stores."""
        record = {**dataclasses.asdict(self.settings), "id": self.name}
        return record if self.coding is None else record | {"clinical": self.coding.as_dict()}


PAPER, MONAI = "lab.synthesis.networks.paper", "lab.synthesis.networks.monai_networks"
NETWORKS: Registry[NetworkSpec] = Registry(
    "network",
    {
        "model-0": f"{PAPER}:MODEL_0",
        "model-1": f"{PAPER}:MODEL_1",
        "model-2": f"{PAPER}:MODEL_2",
        "model-3": f"{PAPER}:MODEL_3",
        "model-4": f"{PAPER}:MODEL_4",
        "segresnet": f"{MONAI}:SEGRESNET",
        "dynunet": f"{MONAI}:DYNUNET",
        "attention-unet": f"{MONAI}:ATTENTION_UNET",
        "swin-unetr": f"{MONAI}:SWIN_UNETR",
        "place-unet": "lab.synthesis.networks.place_unet:PLACE_UNET",
        "residual-flow": "lab.synthesis.networks.residual_flow:RESIDUAL_FLOW",
    },
)


def build_network(name: str, settings: Any, channels: int, *, seed: int = 0) -> Any:
    """The network called `name` with fresh weights, which depend on `seed` alone.

    Raises ValueError for an unknown name or invalid settings.
    """
    import torch

    spec = NETWORKS.find(name)
    if channels < 1:
        raise ValueError(f"{channels} inputs: at least 1 is needed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = spec.build(settings, channels)
    network.origin = Origin(name, settings, channels)
    return network


def build_from_record(record: dict[str, Any], channels: int) -> Any:
    """The network of `Origin.record`, including records of version 0.4.0 and earlier.

    Raises ValueError for a network or a setting that this version does not have.
    """
    kept = dict(record)
    name, clinical = network_key(kept.pop("id")), kept.pop("clinical", None)
    kind = NETWORKS.find(name).settings
    if unknown := set(kept) - {item.name for item in dataclasses.fields(kind)}:
        raise ValueError(f"{name} has no setting {', '.join(sorted(unknown))}: another version of the lab wrote it")
    network = build_network(name, kind(**kept), channels)
    if clinical is not None:
        from lab.synthesis.networks.film import Coding, modulate  # few networks need it

        modulate(network, Coding.read(clinical))
    return network


@contextmanager
def given(
    network: Any, patients: Callable[[], Sequence[Mapping[str, Any]]], *, training: bool = False
) -> Iterator[None]:
    """Within it the network knows the covariates of its batch's patients, if it takes any; else they are unknown.

    In `training` some are dropped at random.
    """
    film = getattr(network, "film", None)
    if film is None:
        yield
        return
    film.tell(patients(), training=training)
    try:
        yield
    finally:
        film.tell(None)


def clinical_inputs(networks: Iterable[Any]) -> list[str]:
    """Clinical covariates that any of the networks takes."""
    films = [network.film for network in networks if hasattr(network, "film")]
    return [*dict.fromkeys(name for film in films for name in film.coding.names)]


def warn_of_unknown(networks: Iterable[Any], patient: Mapping[str, Any]) -> list[str]:
    """A warning of covariates that a network takes and that are unknown for a patient; none where all are known."""
    films = [network.film for network in networks if hasattr(network, "film")]
    unknown = dict.fromkeys(name for film in films for name in film.coding.unknown(patient))
    what = "which the model takes: unknown for this patient, or a value that no training patient had"
    how = "(give it with --clinical TABLE, in a request with clinical)"
    return [f"predicted without {', '.join(unknown)}, {what} {how}"] if unknown else []


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def parameters_of(name: str, settings: Any, channels: int) -> int:
    """`count_parameters` without allocating the network's memory; raises as `build_network`."""
    import torch

    with torch.device("meta"):
        return count_parameters(build_network(name, settings, channels))


def match_parameters(name: str, settings: Any, channels: int, target: int) -> tuple[Any, int]:
    """The settings with the width that comes nearest to `target` parameters, and the number of parameters."""
    width = NETWORKS.find(name).width
    best: tuple[Any, int] | None = None
    for candidate in range(1, 1024):
        wider = dataclasses.replace(settings, **{width: candidate})
        try:
            count = parameters_of(name, wider, channels)
        except ValueError:  # a width that this network does not have
            continue
        if best is None or abs(count - target) < abs(best[1] - target):
            best = wider, count
        if count > target:
            break
    assert best is not None
    return best
