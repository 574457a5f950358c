"""Training that starts from the weights of another network: what matches in name and shape is taken.

The networks are convolutional, so the voxel size may differ; the inputs may not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lab.io.files import canonical

SHOWN = 3
"""Names of tensors in a sentence."""
FILM = "film."
"""Names of tensors that clinical covariates need; their meaning depends on the training patients."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights to start from."""

    source: str
    """As the user named it: a run's id, `models:/name@alias`, a file."""
    id: str
    """What it was at that moment: "sct1 version 3, run 1a2b3c4d", or the file."""
    sha256: str
    """Hash of the weight file."""
    tensors: Mapping[str, Tensor] = field(repr=False)
    known: Mapping[str, Any] = field(default_factory=dict)
    """The network's record (`model`) and its contract; empty for a file that comes without them."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a network took over."""

    tensors: int
    all_tensors: int
    parameters: int
    all_parameters: int
    left: tuple[str, ...]
    """The network's tensors that keep their fresh values."""

    def __str__(self) -> str:
        named = [name for name in self.left if not name.startswith(FILM)]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        fresh = f"; not taken: {', '.join(named[:SHOWN])}{more}" if named else ""
        fresh += "; the effect of clinical covariates starts at zero" if len(named) < len(self.left) else ""
        return (
            f"{self.tensors} of {self.all_tensors} tensors, {self.parameters:,} of {self.all_parameters:,} parameters"
            f"{fresh}"
        )


def check_inputs(start: Start, inputs: Sequence[str]) -> None:
    """Raises ValueError where the weights were trained on other inputs, or on the same in another order."""
    trained = start.known.get("inputs")
    if trained is not None and [*map(canonical, trained)] != [*map(canonical, inputs)]:
        raise ValueError(
            f"--train.start-from {start.source}: its network takes {', '.join(trained)}, this one "
            f"{', '.join(inputs)}; the inputs must be the same in number and order (--data.inputs)"
        )


def take_over(network: nn.Module, start: Start) -> Taken:
    """Copy the tensors that match in name and shape into a network from `build_network`, except those of covariates.

    Raises ValueError where no kernel matches.
    """
    own = network.state_dict()
    theirs = {name: tensor for name, tensor in start.tensors.items() if not name.startswith(FILM)}
    taken = [name for name, tensor in own.items() if getattr(theirs.get(name), "shape", None) == tensor.shape]
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    if not any(name in sizes and own[name].dim() > 1 for name in taken):  # a lone bias is no start
        origin: Any = network.origin
        raise ValueError(
            f"--train.start-from {start.source}: no kernel of {describe(start.known.get('model'))} fits "
            f"{describe(origin.record())} in name and shape; choose the same network (--model.id, --model.width)"
        )
    with torch.no_grad():
        for name in taken:
            own[name].copy_(start.tensors[name])  # shares memory with the network
    return Taken(
        tensors=len(taken),
        all_tensors=len(own),
        parameters=sum(sizes.get(name, 0) for name in taken),
        all_parameters=sum(sizes.values()),
        left=tuple(name for name in own if name not in taken),
    )


def describe(record: Mapping[str, Any] | None) -> str:
    """A network's record in words: "model-0 (width 64, depth 5, norm batch, dropout 0.5)"."""
    if record is None:
        return "an unknown network"
    settings = ", ".join(f"{name} {value}" for name, value in record.items() if name not in ("id", "clinical"))
    return f"{record['id']} ({settings})"
